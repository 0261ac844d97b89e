"""One Docker engine by itself, in a network namespace of its own, to be frozen, killed and started again.

Unlike the Swarm's engines it runs with `live-restore`: its containers go on without it."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import netns
from common import LabError, need_root, need_tools, run, wait_for, work_dir

NAMESPACE = "skep-lab-one"
PARENT = "skep-lab-one"    # its cgroups
STATE = Path("/run/skep-lab-one.json")


class OneEngine:
    def __init__(self):
        need_root()
        need_tools("docker", "dockerd", "ip", "iptables", "nsenter")
        self.process = None
        self._clear()
        self.base = work_dir("one")
        self.home = self.base / "one-engine"
        self.home.mkdir()
        STATE.write_text(json.dumps({"pid": os.getpid(), "base": str(self.base)}))
        self.socket = self.home / "docker.sock"
        self.log = self.home / "dockerd.log"
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        # Look-ups and whatever a container wants from the world are refused at once.
        run("ip", "-n", NAMESPACE, "route", "add", "unreachable", "default")
        self.start()

    def _clear(self):
        """What a test that was killed in the middle left behind goes; one that runs is left alone."""
        try:
            state = json.loads(STATE.read_text())
        except (OSError, ValueError):
            return
        if Path(f"/proc/{state['pid']}").exists() and state["pid"] != os.getpid():
            raise LabError(f"process {state['pid']} has such an engine already; one at a time")
        self.base = Path(state["base"])
        self.home = self.base / "one-engine"
        self.down()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net={netns.named(NAMESPACE)}", "dockerd", "--config-file", self._config(), "--data-root", self.home / "data",
                 "--exec-root", self.home / "exec", "--pidfile", self.home / "pid", "-H", f"unix://{self.socket}", "--cgroup-parent", f"/{PARENT}",
                 "--exec-opt", "native.cgroupdriver=cgroupfs", "--live-restore", "--log-driver", "json-file"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(f"the engine (log: {self.log})", lambda: self.docker("info", timeout=20), 60)

    def _config(self):
        file = self.home / "daemon.json"
        file.write_text("{}\n")
        return file

    def docker(self, *command, check=True, timeout=120, **more):
        return run("docker", "-H", f"unix://{self.socket}", *command, check=check, timeout=timeout, **more)

    def kill(self):
        """As a crash would end it. Its containerd goes with it; while that is a zombie, the next engine would take it to be at work, and wait for it in vain."""
        containerd = (self.home / "exec/containerd/containerd.pid").read_text().strip()
        self.process.kill()
        self.process.wait()
        wait_for("the engine's containerd to go", lambda: not os.path.exists(f"/proc/{containerd}"), 30, every=0.05)

    def stop(self):
        """As it ends when the machine's manager asks it to."""
        self.process.terminate()
        self.process.wait(60)

    def signal(self, number):
        self.process.send_signal(number)

    def down(self):
        """Everything that is in its network namespace or in its cgroups ends; then these go, then the folder."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        end = time.monotonic() + 30
        while (left := self._processes()):
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if time.monotonic() > end:
                raise LabError(f"these processes of the engine do not end: {sorted(left)}")
            time.sleep(0.1)
        run("ip", "netns", "del", NAMESPACE, check=False)
        wait_for("the cgroups of the engine to go", self._no_cgroups, 20)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in reversed([m for m in mounts if m.startswith(f"{self.home}/")]):
            run("umount", "-l", place, check=False)
        shutil.rmtree(self.home, ignore_errors=True)
        STATE.unlink(missing_ok=True)
        if not os.environ.get("SKEP_LAB_DIR"):
            shutil.rmtree(self.base, ignore_errors=True)

    @staticmethod
    def _processes():
        """The engine's own (engine, containerd, shims) and what runs in its containers; zombies do not count."""
        named = netns.named(NAMESPACE)
        mine = os.stat(named).st_ino if os.path.exists(named) else None
        found = set()
        for entry in filter(str.isdigit, os.listdir("/proc")):
            if int(entry) == os.getpid():
                continue
            try:
                inode = os.stat(f"/proc/{entry}/ns/net").st_ino
                groups = Path(f"/proc/{entry}/cgroup").read_text()
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and (inode == mine or f":/{PARENT}/" in groups):
                # What is frozen does not end until it is thawed.
                _thaw(groups)
                found.add(int(entry))
        return found

    @staticmethod
    def _no_cgroups():
        base = Path("/sys/fs/cgroup")
        tops = [p for p in (base / PARENT, *base.glob(f"*/{PARENT}")) if p.is_dir()]
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
        return not any(p.is_dir() for p in tops)


def _thaw(groups):
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer" and path.startswith(f"/{PARENT}/"):
            try:
                Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").write_text("THAWED")
            except OSError:
                pass
