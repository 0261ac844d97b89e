"""Runs inside the virtual machine: the agent's container metrics beside the cgroup files they come from.

Each figure is read from the kernel right before and right after a scrape; what the agent says has to lie between the two.
The agent runs twice: by itself on the host, then in a container with the mounts of the stack file. Needs only Python's own
library; everything it wants lies in /lab. Output: PASS and FAIL lines and `N passed, N failed`."""

import calendar
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

LAB = "/lab"
OUT = f"{LAB}/out"
CGROUP = "/sys/fs/cgroup"
ROUNDS = 5
PATIENCE = 180         # seconds for anything to happen: emulated processors on a busy machine are slow
SLACK = 512 * 1024     # the kernel charges memory in batches for each CPU: two readings of a quiet cgroup differ by so much
WRITTEN = 4 << 20      # the cache of the container that writes to a disk comes and goes by its blocks between two readings
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
    print(f"{'PASS' if good else 'FAIL'} {name}" + (f": {detail}" if detail else ""), flush=True)


def run(*command, check=True):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def wait_for(what, condition, timeout):
    end = time.monotonic() + timeout
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except Exception as error:  # not there yet, whatever the reason
            last = error
        time.sleep(0.5)
    raise RuntimeError(f"waited {timeout} s in vain for {what}: {last}")


# --- the containers ---------------------------------------------------------------------------------------------------

CONTAINERS = {
    # busy, held by its limits
    "burn": (["--memory", "64m", "--cpus", "0.2", "--pids-limit", "50"], "while :; do :; done"),
    # quiet, without any limit, with 16 MB of its own and 8 MB of page cache: more than the slack below
    "idle": ([], "x=$(head -c 16000000 /dev/zero | tr '\\0' x); head -c 8000000 /dev/zero >/tmp/f; while :; do sleep 100000; done"),
    # block I/O that reaches the disk, charged to the container
    "disk": (["-v", "/var/lib/lab:/data"], "while :; do dd if=/dev/zero of=/data/f bs=64k count=16 conv=fsync 2>/dev/null; sleep 1; done"),
    # packets both ways
    "ping": (["--memory", "32m"], "exec ping 172.17.0.1 >/dev/null"),
}


class Container:
    def __init__(self, name):
        self.name = name
        options, script = CONTAINERS[name]
        self.id = run("docker", "run", "-d", "--name", name, *options, "bb:1", "sh", "-c", script)
        state = json.loads(run("docker", "inspect", self.id))[0]["State"]
        self.pid, self.started = state["Pid"], state["StartedAt"]
        self.cgroup = f"{CGROUP}/system.slice/docker-{self.id}.scope"

    def file(self, name):
        with open(f"{self.cgroup}/{name}") as f:
            return f.read()

    def number(self, name):
        """A limit: cAdvisor says 0 where the kernel says `max`."""
        text = self.file(name).strip()
        return 0 if text == "max" else int(text)

    def reading(self):
        """Every figure that is compared, under the metric's name and its own labels."""
        cpu, memory = keyed(self.file("cpu.stat")), keyed(self.file("memory.stat"))
        current = int(self.file("memory.current"))
        now = {
            "container_cpu_usage_seconds_total": cpu["usage_usec"] / 1e6,
            "container_cpu_user_seconds_total": cpu["user_usec"] / 1e6,
            "container_cpu_system_seconds_total": cpu["system_usec"] / 1e6,
            "container_memory_usage_bytes": current,
            "container_memory_working_set_bytes": max(0, current - memory["inactive_file"]),
            "container_memory_rss": memory["anon"],
            "container_memory_cache": memory["file"],
            "container_memory_mapped_file": memory["file_mapped"],
            "container_memory_max_usage_bytes": int(self.file("memory.peak")),
            "container_spec_memory_limit_bytes": self.number("memory.max"),
            "container_threads": int(self.file("pids.current")),
            "container_threads_max": self.number("pids.max"),
        }
        quota, period = self.file("cpu.max").split()
        now["container_spec_cpu_period"] = int(period)
        if quota != "max":
            now["container_spec_cpu_quota"] = int(quota)
            now["container_cpu_cfs_periods_total"] = cpu["nr_periods"]
            now["container_cpu_cfs_throttled_periods_total"] = cpu["nr_throttled"]
            now["container_cpu_cfs_throttled_seconds_total"] = cpu["throttled_usec"] / 1e6
        for resource in ("cpu", "memory", "io"):
            try:
                lines = self.file(f"{resource}.pressure").splitlines()
            except OSError:  # a kernel without pressure stall information
                continue
            for line in lines:
                kind = {"some": "waiting", "full": "stalled"}[line.split()[0]]
                now[f"container_pressure_{resource}_{kind}_seconds_total"] = int(line.rpartition("total=")[2]) / 1e6
        # Devices are summed up: the name of a device is checked apart
        io = [dict(part.split("=") for part in line.split()[1:]) for line in self.file("io.stat").splitlines()]
        if any(io):
            now["container_fs_reads_bytes_total"] = sum(int(d.get("rbytes", 0)) for d in io)
            now["container_fs_writes_bytes_total"] = sum(int(d.get("wbytes", 0)) for d in io)
        with open(f"/proc/{self.pid}/net/dev") as f:
            columns = re.search(r"^\s*eth0:(.*)$", f.read(), re.M)[1].split()
        for direction, first in (("receive", 0), ("transmit", 8)):
            now[f"container_network_{direction}_bytes_total"] = int(columns[first])
            now[f"container_network_{direction}_packets_total"] = int(columns[first + 1])
        return now


