"""What happens to containers in their life, and that the agent says so: each number exactly what was done.

Runs on this machine and in the virtual machine, as proof.py; needs only Python's own library."""

import functools
import os
import re
import threading
import time

import families
import proof
from oracles import device
from oracles_host import moment
from proof import compare, host, page, scrape, wait_for

CLASS = {0: "success", 1: "error", 3: "error", 127: "not_started", 137: "signal", 143: "signal"}
MEBI = 1 << 20
FOREVER = "while :; do sleep 100000; done"


def section(function):
    """A part that breaks off is a failure, and the next one goes on."""
    @functools.wraps(function)
    def run(self, *words):
        began = time.monotonic()
        try:
            function(self, *words)
        except Exception as error:
            self.check(f"{self.how}: {function.__name__} could run to its end", False, " | ".join(str(error).split("\n"))[:1000])
        print(f"{self.how}: {function.__name__} took {time.monotonic() - began:.0f} s", flush=True)
    return run


class Life:
    """`control` freezes, thaws and crashes the engine; `data` is a folder of the host on a real disk; `ledger`: whether exits are counted yet."""

    def __init__(self, check, how, agent, engine, control, data, ledger=True):
        self.check, self.how, self.agent, self.engine, self.control, self.data, self.ledger = check, how, agent, engine, control, data, ledger
        self.docker, self.running, self.all, self.kills = engine.docker, [], [], {}
        os.makedirs(data, exist_ok=True)
        number = os.stat(data).st_dev
        self.disk = device(f"{os.major(number)}:{os.minor(number)}")

    # --- helpers --------------------------------------------------------------------------------------------------------

    def scrape(self):
        return scrape(self.agent.base)

    def seen(self, what, condition, patience=None, show=None):
        """That a scrape says it, sooner or later; how much later is told. `show`: what is told of the last scrape otherwise."""
        patience = patience or proof.PATIENCE
        began, last = time.monotonic(), None
        while time.monotonic() - began < patience:
            last = self.scrape()
            if condition(last):
                self.check(f"{self.how}: {what}", True, f"after {time.monotonic() - began:.1f} s")
                return last
            time.sleep(0.2)
        self.check(f"{self.how}: {what}", False, f"not within {patience} s" + (f"; at last: {show(last)}" if show else ""))
        return last

    def equal(self, what, said, wanted):
        self.check(f"{self.how}: {what}", said == wanted, f"{said}" + ("" if said == wanted else f", not {wanted}"))

    def start(self, name, *words, **more):
        container = self.engine.run(name, *words, **more)
        self.running.append(container)
        return container

    def on_disk(self):
        """With the folder at /data. Under v1 the kernel counts, since Linux 6.10, only where there is a limit."""
        limits = ["--device-read-bps", f"{self.disk}:500mb", "--device-write-bps", f"{self.disk}:500mb"]
        return ["-v", f"{self.data}:/data", *(limits if self.engine.place.version == 1 else [])]

    def without_swap(self, mebibytes):
        """So many MiB. Under v1 a limit of both together that is as low is the one that is hit, and the kernel counts no failures of it."""
        return ["--memory", f"{mebibytes}m", *(["--memory-swap", f"{mebibytes}m"] if self.engine.place.version == 2 else [])]

    def remove(self, *containers):
        for container in containers:
            self.engine.call("DELETE", f"/containers/{container.id}?force=1")
            if container in self.running:
                self.running.remove(container)

    def pause(self, container):
        """The runtime gives up when v1's freezer takes long, as it may on a busy machine."""
        for attempt in range(5):
            try:
                return self.engine.call("POST", f"/containers/{container.id}/pause")
            except Exception:
                if attempt == 4:
                    raise
                time.sleep(1)

    def known(self, *containers):
        wait_for("the agent to know " + ", ".join(c.name for c in containers),
                 lambda: (lambda s: all(s.of("container_memory_usage_bytes", c) for c in containers))(self.scrape()))

    def compare(self, what, containers, **more):
        return compare(self.check, f"{self.how}: {what}", self.agent.base, self.engine, containers, **more)

    def exits(self, answer, container):
        return {l.get("code_class"): v for l, v in answer.of("container_exits_total", container) if v}

    def exits_become(self, what, container, wanted):
        if self.ledger:
            self.seen(f"{what}: container_exits_total is {wanted}", lambda s: self.exits(s, container) == wanted,
                      show=lambda s: self.exits(s, container))

    # --- numbers ----------------------------------------------------------------------------------------------------------

    @section
    def numbers(self):
        """Containers of every kind, while they work and while they are paused; exactly what the files say."""
        self.docker("network", "create", "labnet")
        start = self.start
        containers = [
            start("burn", "--memory", "64m", "--memory-reservation", "32m", "--cpus", "0.2", "--cpu-shares", "512", "--pids-limit", "50", "--", "while :; do :; done", steady=True),
            # 16 MB of its own and 8 MB of page cache: more than the slack
            start("idle", "--", "x=$(head -c 16000000 /dev/zero | tr '\\0' x); head -c 8000000 /dev/zero >/tmp/f; " + FOREVER),
            start("disk", *self.on_disk(), "--", "while :; do dd if=/dev/zero of=/data/f bs=64k count=16 conv=fsync; "
                  "dd if=/data/f of=/dev/null bs=64k iflag=direct; sleep 1; done 2>/dev/null", loose=4 * MEBI, forks=2),
            start("full", *self.without_swap(16), "--", "while :; do dd if=/dev/zero of=/tmp/f bs=256k count=120 conv=notrunc; sleep 3; done "
                  "2>/dev/null", loose=16 * MEBI, forks=2),
            start("ping", "--memory", "32m", "--network", "labnet", "--", "exec ping $(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p') >/dev/null"),
            start("share", "--network", "container:ping", "--", FOREVER),
            start("host", "--network", "host", "--", FOREVER),
            start("none", "--network", "none", "--health-cmd", "true", "--health-interval", "1h", "--", FOREVER),
        ]
        ping = containers[4]
        self.docker("network", "connect", "bridge", "ping")
        ping.look()
        self.known(*containers)
        disk, full = containers[2], containers[3]
        self.seen("something reaches the disk", lambda s: (s.value("container_fs_writes_bytes_total", disk) or 0) > MEBI)
        hits = self.seen("memory is filled to the limit", lambda s: (s.value("container_memory_failcnt", full) or 0) > 0)
        before = hits.value("container_memory_failcnt", full)
        self.seen("the limit is hit again, and counted", lambda s: s.value("container_memory_failcnt", full) > before)
        self.idle, self.all = containers[1], containers
        answer = self.compare("working", [host(self.engine), *containers])
        full_now = answer.value("container_memory_usage_bytes", full)
        self.check(f"{self.how}: the full container is full", 0.75 * 16 * MEBI <= full_now <= 16 * MEBI, f"{full_now:.0f} bytes")
        spec = {"container_spec_memory_limit_bytes": 64 * MEBI, "container_spec_memory_reservation_limit_bytes": 32 * MEBI, "container_spec_cpu_quota": 20000,
                "container_spec_cpu_period": 100000, "container_spec_cpu_shares": 512, "container_threads_max": 50}
        self.equal("the limits are those that were asked for", {name: answer.value(name, containers[0]) for name in spec}, spec)
        devices = {l["device"] for l, _ in answer.of("container_fs_writes_bytes_total", disk)}
        self.check(f"{self.how}: the disk's name", self.disk in devices, str(devices))
        names = lambda c: {l["interface"] for l, _ in answer.of("container_network_receive_bytes_total", c)}
        self.equal("interfaces: two networks, another's, the host's, none", [len(names(c)) for c in containers[4:]], [2, 0, 0, 0])
        for container in containers:
            self.pause(container)
        self.seen("all are paused", lambda s: all(s.value("container_state_status", c, status="paused") == 1 for c in containers))
        # What the kernel has yet to add up it adds up within two seconds.
        time.sleep(3)
        self.compare("paused", containers, rounds=3, exact=True)
        for container in containers:
            self.engine.call("POST", f"/containers/{container.id}/unpause")
        self.seen("all run again", lambda s: all(s.value("container_state_status", c, status="running") == 1
                                                 and s.value("container_state_status", c, status="paused") == 0 for c in containers))

    @section
    def files(self):
        """What a container's own files take of the disk: counted seldom and slowly, so it is waited for."""
        idle = next(c for c in self.all if c.name == "idle")
        table, reading = families.table(self.engine.place.version), idle.reading()
        now = self.scrape()
        for family in ("container_fs_layer_bytes", "container_fs_layer_inodes", "container_fs_log_bytes", "container_fs_usage_bytes"):
            wanted = table[family].values(reading)
            if wanted and family in now.types:
                self.seen(f"{family} of the idle container is {list(wanted.values())[0]}", lambda s, f=family, w=wanted: s.value(f, idle) == sum(w.values()))

    @section
    def bytes_of_disk_and_network(self):
        """So many bytes written, read and sent are so many bytes counted."""
        ping = next(c for c in self.all if c.name == "ping")
        one = self.start("once", *self.on_disk(), "--", FOREVER)
        self.known(one)
        family = {"write": "container_fs_writes_bytes_total", "read": "container_fs_reads_bytes_total"}
        now = lambda of: self.scrape().value(family[of], one, device=self.disk) or 0
        before = now("write")
        self.docker("exec", one.id, "dd", "if=/dev/zero", "of=/data/once", "bs=64k", "count=128", "conv=fsync")
        grown = now("write") - before
        self.check(f"{self.how}: 8 MiB written and synced", 8 * MEBI <= grown <= 9 * MEBI, f"{grown:.0f}")
        before = now("read")
        self.docker("exec", one.id, "dd", "if=/data/once", "of=/dev/null", "bs=64k", "iflag=direct")
        grown = now("read") - before
        self.check(f"{self.how}: 8 MiB read past the cache", 8 * MEBI <= grown <= 9 * MEBI, f"{grown:.0f}")
        address = self.engine.inspect(ping.id)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        self.docker("exec", "-d", ping.id, "sh", "-c", "sleep 1000 | nc -l -p 7000 >/dev/null")
        sent, received = (lambda: self.scrape().value("container_network_transmit_bytes_total", one)), \
            (lambda: self.scrape().value("container_network_receive_bytes_total", ping))
        out, come = sent(), received()
        self.docker("exec", one.id, "sh", "-c", f"for i in 1 2 3 4 5; do head -c 4000000 /dev/zero | nc {address} 7000 && break; sleep 1; done")
        out, come = sent() - out, received() - come
        self.check(f"{self.how}: 4 MB sent over a network", 4e6 <= out <= 4.8e6 and come >= 4e6, f"{out:.0f} sent, {come:.0f} received")
        self.remove(one)

    # --- events -------------------------------------------------------------------------------------------------------------

    @section
    def kills_for_want_of_memory(self):
        """Three containers in which 1, 2 and 3 processes are killed, and one that is killed itself. The counts stay when they are gone."""
        greedy = "exec dd if=/dev/zero of=/dev/null bs=80M count=1"
        options = self.without_swap(32)
        oracle = families.table(self.engine.place.version)["container_oom_events_total"]

        def kill(n, attempts=3):
            """Where memory is slow to come back, on a busy machine, the kernel kills the shell too: then once more."""
            container = self.start(f"oom{n}", *options, "--", f"i=0; while [ $i -lt {n} ]; do (echo 1000 >/proc/self/oom_score_adj; {greedy}); i=$((i+1)); done; "
                                   f"touch /tmp/done; {FOREVER}")
            if wait_for(f"{container.name} to be through", lambda: container.has("/tmp/done") or not container.reading().told["State"]["Running"]) \
                    and container.has("/tmp/done") or attempts == 1:
                return container
            self.remove(container)
            return kill(n, attempts - 1)
        killed = {kill(n): n for n in (1, 2, 3)}
        itself = self.start("oomself", *options, "--", greedy)
        for container, n in killed.items():
            counted = container.reading()
            self.equal(f"{container.name}: the kernel killed", list(oracle.values(counted).values()), [n])
            self.seen(f"{container.name}: container_oom_events_total is {n}", lambda s, c=container, n=n: s.value("container_oom_events_total", c) == n,
                          show=lambda s, c=container: s.of("container_oom_events_total", c))
        wait_for("oomself to end", lambda: self.engine.inspect(itself.id)["State"]["Status"] == "exited")
        self.exits_become("oomself", itself, {"oom_killed": 1})
        self.kills = {**killed, **({itself: 1} if self.ledger else {})}
        if self.ledger:
            self.seen("oomself: container_oom_events_total is 1", lambda s: s.value("container_oom_events_total", itself) == 1)
        self.remove(*killed, itself)
        self.kills_are_kept("after they were removed")

    def kills_are_kept(self, when):
        if self.ledger:
            for container, n in self.kills.items():
                self.seen(f"{container.name}: container_oom_events_total is {n} {when}", lambda s, c=container, n=n: s.value("container_oom_events_total", c) == n,
                          show=lambda s, c=container: s.of("container_oom_events_total", c))

    @section
    def names_and_limits(self):
        container = self.start("before", "--memory", "64m", "--", FOREVER)
        self.known(container)
        self.docker("rename", "before", "after")
        container.name = "after"
        answer = self.seen("a new name is taken over", lambda s: s.of("container_memory_usage_bytes", container, name="after"))
        self.equal("series under the old name", [l for _, l, _ in answer.samples if l.get("name") == "before"], [])
        self.equal("what no answer may have", answer.faults(), [])
        self.docker("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "60", container.id)
        wanted = {"container_spec_memory_limit_bytes": 96 * MEBI, "container_spec_cpu_quota": 25000, "container_threads_max": 60}
        # An event later; limits are read anew by themselves only every 100 scrapes.
        for _ in range(8):
            time.sleep(0.5)
            answer = self.scrape()
            if {name: answer.value(name, container) for name in wanted} == wanted:
                break
        self.equal("limits follow `docker update`", {name: answer.value(name, container) for name in wanted}, wanted)
        self.compare("updated", [container], rounds=1)
        self.remove(container)
        answer = self.seen("a removed container is gone", lambda s: not s.of("container_memory_usage_bytes", container))
        left = {n for n, l, _ in answer.samples if l.get("id") == f"/docker/{container.id}"}
        self.equal("what is left of it", left - families.EVENTS - families.STAYS, set())

    @section
    def restarts(self):
        """By the engine's policy and by hand: a new cgroup, its counters from the beginning."""
        policy = self.start("policy", "--restart", "on-failure:2", "--", "exit 3")
        answer = self.seen("policy: restarted twice", lambda s: s.value("container_restartcount", policy) == 2
                           and s.value("container_state_status", policy, status="exited") == 1)
        self.equal("policy: container_last_exit_code", answer.value("container_last_exit_code", policy), 3)
        self.exits_become("policy", policy, {"error": 3})
        worker = self.start("worker", "--", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; " + FOREVER)
        self.known(worker)
        wait_for("worker to have worked", lambda: (self.scrape().value("container_cpu_usage_seconds_total", worker) or 0) > 0.05)
        used = self.scrape().value("container_cpu_usage_seconds_total", worker)
        started = moment(self.engine.inspect(worker.id)["State"]["StartedAt"])
        self.docker("restart", "-t", "0", worker.id)
        self.seen("worker: a new start time", lambda s: (s.value("container_start_time_seconds", worker) or 0) > started)
        self.known(worker)
        self.pause(worker)
        self.seen("worker: paused after its restart", lambda s: s.value("container_state_status", worker, status="paused") == 1)
        worker.look()
        self.check(f"{self.how}: worker had worked before", used > 0.05, f"{used} s")
        self.compare("restarted", [worker], rounds=2)
        self.equal("worker: container_last_exit_code is of its last run", self.scrape().value("container_last_exit_code", worker), 137)
        self.exits_become("worker", worker, {"signal": 1})
        self.equal("worker: container_restartcount counts the policy's alone", self.scrape().value("container_restartcount", worker), 0)
        self.engine.call("POST", f"/containers/{worker.id}/unpause")
        self.remove(policy, worker)

    @section
    def exit_codes(self):
        ends = {}
        for code in (0, 1, 127):
            ends[self.start(f"exit{code}", "--", f"sleep 1; exit {code}")] = code
        killed = self.start("exit137", "--", FOREVER)
        stopped = self.start("exit143", "--", "trap 'exit 143' TERM; touch /tmp/ready; while :; do sleep 0.1; done")
        wait_for("exit143 to have its trap", lambda: stopped.has("/tmp/ready"))
        self.docker("kill", killed.id)
        self.docker("stop", "-t", "60", stopped.id)
        ends.update({killed: 137, stopped: 143})
        for container, code in ends.items():
            self.seen(f"{container.name}: container_last_exit_code", lambda s, c=container, code=code: s.value("container_last_exit_code", c) == code
                      and s.value("container_state_status", c, status="exited") == 1)
            self.exits_become(container.name, container, {CLASS[code]: 1})
        self.compare("exited", list(ends), rounds=1)
        self.remove(*ends)
        for container, code in ends.items():
            self.exits_become(f"{container.name}, removed", container, {CLASS[code]: 1})

    @section
    def health(self):
        """Healthy, then not, then again."""
        sick = self.start("sick", "--health-cmd", "test ! -e /tmp/sick", "--health-interval", "2s", "--health-retries", "1", "--", FOREVER, forks=2)
        says = lambda word, number: lambda s: (s.value("container_state_health_status", sick, status=word) == 1
                                               and s.value("container_state_health_status", sick) == 1 and s.value("container_health_state", sick) == number)
        self.seen("healthy", says("healthy", 1))
        self.docker("exec", sick.id, "touch", "/tmp/sick")
        self.seen("unhealthy", says("unhealthy", 0))
        self.docker("exec", sick.id, "rm", "/tmp/sick")
        self.seen("healthy again", says("healthy", 1))
        self.remove(sick)

    @section
    def short_jobs(self, count=50):
        """Jobs shorter than any scrape: their exits, and their CPU time."""
        self.docker("tag", "bb:1", "jobs:1")
        done = []

        def run_some(share):
            for i in share:
                done.append(self.docker("run", "--rm", "--network", "none", "jobs:1", "sh", "-c", f"i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; exit {i % 2}", check=False))
        threads = [threading.Thread(target=run_some, args=(range(n, count, 2),)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.equal("short jobs that ran", len(done), count)
        if not self.ledger:
            return

        def of(answer, family):
            found = {}
            for name, own, value in answer.samples:
                if name == family and "jobs:1" in own.values() and value:
                    found[own.get("code_class")] = found.get(own.get("code_class"), 0) + value
            return found
        answer = self.seen(f"container_exited_total of {count} short jobs", lambda s: of(s, "container_exited_total") == {"success": count // 2, "error": count // 2},
                           show=lambda s: of(s, "container_exited_total"))
        cpu = sum(of(answer, "container_exited_cpu_seconds_total").values())
        self.check(f"{self.how}: container_exited_cpu_seconds_total of short jobs", cpu > 0, f"{cpu} s")
        self.equal("container_exited_oom_kills_total of short jobs", sum(of(answer, "container_exited_oom_kills_total").values()), 0)

    @section
    def agent_restarts(self):
        """What was counted is still there, and nothing is counted twice."""
        before = self.scrape()
        self.equal("the agent ends by itself on SIGTERM", self.agent.stop(), 0)
        self.agent.start()
        self.known(*self.running)
        self.kills_are_kept("after the agent was restarted")
        if self.ledger:
            counts = lambda s: sorted((n, tuple(sorted(l.items())), v) for n, l, v in s.samples if n in families.EVENTS)
            self.check(f"{self.how}: exits are what they were", counts(self.scrape()) == counts(before), f"{len(counts(before))} series")

    # --- the engine's faults ------------------------------------------------------------------------------------------------

    def _watch(self, containers, stop, wrong, every=0.5):
        """Scrapes until `stop`; each has to have every container, by name and image. Gives the number of scrapes."""
        count = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                answer = self.scrape()
                wrong += answer.faults()
                for container in containers:
                    found = answer.of("container_memory_usage_bytes", container)
                    if len(found) != 1 or (found[0][0].get("name"), found[0][0].get("image")) != (container.name, "bb:1"):
                        wrong.append(f"{container.name}: {found}")
            except Exception as error:
                wrong.append(repr(error))
            count += 1
            stop.wait(max(0.0, every - (time.monotonic() - began)))
        return count

    def _through(self, what, action):
        """Scrapes while `action` runs."""
        stop, wrong, counts = threading.Event(), [], []
        containers = list(self.running)
        thread = threading.Thread(target=lambda: counts.append(self._watch(containers, stop, wrong)))
        thread.start()
        try:
            action()
        finally:
            stop.set()
            thread.join()
        self.check(f"{self.how}: {what}: every container in every scrape, by name and image", not wrong and counts[0] > 0,
                   f"{counts[0]} scrapes of {len(containers)} containers" + "".join(f"; {w}" for w in wrong[:3]))

    @section
    def engine_restarts(self):
        """Killed and started again; its containers run on."""
        def crash():
            resyncs = scrape(self.agent.base, "/metrics").value("skep_docker_resyncs_total")
            self.control.crash()
            time.sleep(2)
            self.control.start()
            wait_for("the agent to follow the engine again", lambda: (lambda s: s.value("skep_docker_resyncs_total") > resyncs
                                                                      and s.value("skep_part_up", part="docker") == 1)(scrape(self.agent.base, "/metrics")))
            time.sleep(2)
        self._through("the engine is killed and starts again", crash)
        late = self.start("late", "--", FOREVER)
        self.known(late)
        self.remove(late)
        self.seen("what happens after the engine's restart is followed", lambda s: not s.of("container_memory_usage_bytes", late))

    @section
    def engine_hangs(self):
        """Frozen: the scrape answers as ever, with what is known; after a while it says that it knows nothing new."""
        told = lambda: scrape(self.agent.base, "/metrics")
        took = []

        def freeze():
            self.control.freeze()
            try:
                since = told().value("skep_docker_inventory_time_seconds")

                def says_so():
                    began = time.monotonic()
                    answer = told()
                    took.append(time.monotonic() - began)
                    return answer.value("skep_part_up", part="docker") == 0
                wait_for("the part docker to be down", says_so, 180, 0.5)
                self.equal("the inventory's time stands still", told().value("skep_docker_inventory_time_seconds"), since)
                status, text = page(self.agent.base, "/readyz")
                self.check(f"{self.how}: /readyz says that the engine does not answer", re.search(r'"docker": \{\s*"state": "(?!ok)', text), f"{status}")
            finally:
                self.control.thaw()
        self._through("the engine hangs", freeze)
        self.check(f"{self.how}: scrapes answer while the engine hangs", took and max(took) < 8, f"{len(took)}, the slowest in {max(took, default=0):.2f} s")
        wait_for("the part docker to be up", lambda: told().value("skep_part_up", part="docker") == 1)
        self.check(f"{self.how}: the part docker is up again", True)

    @section
    def containers_vanish(self, containers=200, scrapes=200):
        """They come and go while scrapes are under way: no scrape fails, and no family is half."""
        left, lock = list(range(containers)), threading.Lock()
        failures = []

        def churn():
            while True:
                with lock:
                    if not left:
                        return
                    number = left.pop()
                try:
                    self.engine.call("POST", f"/containers/create?name=brief{number}", {"Image": "bb:1", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}})
                    self.engine.call("POST", f"/containers/brief{number}/start")
                    self.engine.call("DELETE", f"/containers/brief{number}?force=1")
                except Exception as error:
                    failures.append(str(error)[-200:])
        threads = [threading.Thread(target=churn) for _ in range(3)]
        for thread in threads:
            thread.start()
        wrong, count, met = [], 0, set()
        while any(t.is_alive() for t in threads) or count < scrapes:
            try:
                answer = self.scrape()
                wrong += answer.faults()
                met |= {l["name"] for n, l, _ in answer.samples if n == "container_memory_usage_bytes" and l.get("name", "").startswith("brief")}
                if answer.value("node_scrape_collector_success", collector="containers") != 1 or answer.value("container_scrape_error") != 0:
                    wrong.append("the collector failed")
                wrong += [f"{c.name} is missing" for c in self.running if not answer.of("container_memory_usage_bytes", c)]
            except Exception as error:
                wrong.append(repr(error))
            count += 1
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        self.check(f"{self.how}: containers vanish in mid-scrape", not wrong and not failures,
                   f"{count} scrapes, {len(met)} of {containers} brief containers seen" + "".join(f"; {w}" for w in (failures + wrong)[:3]))
        self.seen("none of them is left", lambda s: not any(l.get("name", "").startswith("brief") for n, l, _ in s.samples if n == "container_memory_usage_bytes"))
