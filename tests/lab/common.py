"""What every part of the lab shares: paths, running commands, bounded waiting, the PASS/FAIL report."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
# Where the static binary lies that `cargo build` made; the first that exists is taken.
BINARIES = [
    PROJECT / "target/x86_64-unknown-linux-gnu/dist/skep",
    PROJECT / "target/x86_64-unknown-linux-gnu/release/skep",
    PROJECT / "target/x86_64-unknown-linux-musl/dist/skep",
    PROJECT / "target/x86_64-unknown-linux-musl/release/skep",
]


class LabError(Exception):
    """Something the lab itself needs is missing or did not happen: no verdict on skep."""


def cache_dir():
    """What is slow to make and the same for every run (jars, the guest's root file system)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(base) / "skep-lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def work_dir(name):
    """A directory of this run: $SKEP_LAB_DIR if set, else a fresh one below /var/tmp."""
    given = os.environ.get("SKEP_LAB_DIR")
    if given:
        path = Path(given).resolve()
        path.mkdir(parents=True, exist_ok=True)
        return path
    return Path(tempfile.mkdtemp(prefix=f"skep-{name}-", dir="/var/tmp"))


def find_binary(given):
    """The agent to test. It has to be static: the image has nothing but it."""
    candidates = [Path(given)] if given else BINARIES
    for path in candidates:
        if path.is_file():
            return path.resolve()
    raise LabError("no skep binary: build it (see README.md) or name one with --binary; looked at: "
                   + ", ".join(map(str, candidates)))


def run(*command, check=True, timeout=120, **more):
    """A command to its end; its output as text. A failure says what was run and what it answered."""
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: status {done.returncode}: "
                       f"{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def need_tools(*tools):
    missing = [t for t in tools if not shutil.which(t, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)} (see README.md)")


def need_root():
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and mounts: it has to run as root")


def wait_for(what, condition, timeout, every=0.2):
    """Polls until `condition` gives something true, and gives that back. It never waits longer than `timeout` seconds."""
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, LabError, ValueError, KeyError, subprocess.SubprocessError) as error:
            last = error
        if time.monotonic() >= end:
            raise LabError(f"waited {timeout} s in vain for {what}; last seen: {str(last)[:500]}")
        time.sleep(every)


def free_port():
    """A port of this machine's that nobody has now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def digest_of(*parts):
    """A short key for a cache entry out of all that went into it."""
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else str(part).encode())
        h.update(b"\0")
    return h.hexdigest()[:16]


def say(*words):
    """Progress, on stderr, with the time since the start: stdout is for results."""
    print(f"[{time.monotonic() - _START:6.1f} s]", *words, file=sys.stderr, flush=True)


_START = time.monotonic()


class Report:
    """Counts checks and prints one line for each; `close()` prints the sum and gives the exit status."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, good, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
        print(f"{'PASS' if good else 'FAIL'} {name}" + (f": {detail}" if detail else ""), flush=True)
        return bool(good)

    def close(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1