# What may be off: these are not counters, and they move both ways between two readings.
SLACKS = {
    **dict.fromkeys(["container_memory_usage_bytes", "container_memory_working_set_bytes", "container_memory_rss",
                     "container_memory_cache", "container_memory_mapped_file"], SLACK),
}
FORKS = 2              # what the container `disk` may have more or fewer of at the moment of the scrape
# Counters of microseconds, given as seconds: a rounding of the last digit is no fault.
ROUNDING = 1e-6


def keyed(text):
    return {k: int(v) for k, v in (line.split()[:2] for line in text.splitlines())}


# --- the agent's answer -----------------------------------------------------------------------------------------------

SERIES = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def scrape(base, path):
    with urllib.request.urlopen(base + path, timeout=60) as answer:
        text = answer.read().decode()
    found = []
    for line in text.splitlines():
        match = SERIES.match(line)
        if match and not line.startswith("#"):
            found.append((match[1], dict(LABEL.findall(match[2] or "")), float(match[3])))
    return found, text


def of(series, name, container, **labels):
    return [(l, v) for n, l, v in series if n == name and l.get("id") == f"/docker/{container.id}"
            and all(l.get(k) == w for k, w in labels.items())]


def value(series, name, container):
    """One figure: without a network interface other than eth0, per-CPU and per-device series added up."""
    labels = {"interface": "eth0"} if name.startswith("container_network_") else {}
    found = of(series, name, container, **labels)
    return sum(v for _, v in found) if found else None


