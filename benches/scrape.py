#!/usr/bin/env python3
"""benches/scrape.py [--scrapes N] [--pairs N] [--soak N] [--peer PATH]... [BINARY]: what a scrape costs, beside node_exporter.

Beside each other in the same minute, on the same machine, asked as Prometheus asks: with gzip, over a connection that stays. CPU time is what the kernel
counts for the process, so other load on the machine matters little. Three comparisons with each node_exporter that is there (Debian's
prometheus-node-exporter, and those named by --peer; `go install github.com/prometheus/node_exporter@v1.12.1` makes one):

  the same collectors, no container's interface        at most 1/6 of its CPU time
  the same with 50 veth pairs, counted in both         at most 1/3
  resident memory after all scrapes                    at most 1/2

The pairs live in namespaces of their own, which end with the benchmark (root; without it the second comparison is left out, and that is said). --soak N makes N
more scrapes of skep, and shows memory and descriptors before and after. The last table names the most expensive collectors. The status is 1 when a limit is missed.
"""
import argparse
import collections
import gzip
import http.client
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
PORT = 17560
# What node_exporter's flags leave out of a machine with containers, so that both show the same interfaces.
WITHOUT_VETH = ["--collector.netclass.ignored-devices=^veth", "--collector.netdev.device-exclude=^veth"]
WITH_VETH = ["--collector.as-node-exporter"]


