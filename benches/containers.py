#!/usr/bin/env python3
"""benches/containers.py [--containers N]... [--churn N] [--peer CADVISOR] [BINARY]: what the metrics of containers cost.

The containers are simulated (simulated.py): real cgroups, processes, network namespaces and veth pairs of this machine, and an engine on a unix socket by script;
with root, in namespaces of their own that end with the benchmark. skep is asked as Prometheus asks: with gzip, over a connection that stays. CPU time is what the
kernel counts for the process. The containers sleep, as most do most of the time; what a scrape costs when none has slept yet is told beside. The limits:

  a scrape of everything, the host's default collectors too     60 us of CPU a container: 6 ms with 100, 60 ms with 1000
  resident memory after all scrapes                             10 MB, and 8 kB a container
  --churn N short containers (default 10000) beside 100         not 0.5 MiB more anonymous memory than before, and not a descriptor

With --peer (a cAdvisor 0.60) it is another benchmark: 50 real containers of an engine that is started for it, both exporters beside each other, one scrape each
15 s for --minutes (5): of skep its containers, for cAdvisor knows no host. cAdvisor has its leanest settings. Limits: 1/20 of its CPU time, 1/3 of its resident memory. The status is 1 when a limit is missed.
"""
import argparse
import collections
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import scrape
import simulated
from scrape import PORT, Agent

# What did nothing for ten seconds is read in full at each twentieth scrape only.
ASLEEP = 11
US_EACH, BASE_BYTES, BYTES_EACH = 60, 10_000_000, 8_000
PEER_PORT = PORT + 1
LEAN = ["--docker_only", "--housekeeping_interval=10s", "--max_housekeeping_interval=10s", "--store_container_labels=false",
        "--whitelisted_container_labels=com.docker.swarm.service.name,com.docker.swarm.task.name,com.docker.stack.namespace",
        "--disable_metrics=advtcp,cpu_topology,cpuset,hugetlb,memory_numa,process,referenced_memory,resctrl,sched,tcp,udp,percpu,disk"]


def verdict(fits, text):
    print(f"  {'ok  ' if fits else 'MISS'} {text}", flush=True)
    return fits


def value(text, name, labels=""):
    found = re.search(rf"^{name}\{{{labels}[^}}]*\}} (\S+)$", text, re.M)
    return float(found[1]) if found else None


def wait_for_containers(agent, count):
    for _ in range(600):
        if value(agent.text(), "skep_docker_containers", '[^}]*state="running"') == count:
            return
        time.sleep(0.1)
    sys.exit(f"skep does not see {count} containers")