def compare(how, base, containers):
    wait_for("the agent to know every container", lambda: all(
        of(scrape(base, "/metrics/containers")[0], "container_memory_usage_bytes", c) for c in containers), PATIENCE)
    faults, names, ranges = {}, [], {}
    for _ in range(ROUNDS):
        before = {c.name: c.reading() for c in containers}
        series, text = scrape(base, "/metrics/containers")
        after = {c.name: c.reading() for c in containers}
        for c in containers:
            for name, low in before[c.name].items():
                high = after[c.name].get(name, low)
                slack = SLACKS.get(name, ROUNDING if isinstance(low, float) else 0)
                if name == "container_threads" and c.name == "disk":
                    slack = FORKS
                if name.startswith("container_memory") and c.name == "disk":
                    slack = WRITTEN
                low, high = min(low, high) - slack, max(low, high) + slack
                key = (c.name, name)
                if key not in names:
                    names.append(key)
                said = value(series, name, c)
                ranges[key] = f"{said} in [{low:.9g}, {high:.9g}]"
                # cAdvisor leaves a CPU counter out while it is 0
                if said is None and high <= ROUNDING:
                    continue
                if said is None or not low <= said <= high:
                    faults.setdefault(key, f"{said} not in [{low:.9g}, {high:.9g}]")
        time.sleep(1)
    for key in names:
        check(f"{how}: {key[0]}: {key[1]}", key not in faults, faults.get(key, ranges[key]))
    with open(f"{OUT}/{how}-containers.txt", "w") as f:
        f.write(text)

    for c in containers:
        own = [l for n, l, _ in series if l.get("id") == f"/docker/{c.id}"]
        check(f"{how}: {c.name}: id, name and image", own and all(
            l.get("name") == c.name and l.get("image") == "bb:1" for l in own if "name" in l)
            and any("name" in l for l in own), str(own[0] if own else None))
        started = calendar.timegm(time.strptime(c.started[:19], "%Y-%m-%dT%H:%M:%S"))
        said = value(series, "container_start_time_seconds", c)
        check(f"{how}: {c.name}: container_start_time_seconds", said is not None and abs(said - started) <= 1, f"{said}, {c.started}")
    disk = next(c for c in containers if c.name == "disk")
    devices = sorted({l.get("device") for l, _ in of(series, "container_fs_writes_bytes_total", disk)}, key=str)
    check(f"{how}: disk: device", devices in (["/dev/vda"], ["vda"]), str(devices))
    check(f"{how}: disk: wrote something", (value(series, "container_fs_writes_bytes_total", disk) or 0) > 1_000_000)
    ids = sorted({l["id"] for n, l, _ in series if n == "container_memory_usage_bytes" and "id" in l and l["id"] != "/"})
    check(f"{how}: ids look like /docker/<64 hex>", ids and all(re.fullmatch(r"/docker/[0-9a-f]{64}", i) for i in ids), f"{len(ids)}")
    keys = [(n, tuple(sorted(l.items()))) for n, l, _ in series]
    check(f"{how}: no series twice", len(keys) == len(set(keys)), f"{len(keys)} series")

    with open(f"{CGROUP}/cpu.stat") as f:
        low = keyed(f.read())["usage_usec"] / 1e6
    series, text = scrape(base, "/metrics")
    with open(f"{CGROUP}/cpu.stat") as f:
        high = keyed(f.read())["usage_usec"] / 1e6
    with open(f"{OUT}/{how}-metrics.txt", "w") as f:
        f.write(text)
    root = sum(v for n, l, v in series if n == "container_cpu_usage_seconds_total" and l.get("id") == "/")
    check(f"{how}: container_cpu_usage_seconds_total of the host", low - ROUNDING <= root <= high + ROUNDING, f"{root} in [{low}, {high}]")
    with open("/proc/meminfo") as f:
        total = int(re.search(r"MemTotal:\s+(\d+)", f.read())[1]) * 1024
    for name, want in (("node_memory_MemTotal_bytes", total), ("machine_memory_bytes", total), ("machine_cpu_cores", os.cpu_count())):
        said = [v for n, _, v in series if n == name]
        check(f"{how}: {name}", said and set(said) == {want}, f"{said}, {want}")


def native(containers):
    with open(f"{OUT}/native.log", "wb") as log:
        agent = subprocess.Popen(
            [f"{LAB}/skep", "run", "--state-dir", "/var/lib/skep-native", "--web.listen-address", "127.0.0.1:7537"],
            stdout=log, stderr=log, env={**os.environ, "SKEP_CONTAINERS_ENABLE": "process"})
    try:
        base = "http://127.0.0.1:7537"

        def answers():
            if agent.poll() is not None:
                raise SystemExit(f"skep run ended with {agent.returncode}: " + open(f"{OUT}/native.log", errors="replace").read()[-800:])
            return scrape(base, "/metrics/containers")
        wait_for("the agent to answer", answers, PATIENCE)
        compare("native", base, containers)
    finally:
        if agent.poll() is None:
            agent.terminate()
            try:
                status = agent.wait(20)
                check("native: ends by itself on SIGTERM", status == 0, f"status {status}")
            except subprocess.TimeoutExpired:
                check("native: ends by itself on SIGTERM", False, "not within 20 s")
                agent.kill()