class Agent:
    """A running exporter that is asked over one connection."""

    def __init__(self, name, command, path, port=PORT):
        self.name, self.path = name, path
        # A file, for node_exporter writes its errors anew at every scrape, and nobody reads a pipe here.
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(100):
            try:
                self.scrape()
                break
            except OSError:
                if self.process.poll() is not None:
                    self.log.seek(0)
                    sys.exit(f"{name} ended: {self.log.read().decode(errors='replace')[-400:]}")
                self.connection.close()
                time.sleep(0.1)
        else:
            sys.exit(f"{name} does not answer")

    def scrape(self):
        self.connection.request("GET", self.path, headers={"Accept-Encoding": "gzip"})
        return self.connection.getresponse().read()

    def text(self):
        return gzip.decompress(self.scrape()).decode()

    def cpu_ms(self):
        """Of all threads, those that ended too: the process' own clock (clock_getcpuclockid(3)), which is finer than the ticks in procfs."""
        return time.clock_gettime(~self.process.pid << 3 | 2) * 1000

    def resident(self):
        """MiB: all, and the part that is its own and no file's."""
        status = dict(re.findall(r"^(Rss\w+|VmRSS):\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text(), re.M))
        return int(status["VmRSS"]) / 1024, int(status["RssAnon"]) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def measure(self, scrapes):
        for _ in range(20):
            self.scrape()
        rounds = []
        for _ in range(5):
            before = self.cpu_ms()
            for _ in range(scrapes // 5):
                size = len(self.scrape())
            rounds.append((self.cpu_ms() - before) / (scrapes // 5))
        cost = statistics.median(rounds)
        series = sum(1 for line in self.text().splitlines() if line and line[0] != "#")
        resident, anonymous = self.resident()
        print(f"  {self.name:44} {cost:6.2f} ms CPU a scrape, {series:5} series, {size / 1024:5.1f} KiB gzipped, "
              f"{resident:5.1f} MiB resident ({anonymous:.1f} anonymous)", flush=True)
        return cost, resident

    def stop(self):
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


def compare(title, limit, binary, own_flags, peers, peer_flags, options):
    """True when the limits hold beside every peer."""
    print(title)
    good = True
    address = f"--web.listen-address=127.0.0.1:{PORT}"
    for version, peer in peers:
        agent = Agent("skep", [binary, address, *options.state, *own_flags], "/metrics/node")
        own, memory = agent.measure(options.scrapes)
        agent.stop()
        agent = Agent(f"node_exporter {version}", [peer, address, *peer_flags], "/metrics")
        theirs, their_memory = agent.measure(options.scrapes)
        agent.stop()
        fits = own <= theirs * limit and memory <= their_memory / 2
        print(f"  {'ok  ' if fits else 'MISS'} CPU {own / theirs:.3f} of {version} (limit {limit:.3f}), memory {memory / their_memory:.2f} (limit 0.50)")
        good &= fits
    return good


def shares(binary, flags, options):
    """The most expensive collectors, by their own word."""
    agent = Agent("skep", [binary, f"--web.listen-address=127.0.0.1:{PORT}", *options.state, *flags], "/metrics/node")
    seconds = collections.Counter()
    for _ in range(200):
        for name, value in re.findall(r'^node_scrape_collector_duration_seconds\{[^}]*collector="(\w+)"[^}]*\} (\S+)', agent.text(), re.M):
            seconds[name] += float(value) / 200
    agent.stop()
    total = sum(seconds.values())
    print(f"the most expensive collectors of skep (wall time of each, {total * 1000:.2f} ms together)")
    for name, value in seconds.most_common(8):
        print(f"  {name:20} {value * 1e6:8.0f} us  {value / total:6.1%}")


def soak(binary, options):
    agent = Agent("skep", [binary, f"--web.listen-address=127.0.0.1:{PORT}", *options.state], "/metrics")
    for _ in range(2000):
        agent.scrape()
    (resident, anonymous), descriptors = agent.resident(), agent.descriptors()
    print(f"soak: after 2000 scrapes {resident:.1f} MiB resident ({anonymous:.2f} anonymous), {descriptors} descriptors", flush=True)
    for _ in range(options.soak):
        agent.scrape()
    (resident_after, anonymous_after), after = agent.resident(), agent.descriptors()
    agent.stop()
    fits = anonymous_after - anonymous < 0.5 and after <= descriptors
    print(f"  {'ok  ' if fits else 'MISS'} after {options.soak} more {resident_after:.1f} MiB resident ({anonymous_after:.2f} anonymous), {after} descriptors")
    return fits


def veth_pairs(count):
    """Pairs whose other ends are in a namespace of their own, as containers' are. All of this is inside namespaces that end with this process."""
    run = lambda *words: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "docker0", "type", "bridge")
    holder = subprocess.Popen(["unshare", "-n", "sleep", "100000"])
    while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    for number in range(count):
        run("ip", "link", "add", f"veth{number:07x}", "type", "veth", "peer", "name", f"c{number}", "netns", str(holder.pid))
        run("ip", "link", "set", f"veth{number:07x}", "master", "docker0", "up")
    return holder


def built():
    """The release build that is there."""
    target = PROJECT / "target"
    builds = [*target.glob("*/dist/skep"), *target.glob("*/release/skep"), target / "release/skep"]
    return next((str(path) for path in builds if path.is_file()), None) or sys.exit("no release build: cargo build --release, or name a binary")


def version(peer):
    told = subprocess.run([peer, "--version"], capture_output=True, text=True)
    found = re.search(r"version (\d[\w.]*)", told.stdout + told.stderr)
    # `go install` leaves the version out; the binary knows its module's.
    if not found and shutil.which("go"):
        built = subprocess.run(["go", "version", "-m", peer], capture_output=True, text=True).stdout
        found = re.search(r"node_exporter\s+v(\d[\w.]*)", built)
    return found[1] if found else pathlib.Path(peer).name


def main():
    cli = argparse.ArgumentParser(usage=__doc__)
    cli.add_argument("binary", nargs="?")
    cli.add_argument("--scrapes", type=int, default=1000)
    cli.add_argument("--pairs", type=int, default=50)
    cli.add_argument("--soak", type=int, default=0)
    cli.add_argument("--peer", action="append", default=[])
    cli.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = cli.parse_args()
    state = tempfile.TemporaryDirectory(prefix="skep-bench-state-")
    options.state = [f"--state-dir={state.name}", "--docker.host=unix:///nothing"]
    binary = options.binary or built()
    peers = [peer for peer in [shutil.which("prometheus-node-exporter"), *options.peer] if peer]
    if options.inside:
        holder = veth_pairs(options.pairs)
        try:
            good = compare(f"{options.pairs} veth pairs, left out in both", 1 / 6, binary, [], [(version(peer), peer) for peer in peers], WITHOUT_VETH, options)
            good &= compare(f"{options.pairs} veth pairs, counted in both", 1 / 3, binary, WITH_VETH, [(version(peer), peer) for peer in peers], [], options)
            shares(binary, WITH_VETH, options)
        finally:
            holder.kill()
        sys.exit(0 if good else 1)
    if not peers:
        sys.exit("no node_exporter to compare with: apt-get install prometheus-node-exporter, or --peer PATH")
    good = compare("this machine as it is", 1 / 6, binary, [], [(version(peer), peer) for peer in peers], WITHOUT_VETH, options)
    shares(binary, [], options)
    if os.geteuid() == 0:
        inside = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, __file__, "--inside", binary,
                  f"--scrapes={options.scrapes}", f"--pairs={options.pairs}", *(f"--peer={peer}" for peer in options.peer)]
        good &= subprocess.run(inside).returncode == 0
    else:
        print(f"NOT RUN: {options.pairs} veth pairs take root")
    if options.soak:
        good &= soak(binary, options)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