def cost(agent, scrapes, asleep):
    """Milliseconds of CPU a scrape: of containers that have just begun to run, or that have done nothing for a while."""
    for _ in range(25):
        agent.scrape()
    if asleep:
        for _ in range(3):
            time.sleep(ASLEEP)
            agent.scrape()
    rounds = []
    for _ in range(5):
        before = agent.cpu_ms()
        for _ in range(max(scrapes // 5, 1)):
            size = len(agent.scrape())
        rounds.append((agent.cpu_ms() - before) / max(scrapes // 5, 1))
    return statistics.median(rounds), size


def skep(binary, path, options, engine):
    return Agent("skep", [binary, f"--web.listen-address=127.0.0.1:{PORT}", options.state, f"--docker.host={engine}"], path)


def scale(binary, containers, engine, options):
    count = len(containers)
    scrapes = max(options.scrapes * 100 // max(count, 100), 50)
    print(f"{count} containers, each with a veth pair")
    good = True
    for path, what in [("/metrics?collect[]=containers", "the containers alone"), ("/metrics", "everything")]:
        shutil.rmtree(options.state.partition("=")[2], ignore_errors=True)
        agent = skep(binary, "/metrics", options, engine.host)
        wait_for_containers(agent, count)
        agent.path = path
        awake, _ = cost(agent, min(scrapes, 50), False)
        milliseconds, size = cost(agent, scrapes, True)
        text = agent.text()
        series = sum(1 for line in text.splitlines() if line and line[0] != "#")
        resident, anonymous = agent.resident()
        print(f"  {what:24} {milliseconds:6.2f} ms CPU a scrape, {awake:6.2f} before they sleep, {series:5} series, {size / 1024:6.1f} KiB gzipped of {len(text) / 1024:7.1f}, "
              f"{resident:5.1f} MiB resident ({anonymous:.2f} anonymous), {agent.descriptors()} descriptors",
              flush=True)
        told = collections.Counter(re.findall(r'^container_memory_rss\{(?:.*?,)?name="([^"]+)"', text, re.M))
        good &= verdict(len(told) == count, f"{len(told)} containers told") if len(told) != count else True
        received = len(re.findall(r"^container_network_receive_bytes_total", text, re.M))
        good &= verdict(received == count, f"{received} interfaces told") if received != count else True
        agent.stop()
    limit_ms, limit_bytes = count * US_EACH / 1000, BASE_BYTES + count * BYTES_EACH
    good &= verdict(milliseconds <= limit_ms, f"CPU {milliseconds:.2f} ms of {limit_ms:.2f} ms")
    good &= verdict(resident * 2**20 <= limit_bytes, f"memory {resident * 2**20 / 1e6:.2f} MB of {limit_bytes / 1e6:.2f} MB")
    return good


def churn(binary, containers, engine, directories, options):
    """Containers that come and go, at most 20 at a time, and a scrape for every 25."""
    agent = skep(binary, "/metrics", options, engine.host)
    wait_for_containers(agent, len(containers))
    first = containers[0].pid

    def come_and_go(count):
        there = collections.deque()

        def end():
            container = there.popleft()
            container.end()
            engine.tell(container, "die")
            container.remove()
            engine.remove(container)
            engine.tell(container, "destroy")

        for number in range(count):
            container = simulated.Container(number, directories, namespace=first)
            engine.add(container)
            engine.tell(container, "create")
            engine.tell(container, "start")
            there.append(container)
            if len(there) > 20:
                end()
            if number % 25 == 0:
                agent.scrape()
        while there:
            end()
        wait_for_containers(agent, len(containers))
        for _ in range(25):
            agent.scrape()
        return agent.resident(), agent.descriptors()

    (resident, anonymous), descriptors = come_and_go(1000)
    print(f"churn beside {len(containers)} containers: after 1000 short ones {resident:.1f} MiB resident ({anonymous:.2f} anonymous), {descriptors} descriptors",
          flush=True)
    since = time.monotonic(), agent.cpu_ms()
    (resident, after), open_after = come_and_go(options.churn)
    seconds, spent = time.monotonic() - since[0], agent.cpu_ms() - since[1]
    agent.stop()
    return verdict(after - anonymous < 0.5 and open_after <= descriptors,
                   f"after {options.churn} more {resident:.1f} MiB resident ({after:.2f} anonymous), {open_after} descriptors; {options.churn / seconds:.0f} a second, "
                   f"{spent / options.churn:.2f} ms CPU each with its share of scrapes")


def inside(binary, count, options):
    """In namespaces that end with this process."""
    with tempfile.TemporaryDirectory() as scratch:
        simulated.own_sysfs(scratch)
        engine = simulated.Engine(f"{scratch}/engine.sock")
        directories = simulated.trees()
        for directory in directories:
            directory.mkdir(exist_ok=True)
        containers = [simulated.Container(number, directories, namespace=True) for number in range(count)]
        simulated.own_network(containers)
        for container in containers:
            engine.add(container)
        good = scale(binary, containers, engine, options)
        if options.churn:
            good &= churn(binary, containers, engine, directories, options)
        for container in containers:
            container.end()
    return good


class Dockerd:
    """An engine of its own, with an image of busybox."""

    def __init__(self, root):
        self.root, self.socket = root, f"{root}/docker.sock"
        self.log = open(f"{root}/log", "wb")
        self.process = subprocess.Popen(["dockerd", f"--data-root={root}/data", f"--exec-root={root}/exec", f"--pidfile={root}/pid", f"-H=unix://{self.socket}",
                                         "--cgroup-parent=/skep-bench", "--iptables=false"], stdout=self.log, stderr=self.log)
        for _ in range(300):
            if subprocess.run(["docker", "-H", f"unix://{self.socket}", "info"], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)
        else:
            sys.exit(f"dockerd does not answer: {root}/log")
        busybox = shutil.which("busybox") or sys.exit("no busybox: apt-get install busybox-static")
        files = pathlib.Path(root) / "image"
        (files / "bin").mkdir(parents=True)
        shutil.copy(busybox, files / "bin/sleep")
        archive = subprocess.run(["tar", "-C", str(files), "-c", "."], check=True, capture_output=True).stdout
        subprocess.run(["docker", "-H", f"unix://{self.socket}", "import", "-", "bench:1"], input=archive, check=True, stdout=subprocess.DEVNULL)

    def docker(self, *words):
        return subprocess.run(["docker", "-H", f"unix://{self.socket}", *words], check=True, capture_output=True, text=True).stdout

    def start(self, number):
        task, service = f"{number:025}", f"shop_service-{number % 20}"
        labels = {"com.docker.stack.namespace": "shop", "com.docker.swarm.node.id": simulated.NODE, "com.docker.swarm.service.id": f"{number % 20:025}",
                  "com.docker.swarm.service.name": service, "com.docker.swarm.task": "", "com.docker.swarm.task.id": task,
                  "com.docker.swarm.task.name": f"{service}.{number}.{task}"}
        flags = [f"--label={name}={value}" for name, value in labels.items()]
        self.docker("run", "--detach", f"--name={service}.{number}.{task}", *flags, "bench:1", "/bin/sleep", "1000000")

    def stop(self):
        running = self.docker("ps", "--quiet", "--all").split()
        if running:
            self.docker("rm", "--force", *running)
        self.process.terminate()
        self.process.wait()
        self.log.close()


def beside(binary, peer, options):
    """Both exporters, on an engine's containers."""
    root = tempfile.mkdtemp(prefix="skep-bench-")
    engine = Dockerd(root)
    agents = []
    try:
        for number in range(options.containers[0] if options.containers else 50):
            engine.start(number)
        lean = [peer, f"--port={PEER_PORT}", "--listen_ip=127.0.0.1", f"--docker=unix://{engine.socket}", f"--docker_root={root}/data", *LEAN]
        agents.append(skep(binary, "/metrics/containers", options, f"unix://{engine.socket}"))
        agents.append(Agent("cAdvisor", lean, "/metrics", PEER_PORT))
        for _ in range(2 if options.minutes < 1 else 4):
            time.sleep(15)
            for agent in agents:
                agent.scrape()
        print(f"{len(engine.docker('ps', '--quiet').split())} containers of an engine, one scrape each 15 s for {options.minutes:g} minutes", flush=True)
        print("  " + " ".join([binary, *agents[0].process.args[1:]]) + "\n  " + " ".join(lean), flush=True)
        before, start, in_scrapes, scrapes = [agent.cpu_ms() for agent in agents], time.monotonic(), [0.0, 0.0], 0
        while time.monotonic() - start < options.minutes * 60:
            time.sleep(15)
            scrapes += 1
            for index, agent in enumerate(agents):
                at = agent.cpu_ms()
                agent.scrape()
                in_scrapes[index] += agent.cpu_ms() - at
        seconds = time.monotonic() - start
        figures = []
        for agent, at, spent in zip(agents, before, in_scrapes):
            milliseconds, (resident, anonymous) = agent.cpu_ms() - at, agent.resident()
            text = agent.text()
            told = [line for line in text.splitlines() if line and line[0] != "#"]
            names = len(set(re.findall(r'^container_memory_rss\{(?:.*?,)?name="([^"]+)"', text, re.M)))
            figures.append((milliseconds, resident))
            print(f"  {agent.name:10} {milliseconds:8.0f} ms CPU in all ({milliseconds / seconds / 10:.3f} % of a core), {spent / scrapes:6.2f} ms in a scrape, "
                  f"{len(told):5} series of {names} containers, {resident:5.1f} MiB resident ({anonymous:.1f} anonymous)", flush=True)
        (own, memory), (theirs, their_memory) = figures
        good = verdict(own <= theirs / 20, f"CPU {own / theirs:.4f} of cAdvisor's (limit 0.0500)")
        return good & verdict(memory <= their_memory / 3, f"memory {memory / their_memory:.3f} of cAdvisor's (limit 0.333)")
    finally:
        for agent in agents:
            agent.stop()
        engine.stop()
        simulated.remove_cgroups()
        shutil.rmtree(root, ignore_errors=True)


def main():
    cli = argparse.ArgumentParser(usage=__doc__)
    cli.add_argument("binary", nargs="?")
    cli.add_argument("--containers", type=int, action="append", default=[])
    cli.add_argument("--churn", type=int, default=10000)
    cli.add_argument("--scrapes", type=int, default=500)
    cli.add_argument("--peer")
    cli.add_argument("--minutes", type=float, default=5)
    cli.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    cli.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    options = cli.parse_args()
    # A ledger of the containers of the last benchmark would be this one's memory.
    state = tempfile.TemporaryDirectory(prefix="skep-bench-state-")
    options.state = f"--state-dir={state.name}"
    binary = options.binary or scrape.built()
    if options.inside:
        sys.exit(0 if inside(binary, options.inside, options) else 1)
    if os.geteuid() != 0:
        sys.exit("cgroups and network namespaces take root")
    if options.peer:
        # In a network namespace of its own: two engines in one would fight for their bridge.
        if not options.apart:
            os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, "--apart", *sys.argv[1:]])
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        sys.exit(0 if beside(binary, options.peer, options) else 1)
    good = True
    for position, count in enumerate(options.containers or [100, 1000]):
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, __file__, f"--inside={count}", binary,
                   f"--scrapes={options.scrapes}", f"--churn={0 if position else options.churn}"]
        try:
            good &= subprocess.run(command).returncode == 0
        finally:
            simulated.remove_cgroups()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
