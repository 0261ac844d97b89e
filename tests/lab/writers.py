"""Containers that write numbered lines (numbers.c) as they are told, by the engine's API; and the agent that reads them."""

import contextlib
import ctypes
import http.client
import json
import mmap
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import urllib.error
import urllib.request

import images
import lines
import rotation
from common import LabError, wait_for

IMAGE = "numbers:1"
ROTATED = {"max-size": "1m", "max-file": "3"}
# What may be written to a rotated log while nobody reads it: with a live file and two predecessors of 1 MB, at least 2 MB of the newest lines are there.
UNREAD = 700_000
TOLD = ("gaps_total", "dropped_total", "given_up_total", "missed_total")
TARGET, RATE, QUIT, LINGER, WRITTEN, EMPTY, STARTS, ENDS = 0, 8, 16, 24, 32, 48, 64, 72


class Api:
    """The engine's HTTP API on its socket."""

    def __init__(self, path):
        self.path = str(path)

    def ask(self, method, url, body=None, timeout=60):
        connection = http.client.HTTPConnection("engine", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        try:
            connection.sock.connect(self.path)
            connection.request(method, url, json.dumps(body or {}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise LabError(f"{method} {url}: {answer.status} {text.decode(errors='replace')[:300]}")
            return json.loads(text or b"null")
        except http.client.HTTPException as error:
            raise LabError(f"{method} {url}: {error!r}") from error
        finally:
            connection.close()


class Writer:
    """A container, and the shared memory by which it is told how far to write and tells how far it has."""

    def __init__(self, lab, name, streams="oe", size=120, long_every=0, log=None, tty=False, remove=False):
        self.lab, self.name, self.streams, self.is_job = lab, name, streams, remove
        self.log_options = log or {}
        per_line = size + 90 + (37_000 / long_every * 1.05 if long_every else 0)
        # Lines that may be written while no agent reads.
        self.unread = max(2, int(UNREAD / per_line)) if self.log_options else 1 << 60
        self.per_line = per_line
        file = lab.controls / name
        file.write_bytes(bytes(4096))
        with open(file, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), 4096)
        self.started = {s: 0 for s in streams}     # the numbers before the row that runs
        self.spared = {s: set() for s in streams}  # what cannot arrive: the engine itself lost it, or the row was made for loss
        # Of a container that was killed with its last count: what the engine's files had of it.
        self.fixed = self.fixed_empty = None
        self.body = {"Image": IMAGE, "Cmd": [name, streams, str(size), str(long_every), "/control"], "Tty": tty, "NetworkDisabled": True,
                     "Labels": {"lab": "job" if remove else "writer"},
                     "HostConfig": {"AutoRemove": remove, "NetworkMode": "none", "Binds": [f"{file}:/control"],
                                    "LogConfig": {"Type": "json-file", "Config": self.log_options}}}

    def create(self):
        self.id = self.lab.api.ask("POST", f"/containers/create?name={self.name}", self.body)["Id"]
        return self

    def start(self):
        self.lab.api.ask("POST", f"/containers/{self.id}/start")
        return self

    def _get(self, at):
        return struct.unpack_from("<Q", self.memory, at)[0]

    def _set(self, at, value):
        struct.pack_into("<Q", self.memory, at, value)

    def grant(self, count, seconds):
        """So many lines more, in about so many seconds; 0 is as fast as it can."""
        self._set(RATE, max(1, int(count / seconds)) if seconds else 0)
        self._set(TARGET, self._get(TARGET) + count)

    def quit(self, count, linger=0):
        """So many lines more, the last of each stream without a line feed, and then its end."""
        self._set(LINGER, linger)
        self._set(RATE, 0)
        self._set(QUIT, 1)
        self._set(TARGET, self._get(TARGET) + count)

    def go_on(self):
        self._set(QUIT, 0)
        self.start()

    @property
    def target(self):
        return self._get(TARGET)

    @property
    def written(self):
        """By stream."""
        return self.fixed or {s: self._get(WRITTEN + 8 * "oe".index(s)) for s in self.streams}

    @property
    def empty(self):
        return self.fixed_empty or {s: self._get(EMPTY + 8 * "oe".index(s)) for s in self.streams}

    def is_done(self):
        return sum(self.written.values()) >= self.target and self.starts > 0

    @property
    def starts(self):
        return self._get(STARTS)

    def has_ended(self):
        return self._get(ENDS) > 0 and self._get(ENDS) == self._get(STARTS)

    @property
    def log_file(self):
        return self.lab.data / "containers" / self.id / f"{self.id}-json.log"

    def in_files(self):
        """What the engine's files have of it now (lines.stored)."""
        return lines.stored([path.read_bytes() for path in rotation.chain(self.log_file)])


class Agent:
    """The agent as a process of this machine, to be killed and started again."""

    def __init__(self, binary, lab, port, options, log):
        self.command = [str(binary), "run", "--docker.host", f"unix://{lab.socket}", "--docker.containers-dir", str(lab.data / "containers"),
                        "--state-dir", str(lab.state), "--web.listen-address", f"127.0.0.1:{port}", *options]
        self.base, self.log, self.process = f"http://127.0.0.1:{port}", log, None
        self.kills, self.before = 0, {}

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))

    def kill(self):
        if self.process.poll() is not None:
            raise LabError(f"the agent had ended by itself with {self.process.returncode} (log: {self.log})")
        self._remember()
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def stop(self):
        """SIGTERM; gives its exit status, None when it had to be killed."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self._remember()
        self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def _remember(self):
        """What the next process does not know."""
        with contextlib.suppress(OSError):
            self.before = self.told()

    def told(self):
        """All that this agent and those before it have told of lines that did not arrive: gaps, and what was dropped or given up, by reason."""
        now = {key.removeprefix("skep_log_"): value for key, value in self.sums().items() if ":" in key and any(word in key for word in TOLD)}
        return {key: self.before.get(key, 0) + now.get(key, 0) for key in {*self.before, *now}}

    def sums(self):
        """skep's own counters and gauges of logs, by name and, where there is a reason or the like, by that; summed over routes."""
        with urllib.request.urlopen(self.base + "/metrics/skep", timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for name, labels, value in re.findall(r"^(skep_log_\w+?)(?:\{(.*)\})? (\S+)$", text, re.M):
            own = re.findall(r'(?:reason|code|operation|unit|state)="([^"]*)"', labels)
            for key in {name, *(f"{name}:{word}" for word in own)}:
                found[key] = found.get(key, 0) + float(value)
        return found

    def part(self, name):
        """The state of a part, as /readyz tells it."""
        try:
            with urllib.request.urlopen(self.base + "/readyz", timeout=10) as answer:
                text = answer.read()
        except urllib.error.HTTPError as degraded:
            text = degraded.read()
        return json.loads(text)["parts"][name]["state"]

    def wait_ready(self):
        wait_for("the agent to answer", self.sums, 60, every=0.05)


def load_image(engine):
    root = images.Root(IMAGE, ['ENTRYPOINT ["/numbers"]'])
    root.file(images.writer_binary("numbers"), "numbers")
    root.text("control", "")
    images.load([engine], root)


def empty_folder(folder):
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
