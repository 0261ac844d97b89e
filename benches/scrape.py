#!/usr/bin/env python3
"""benches/scrape.py [BINARY]: what a scrape costs, beside node_exporter where it is installed (Debian: prometheus-node-exporter).

Both are asked as Prometheus asks, with gzip over a connection that stays, one after the other on the same machine in the same minute, for the same collectors.
CPU time is what the kernel counts for the process, so other load on the machine matters little.
"""
import http.client
import pathlib
import shutil
import subprocess
import sys
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
COLLECTORS = "cpu diskstats filefd filesystem loadavg meminfo netdev netstat pressure sockstat stat time uname vmstat".split()
PORT = 17560
SCRAPES = 1000
TICK_MS = 10


def cpu_ms(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def resident_kib(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))


def measure(name, command, path):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)

        def scrape():
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            return len(connection.getresponse().read())

        for _ in range(100):
            try:
                scrape()
                break
            except OSError:
                connection.close()
                time.sleep(0.1)
        at_rest = resident_kib(process.pid)
        for _ in range(50):
            size = scrape()
        before = cpu_ms(process.pid)
        for _ in range(SCRAPES):
            scrape()
        cost = (cpu_ms(process.pid) - before) / SCRAPES
        print(f"{name:34} {cost:6.2f} ms CPU a scrape, {size / 1024:5.1f} KiB gzipped, "
              f"{at_rest / 1024:5.1f} MiB resident after the first scrape, {resident_kib(process.pid) / 1024:5.1f} MiB after {SCRAPES}", flush=True)
        return cost
    finally:
        process.kill()
        process.wait()


def main():
    target = PROJECT / "target"
    binary = sys.argv[1] if len(sys.argv) > 1 else next(
        (str(path) for path in [*target.glob("*/dist/skep"), *target.glob("*/release/skep"), target / "release/skep"] if path.is_file()), None)
    if not binary:
        sys.exit("no release build: cargo build --release, or name a binary")
    address = f"--web.listen-address=127.0.0.1:{PORT}"
    own = measure("skep, the same collectors", [binary, address], "/metrics/node")
    measure("skep, everything", [binary, address], "/metrics")
    peer = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if not peer:
        print("node_exporter is not installed: nothing to compare with")
        return
    same = [peer, address, "--collector.disable-defaults", "--web.disable-exporter-metrics", *(f"--collector.{name}" for name in COLLECTORS)]
    theirs = measure("node_exporter, the same collectors", same, "/metrics")
    measure("node_exporter, everything", [peer, address], "/metrics")
    print(f"skep takes {own / theirs:.2f} of node_exporter's CPU time for the same collectors")


if __name__ == "__main__":
    main()
