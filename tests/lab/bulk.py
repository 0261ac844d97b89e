#!/usr/bin/env python3
"""A scripted server of `_bulk` requests: it keeps what it took of numbered lines (numbers.c), answers truthfully for each item, and fails as it is told to.

Run as a program it takes requests on --port and commands on standard input, each a line of JSON with a line of JSON for an answer. `Sink` is the other end:
a process of its own, so that it can be stopped with a signal."""

import argparse
import ctypes
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from array import array
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import lines

REFUSAL = {"type": "mapper_parsing_exception", "reason": "the script refuses it"}
TOO_MUCH = {"type": "es_rejected_execution_exception", "reason": "the script has too much to do"}


class Sink:
    """The handle of a sink's process."""

    def __init__(self, port, seed, log):
        self.port = port
        with open(log, "ab") as errors:
            self.process = subprocess.Popen([sys.executable, __file__, "--port", str(port), "--seed", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, text=True, preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        self.ask("state")

    def ask(self, command, **more):
        self.process.stdin.write(json.dumps({"command": command, **more}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise OSError(f"the scripted sink ended with {self.process.wait()}")
        return json.loads(answer)

    def fault(self, kind, **more):
        self.ask("fault", kind=kind, **more)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Stream:
    """What came of one stream of one writer."""

    def __init__(self):
        self.there = bytearray(1)      # by number: 1 if it is stored, 2 if it was refused
        self.stored = self.refused = self.empty = 0
        # What came since the last look, in the order of its coming; an empty line has the number -1.
        self.times, self.offsets, self.numbers = array("q"), array("q"), array("q")
        self.last = (0, 0, 0)
        self.identities = set()        # (container.id, container.name, stream) as the records have them


class Store:
    def __init__(self):
        self.lock = threading.Lock()
        self.streams, self.keys, self.ids = {}, [], {}
        self.strange = {}              # what is no line of a writer as it wrote it: (container, stream, time, checksum) -> the text's beginning
        self.created = self.duplicates = self.requests = self.documents = 0
        self.repeated, self.collisions = [], []

    def take(self, body, verdict):
        """Every document of a request: its status each."""
        parts = body.split(b"\n")
        answer = []
        with self.lock:
            for i in range(0, len(parts) - 1, 2):
                self.documents += 1
                answer.append(self._document(json.loads(parts[i])["create"]["_id"], parts[i + 1], verdict))
        return answer

    def _document(self, identity, text, verdict):
        document = json.loads(text)
        container, stream, when, message = lines.fields(document)
        line = lines.parse(message)
        name = line.name if line else container[1]
        letter = stream[3]             # stdOut, stdErr
        key = (name, letter)
        of = self.streams.get(key)
        if of is None:
            of = self.streams[key] = Stream()
            of.index = len(self.keys)
            self.keys.append(key)
        nanoseconds = lines.nanoseconds(when)
        if line and line.stream == letter:
            number, same = line.number, line.number
        else:
            number, same = -1, nanoseconds
        same = (of.index, same)
        known = self.ids.get(identity)
        if known is not None:
            # Whatever has the id of another line would be thought to be stored, and is lost.
            if known != same:
                self.collisions.append([*key, number, identity])
            self.duplicates += 1
            return 409
        if number > 0:
            if number >= len(of.there):
                of.there.extend(bytes(number + 1024 - len(of.there)))
            status = 400 if of.there[number] == 2 else verdict(number)
            if status != 201:
                if status == 400 and of.there[number] == 0:
                    of.there[number] = 2
                    of.refused += 1
                return status
            if of.there[number]:
                self.repeated.append([*key, number])
            else:
                of.stored += 1
            of.there[number] = 1
        elif message in ("", "\r"):
            of.empty += 1
        else:
            self.strange[f"{container[0]} {letter} {nanoseconds} {zlib.crc32(message.encode())}"] = message[:200]
            self.ids[identity] = same
            self.created += 1
            return 201
        self.ids[identity] = same
        self.created += 1
        of.identities.add((*container, stream))
        of.times.append(nanoseconds)
        of.offsets.append(document["log.offset"] if "log.offset" in document else document["log"]["offset"])
        of.numbers.append(number)
        return 201

    def counts(self):
        """What is there of each stream: stored, refused, empty lines."""
        with self.lock:
            return {f"{name} {letter}": [of.stored, of.refused, of.empty] for (name, letter), of in self.streams.items()}

    def progress(self):
        """Documents that came, known ones too."""
        return self.documents

    def missing(self, ranges):
        """Of each stream the numbers between two that are not there."""
        with self.lock:
            found = {}
            for key, (first, last) in ranges.items():
                of = self.streams.get(tuple(key.split(" ")))
                there = of.there if of else b""
                if of and len(there) > last and not there.count(0, first, last + 1):
                    continue
                gone = [n for n in range(first, last + 1) if n >= len(there) or not there[n]]
                if gone:
                    found[key] = gone
            return found

    def disorder(self, holes=False):
        """Sorted by time and offset, what came since the last look has to go on behind what came before, number by number, each empty line behind its own, unless
        there may be holes."""
        with self.lock:
            found = []
            for key, of in self.streams.items():
                for entry in sorted(zip(of.times, of.offsets, of.numbers)):
                    before = of.last
                    if entry[:2] <= before[:2] or (entry[2] == -1 and before[2] % 50 and not holes) or (entry[2] != -1 and entry[2] <= before[2]):
                        found.append([*key, list(before), list(entry)])
                    of.last = (*entry[:2], before[2] if entry[2] == -1 else entry[2])
                of.times, of.offsets, of.numbers = array("q"), array("q"), array("q")
            return found

    def known(self, key, times):
        """Whether there are empty lines of a stream with these times."""
        with self.lock:
            of = self.streams[tuple(key)]
            if not times:
                return []
            there = {same for index, same in self.ids.values() if index == of.index}
            return [when in there for when in times]

    def refused(self):
        with self.lock:
            return [[*key, n] for key, of in self.streams.items() for n, there in enumerate(of.there) if there == 2]

    def state(self):
        with self.lock:
            identities = {f"{name} {letter}": sorted(of.identities) for (name, letter), of in self.streams.items()}
            return {"created": self.created, "duplicates": self.duplicates, "requests": self.requests, "documents": self.documents, "repeated": self.repeated,
                    "collisions": self.collisions, "identities": identities, "strange": self.strange}


class Server:
    """The faults, and the sockets that they are done to."""

    def __init__(self, port, seed):
        self.port, self.random, self.store = port, random.Random(seed), Store()
        self.lock = threading.Lock()
        self.listener, self.connections, self.done = None, set(), {}
        self.kind, self.more = "none", {}
        self.open()

    def open(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", self.port))
        s.listen(64)
        self.listener = s
        threading.Thread(target=self._accept, args=(s,), daemon=True).start()

    def set(self, kind, more):
        """From now on; gives how often faults of each kind were done until now."""
        with self.lock:
            self.kind, self.more = kind, more
            stale = set(self.connections) if kind == "away" else set()
        if kind == "away" and self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)   # close() alone does not wake accept()
            self.listener.close()
            self.listener = None
        for connection in stale:
            reset(connection)
        if kind != "away" and self.listener is None:
            self.open()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection.makefile("rb") as stream:
                while self._request(connection, stream):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def _request(self, connection, stream):
        first = stream.readline()
        if not first:
            return False
        length, packed = 0, False
        while (header := stream.readline().strip()):
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"content-encoding":
                packed = value.strip() == b"gzip"
        body = stream.read(length)
        if len(body) < length:
            return False
        if not first.startswith(b"POST"):
            return send(connection, 200, b'{"acknowledged":true,"version":{"number":"7.17.0"}}')
        self.store.requests += 1
        return self._bulk(connection, zlib.decompress(body, 31) if packed else body)

    def _bulk(self, connection, body):
        with self.lock:
            kind, more = self.kind, self.more
            if kind == "all":
                kind, more = self.random.choice([("busy", {"share": 0.1, "whole": 0.1}), ("none", {}), ("cut", {"share": 1}), ("silent", {"share": 0.3}),
                                                 ("closed", {"share": 1}), ("none", {}), ("large", {"above": 1 << 19}), ("none", {})])
            hit = self.random.random() < more.get("share", 0)
            choose = random.Random(self.random.random())
        if kind == "busy" and choose.random() < more["whole"]:
            self._count("whole requests refused for now")
            return send(connection, choose.choice([429, 503]), b'{"error":{"type":"busy","reason":""},"status":429}')
        if kind == "large" and len(body) > more["above"]:
            self._count("requests too large")
            return send(connection, 413, b"")
        if kind == "silent" and hit and choose.random() < 0.5:
            self._count("requests neither taken nor answered")
            return connection.recv(1) != b""
        verdict = lambda _: 201
        if kind == "busy":
            verdict = lambda _: 201 if choose.random() >= more["share"] else choose.choice([429, 503])
        if kind == "refuse":
            # An empty line's own number stays.
            verdict = lambda number: 400 if number % more["every"] == 0 and number % 50 else 201
        statuses = self.store.take(body, verdict)
        for status in set(statuses) - {201, 409}:
            self._count(f"items answered {status}", statuses.count(status))
        if kind in ("silent", "cut", "closed") and hit:
            self._count({"silent": "requests taken and not answered", "cut": "answers cut", "closed": "requests taken, connection closed"}[kind])
            if kind == "silent":
                return connection.recv(1) != b""
            if kind == "cut":
                send(connection, 200, encode(statuses), choose.uniform(0.01, 0.99))
            if choose.random() < 0.5:
                reset(connection)
            return False
        return send(connection, 200, encode(statuses))

    def _count(self, what, number=1):
        with self.lock:
            self.done[what] = self.done.get(what, 0) + number

    def command(self, words):
        command = words.pop("command")
        if command == "fault":
            self.set(words.pop("kind"), words)
            return {}
        if command == "done":
            with self.lock:
                done, self.done = self.done, {}
            return done
        return getattr(self.store, command)(**words)


def encode(statuses):
    error = {400: REFUSAL, 429: TOO_MUCH, 503: TOO_MUCH, 409: {"type": "version_conflict_engine_exception", "reason": "it is there"}}
    text = {s: json.dumps({"create": {"status": s, **({"error": error[s]} if s in error else {})}}) for s in set(statuses)}
    return ('{"errors":%s,"items":[%s]}' % ("true" if set(statuses) - {201} else "false", ",".join(text[s] for s in statuses))).encode()


def send(connection, status, body, share=1.0):
    head = f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nX-elastic-product: Elasticsearch\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection.sendall(head + body[:int(len(body) * share)])
    return True


def reset(connection):
    """Ends it with RST, and wakes whoever reads of it."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--port", type=int, required=True)
    cli.add_argument("--seed", type=int, required=True)
    options = cli.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # Ctrl-C is the test's
    server = Server(options.port, options.seed)
    for line in sys.stdin:
        print(json.dumps(server.command(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
