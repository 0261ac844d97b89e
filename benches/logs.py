#!/usr/bin/env python3
"""benches/logs.py [--lines N] [--rounds N] [--gzip] [--fluent-bit BINARY] [--filebeat BINARY] [BINARY]: how fast a container's log becomes acknowledged records.

One json-file of N lines (2 000 000) of 200 bytes, already there when the shipper starts; the shipper on one core, on the other a server that takes _bulk
requests, counts their documents and answers that all were created. Each shipper has the file to itself, from its start to the answer behind the last line; what
is told is the median of the rounds (3): lines a second of wall time, and lines a second of the shipper's own CPU time. The records are complete: time, stream,
message, file, offset, the container's name and image, host; skep's have their _id besides.

  skep beside Fluent Bit   at least 1.5 times its lines a second without gzip, 3 times with it
  skep beside Filebeat     at least 7 times without, 5 times with
  resident memory          at most 30 MB

The status is 1 when a limit is missed. No engine is needed, nor root.
"""
import argparse
import http.server
import json
import os
import pathlib
import re
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import scrape

ID = "5ce1" * 16
PORT, METRICS_PORT = 19470, 19471


class Bulk(http.server.BaseHTTPRequestHandler):
    """A server that takes everything: GET / as Elasticsearch answers it, and _bulk."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body):
        # In one piece: a second one would wait for the other side's late acknowledgement of the first.
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def do_GET(self):
        self.answer(b'{"name":"bench","cluster_name":"bench","cluster_uuid":"bench","version":{"number":"8.15.0","build_flavor":"default"},"tagline":"You Know, for Search"}')

    def do_HEAD(self):
        self.answer(b"")

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(b'{"acknowledged":true}')

    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wire = len(body)
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 31)
        count = body.count(b"\n") // 2
        if "filter_path" in self.path and "items.*.status" not in self.path:
            answer = b'{"errors":false}'
        else:
            answer = b'{"took":1,"errors":false,"items":[' + b",".join([b'{"create":{"status":201}}'] * count) + b"]}"
        self.answer(answer)
        self.server.took(count, len(body), wire, body)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", PORT), Bulk)
        self.lock, self.whole = threading.Condition(), 0
        self.forget()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def forget(self):
        with self.lock:
            self.count = self.bytes = self.wire = 0
            self.example = b""

    def took(self, count, length, wire, body):
        with self.lock:
            self.count += count
            self.bytes += length
            self.wire += wire
            self.example = self.example or body[:4096]
            self.lock.notify_all()

    def wait(self, count, process, seconds=600):
        """Until so many documents have come, or the shipper has ended."""
        end = time.monotonic() + seconds
        with self.lock:
            while self.count < count:
                self.lock.wait(1)
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"only {self.count} of {count} documents came; the shipper's status is {process.poll()}")


def write_log(directory, lines):
    """A container's folder, as the engine has it."""
    folder = directory / ID
    folder.mkdir(parents=True)
    labels = {"com.docker.stack.namespace": "shop", "com.docker.swarm.service.id": "s" * 25, "com.docker.swarm.service.name": "shop_web",
              "com.docker.swarm.task": "", "com.docker.swarm.task.id": "t" * 25, "com.docker.swarm.task.name": "shop_web.1." + "t" * 25,
              "com.docker.swarm.node.id": "n" * 25}
    config = {"ID": ID, "Name": "/shop_web.1." + "t" * 25, "Config": {"Image": "shop/web:1", "Labels": labels, "Tty": False, "Env": []},
              "State": {"Running": True}, "LogPath": str(folder / f"{ID}-json.log")}
    (folder / "config.v2.json").write_text(json.dumps(config))
    (folder / "hostconfig.json").write_text(json.dumps({"LogConfig": {"Type": "json-file", "Config": {}}}))
    filler = "lorem ipsum dolor sit amet consetetur " * 6
    with open(folder / f"{ID}-json.log", "w", buffering=1 << 20) as out:
        for number in range(lines):
            text = f"INFO request {number:08} took {number % 997} ms user={number % 4711} "
            text += filler[: 199 - len(text)]
            second, nano = divmod(number * 100_000, 1_000_000_000)
            stamp = f"2026-11-20T10:{second // 60 % 60:02}:{second % 60:02}.{nano:09}Z"
            out.write(f'{{"log":"{text}\\n","stream":"stdout","time":"{stamp}"}}\n')
    return folder / f"{ID}-json.log"


def skep(binary, scratch, directory, gzip):
    return [binary, f"--docker.containers-dir={directory}", f"--docker.host=unix://{scratch}/none.sock", f"--state-dir={scratch}/state", "--logs.backfill=all",
            f"--web.listen-address=127.0.0.1:{METRICS_PORT}", "--route",
            f"elasticsearch://127.0.0.1:{PORT}?name=bench&gzip={str(gzip).lower()}"]