def contained(containers):
    run("docker", "import", "-c", 'ENTRYPOINT ["/skep"]', f"{LAB}/skep.tar", "skep:dev")
    # as stack/skep.yml has it
    run("docker", "run", "-d", "--name", "skep", "--cap-drop", "ALL", "--read-only", "--user", "0:0", "--memory", "128m",
        "-e", "SKEP_CONTAINERS_ENABLE=process", "-v", "skep:/var/lib/skep",
        "-v", "/var/run/docker.sock:/var/run/docker.sock:ro", "-v", "/proc:/host/proc:ro", "-v", "/sys:/host/sys:ro",
        "-v", "/:/host/root:ro", "skep:dev")
    try:
        address = run("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "skep")
        base = f"http://{address}:7537"
        wait_for("the agent in its container to answer", lambda: scrape(base, "/metrics/containers"), PATIENCE)
        compare("contained", base, containers)
    finally:
        done = subprocess.run(["docker", "logs", "skep"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(f"{OUT}/contained.log", "w") as f:
            f.write(done.stdout)
        if run("docker", "inspect", "-f", "{{.State.Running}}", "skep", check=False) != "true":
            print("the agent's container ended: " + done.stdout[-800:].replace("\n", " | "), flush=True)
        run("docker", "rm", "-f", "skep", check=False)


def beside_node_exporter():
    """Host metrics beside Debian's node_exporter, on a machine with systemd, logind, swap and containers."""
    sys.path.insert(0, LAB)
    sys.dont_write_bytecode = True
    import beside
    run("fallocate", "-l", "32M", "/swapfile")
    run("chmod", "600", "/swapfile")
    run("mkswap", "/swapfile")
    run("swapon", "/swapfile")
    # logind counts sessions: one of root's, which lasts as long as somebody holds its end.
    session = subprocess.Popen(["systemd-run", "--quiet", "--pipe", "--uid=0", "-p", "PAMName=login", "sleep", "1000"], stdin=subprocess.DEVNULL)
    try:
        flags = ["--collector.systemd.enable-task-metrics", "--collector.systemd.enable-restarts-metrics", "--collector.systemd.enable-start-time-metrics",
                 "--collector.sysctl.include=vm.swappiness", "--collector.netclass.ignored-devices=^lo$"]
        beside.compare(lambda name, good, detail="": check(f"beside: {name}", good, detail), f"{LAB}/skep", "/usr/bin/prometheus-node-exporter", flags)
    finally:
        session.kill()
        session.wait()


def main():
    os.makedirs(OUT, exist_ok=True)
    print(f"kernel {os.uname().release}, up {time.clock_gettime(time.CLOCK_BOOTTIME):.0f} s", flush=True)
    wait_for("Docker", lambda: run("docker", "info"), PATIENCE)
    info = json.loads(run("docker", "info", "--format", "{{json .}}"))
    check("Docker uses cgroup v2 and the systemd driver", (info["CgroupVersion"], info["CgroupDriver"]) == ("2", "systemd"),
          f"{info['ServerVersion']}, v{info['CgroupVersion']}, {info['CgroupDriver']}")
    run("docker", "import", "-c", "ENV PATH=/bin", f"{LAB}/shell.tar", "bb:1")
    containers = [Container(name) for name in CONTAINERS]
    wait_for("something to be written to disk", lambda: re.search(r"wbytes=[1-9]\d{6}", containers[2].file("io.stat")), PATIENCE)
    try:
        beside_node_exporter()
    except (Exception, SystemExit) as error:
        check("beside: could run to its end", False, " | ".join(str(error).split("\n")))
    for part in (native, contained):
        if part is contained and not os.path.exists(f"{LAB}/skep.tar"):
            print("no image of the agent: the second half is left out", flush=True)
            continue
        try:
            part(containers)
        except (Exception, SystemExit) as error:
            check(f"{part.__name__}: could run to its end", False, " | ".join(str(error).split("\n")))


try:
    main()
except Exception as error:
    check("the guest could run to its end", False, " | ".join(str(error).split("\n")))
print(f"{passed} passed, {failed} failed", flush=True)
subprocess.run(["sync"])
sys.exit(0)