def fluent_bit(binary, scratch, directory, gzip):
    parsers, config = pathlib.Path(scratch) / "parsers.conf", pathlib.Path(scratch) / "fluent-bit.conf"
    parsers.write_text("[PARSER]\n    Name docker\n    Format json\n    Time_Key time\n    Time_Format %Y-%m-%dT%H:%M:%S.%LZ\n    Time_Keep On\n")
    config.write_text(f"""[SERVICE]
    flush 1
    parsers_file {parsers}
    storage.path {scratch}/fluent
[INPUT]
    Name tail
    Path {directory}/*/*-json.log
    Parser docker
    Path_Key path
    Offset_Key offset
    Read_from_Head On
    DB {scratch}/fluent.db
    Buffer_Max_Size 2M
    Mem_Buf_Limit 64M
    Refresh_Interval 1
[OUTPUT]
    Name es
    Match *
    Host 127.0.0.1
    Port {PORT}
    Suppress_Type_Name On
    Generate_ID Off
    Compress {"gzip" if gzip else ""}
    Workers 1
""".replace("    Compress \n", ""))
    return [binary, "-q", "-c", str(config)]


def filebeat(binary, scratch, directory, gzip):
    config = pathlib.Path(scratch) / "filebeat.yml"
    config.write_text(json.dumps({
        "filebeat.inputs": [{"type": "container", "paths": [f"{directory}/*/*-json.log"], "stream": "all", "allow_deprecated_use": True}],
        "output.elasticsearch": {"hosts": [f"http://127.0.0.1:{PORT}"], "compression_level": 1 if gzip else 0, "bulk_max_size": 2048, "worker": 1},
        "setup.ilm.enabled": False, "setup.template.enabled": False, "path.data": f"{scratch}/filebeat", "path.logs": f"{scratch}/filebeat-logs",
        "queue.mem.events": 8192}))
    config.chmod(0o600)
    return [binary, "-e", "-c", str(config)]


def resident_peak(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def run(server, command, lines, core):
    """Seconds from the start to the last answer, of wall and of CPU time, MiB, and bytes a document."""
    server.forget()
    log = tempfile.TemporaryFile()
    start = time.monotonic()
    process = subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log)
    try:
        server.wait(lines, process)
        wall, cpu = time.monotonic() - start, time.clock_gettime(~process.pid << 3 | 2)
        # Once more would be too many.
        time.sleep(1.5)
        if server.count != lines:
            sys.exit(f"{server.count} documents of {lines} lines")
        return wall, cpu, resident_peak(process.pid), server.bytes / lines, server.wire / lines
    except SystemExit:
        log.seek(0)
        print(log.read()[-2000:].decode(errors="replace"))
        raise
    finally:
        process.kill()
        process.wait()


def main():
    cli = argparse.ArgumentParser(usage=__doc__)
    cli.add_argument("binary", nargs="?")
    cli.add_argument("--lines", type=int, default=2_000_000)
    cli.add_argument("--rounds", type=int, default=3)
    cli.add_argument("--gzip", action="store_true", help="only with gzip; without this, without and with")
    cli.add_argument("--fluent-bit")
    cli.add_argument("--filebeat")
    options = cli.parse_args()
    binary = options.binary or scrape.built()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one is the shipper's")
    os.sched_setaffinity(0, cores[1:])
    shippers = [("skep", skep, binary), ("Fluent Bit", fluent_bit, options.fluent_bit), ("Filebeat", filebeat, options.filebeat)]
    limits = {("Fluent Bit", False): 1.5, ("Fluent Bit", True): 3, ("Filebeat", False): 7, ("Filebeat", True): 5}
    server, good = Server(), True
    with tempfile.TemporaryDirectory(prefix="skep-bench-logs-") as root:
        path = write_log(pathlib.Path(root) / "containers", options.lines)
        print(f"{options.lines} lines of 200 bytes, {path.stat().st_size / 1e6:.0f} MB of json-file")
        for gzip in [True] if options.gzip else [False, True]:
            print("with gzip" if gzip else "without gzip")
            rates = {}
            # In turn, for a machine is not the same from minute to minute.
            taken = {name: [] for name, _, program in shippers if program}
            for _ in range(options.rounds):
                for name, command, program in shippers:
                    if not program:
                        continue
                    with tempfile.TemporaryDirectory(dir=root) as scratch:
                        path.read_bytes()
                        taken[name].append(run(server, command(program, scratch, path.parents[1], gzip), options.lines, str(cores[0])))
            for name, rounds in taken.items():
                wall, cpu, memory, length, wire = (statistics.median(column) for column in zip(*rounds))
                rates[name] = options.lines / wall
                print(f"  {name:10} {options.lines / wall:9.0f} lines a second, {options.lines / cpu:9.0f} a second of CPU, {memory:6.1f} MiB at most, "
                      f"{length:4.0f} bytes a record ({wire:.0f} sent)", flush=True)
                if name == "skep":
                    fits = memory * 2**20 <= 30e6
                    good &= fits
                    print(f"  {'ok  ' if fits else 'MISS'} memory {memory * 2**20 / 1e6:.1f} MB of 30 MB")
            for name in [name for name in rates if name != "skep"]:
                ratio, limit = rates["skep"] / rates[name], limits[name, gzip]
                good &= ratio >= limit
                print(f"  {'ok  ' if ratio >= limit else 'MISS'} {ratio:.2f} times {name}'s (limit {limit:g})")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
