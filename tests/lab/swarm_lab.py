"""Three Docker engines in three network namespaces as one Swarm, and how to take them down without a trace.

    skep-lab-b               the wire: a bridge with 10.78.0.1; the servers of a test listen here
    skep-lab-1, -2, -3       a node each: eth0 with 10.78.0.1N on the wire, an own host name, an own /run

node-1 is the manager, node-2 and node-3 are workers. In a node's mount namespace everything is where a real host has it
(/run/docker.sock, /etc/hostname), so unmodified stack files with their bind mounts work. The nodes share one kernel."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import netns
from common import LabError, need_root, need_tools, run, wait_for, work_dir

STATE = Path("/run/skep-lab.json")   # where the lab is that is up; there can be one on a machine
WIRE = "skep-lab-b"
WIRE_ADDRESS = "10.78.0.1"
NODES = (1, 2, 3)


class Node:
    def __init__(self, number, home):
        self.number = number
        self.hostname = f"node-{number}"
        self.address = f"10.78.0.1{number}"
        self.namespace = netns.named(f"skep-lab-{number}")
        self.home = Path(home) / f"n{number}"
        self.socket = self.home / "run/docker.sock"
        self.log = self.home / "dockerd.log"
        self.data = self.home / "data"

    def docker(self, *command, check=True, timeout=120, **more):
        return run("docker", "-H", f"unix://{self.socket}", *command, check=check, timeout=timeout, **more)

    def containers(self, *filters, every=False):
        """`docker inspect` of the containers here, the running ones if not asked for all."""
        wanted = [word for f in filters for word in ("--filter", f)]
        ids = self.docker("ps", "-q", "--no-trunc", *(["-a"] if every else []), *wanted).split()
        if not ids:
            return []
        # One may go between the two calls: what is left is still printed
        return json.loads(self.docker("inspect", *ids, check=False) or "[]")

    def of_service(self, service, every=False):
        return self.containers(f"label=com.docker.swarm.service.name={service}", every=every)


class Swarm:
    def __init__(self, home):
        self.home = Path(home)
        self.wire = netns.named(WIRE)
        self.nodes = [Node(n, home) for n in NODES]
        self.manager = self.nodes[0]

    def docker(self, *command, **more):
        return self.manager.docker(*command, **more)


def current():
    """The Swarm that is up, or None."""
    try:
        return Swarm(json.loads(STATE.read_text())["home"])
    except (OSError, ValueError, KeyError):
        return None


def up():
    need_root()
    need_tools("docker", "dockerd", "ip", "iptables", "nsenter", "unshare")
    if STATE.exists() or _namespaces():
        raise LabError("a lab is up already, or was left behind: `swarm down` first")
    # The state comes first: whatever happens from here on, `down` knows where to look.
    home = work_dir("lab") / "swarm"
    if len(str(home)) > 80:
        raise LabError(f"{home}: too long a path for a unix socket")
    state = {"home": str(home), "pids": {}}
    _remember(state)
    home.mkdir()
    swarm = Swarm(home)
    _wire()
    for node in swarm.nodes:
        state["pids"][node.hostname] = _start(node).pid
        _remember(state)
    for node in swarm.nodes:
        wait_for(f"the engine of {node.hostname} (log: {node.log})", lambda n=node: n.docker("info", timeout=20), 60)
    first = swarm.manager
    first.docker("swarm", "init", "--advertise-addr", first.address)
    token = first.docker("swarm", "join-token", "-q", "worker").strip()
    for node in swarm.nodes[1:]:
        node.docker("swarm", "join", "--token", token, "--advertise-addr", node.address, f"{first.address}:2377")
    wait_for("three ready nodes",
             lambda: first.docker("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * len(NODES), 60)
    return swarm


def _remember(state):
    new = STATE.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.rename(STATE)


def _wire():
    run("ip", "netns", "add", WIRE)
    for line in ("link set lo up", "link add br0 type bridge", f"addr add {WIRE_ADDRESS}/24 dev br0", "link set br0 up",
                 # whatever a container wants from the world is refused at once instead of being waited for
                 "route add unreachable default"):
        run("ip", "-n", WIRE, *line.split())
    netns.inside(netns.named(WIRE), lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
    for n in NODES:
        name = f"skep-lab-{n}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"v{n}", "netns", WIRE, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", WIRE, "link", "set", f"v{n}", "master", "br0", "up")
        for line in ("link set lo up", f"addr add 10.78.0.1{n}/24 dev eth0", "link set eth0 up",
                     f"route add default via {WIRE_ADDRESS}"):
            run("ip", "-n", name, *line.split())


def _start(node):
    for folder in (node.home / "run", node.data):
        folder.mkdir(parents=True)
    # Nothing listens on port 53 of the wire: the answer to every look-up is "refused", at once. Without that the engines
    # would wait for a name server before each start of a task, since Swarm tries to pull what is already there.
    # It is not a loopback address, for Docker replaces those by public name servers inside containers.
    resolver = f"nameserver {WIRE_ADDRESS}\noptions timeout:1 attempts:1\n"
    (node.home / "resolv.conf").write_text(resolver)
    (node.home / "hostname").write_text(node.hostname + "\n")
    (node.home / "daemon.json").write_text("{}\n")
    mounts = [f"mount --bind {node.home}/hostname /etc/hostname"]
    real = os.path.realpath("/etc/resolv.conf")
    if real.startswith("/run/"):  # a systemd-resolved host: the link leads into the /run that is replaced
        inside = node.home / real.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(resolver)
    else:
        mounts.append(f"mount --bind {node.home}/resolv.conf {real}")
    # `ip netns exec` does not do: it mounts a /sys of its own, and the engine finds no cgroups there.
    script = "; ".join(["set -e", f"hostname {node.hostname}", *mounts, f"mount --bind {node.home}/run /run", " ".join([
        "exec dockerd", f"--config-file {node.home}/daemon.json", f"--data-root {node.data}", "--exec-root /run/docker",
        "--pidfile /run/docker.pid", "-H unix:///run/docker.sock", f"--cgroup-parent /skep-lab-{node.number}",
        "--exec-opt native.cgroupdriver=cgroupfs", "--metrics-addr 0.0.0.0:9323",
        "--log-driver json-file --log-opt max-size=10m --log-opt max-file=5",
    ])])
    with open(node.log, "ab") as log:
        return subprocess.Popen(
            ["nsenter", f"--net={node.namespace}", "unshare", "-u", "-m", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


# --- down: by what belongs to the lab, never by a program's name ------------------------------------------------------

def down():
    """Everything that is in the lab's network namespaces or in its cgroups ends; then these go, then the folder."""
    need_root()
    state = {}
    try:
        state = json.loads(STATE.read_text())
    except (OSError, ValueError):
        pass
    end = time.monotonic() + 30
    while True:
        left = _processes()
        # The engines first, lest they start again what is killed after them.
        engines = left & set(state.get("pids", {}).values())
        for pid in engines or left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not left:
            break
        if time.monotonic() > end:
            raise LabError(f"these processes of the lab do not end: {sorted(left)}")
        time.sleep(0.1)
    for name in _namespaces():
        run("ip", "netns", "del", name)
    _remove_cgroups()
    home = state.get("home")
    if home and os.path.isdir(home):
        _unmount_below(home)
        shutil.rmtree(home)
        parent = Path(home).parent
        if parent.name.startswith("skep-lab-") and not any(parent.iterdir()):
            parent.rmdir()
    STATE.unlink(missing_ok=True)


def _namespaces():
    return [f"skep-lab-{n}" for n in ("b", *NODES) if os.path.exists(f"/run/netns/skep-lab-{n}")]


def _processes():
    """The processes of the lab: those in one of its network namespaces (engines, containerd, shims, servers) and those in
    its cgroups (what runs in containers). Zombies do not count."""
    mine = {os.stat(netns.named(name)).st_ino for name in _namespaces()}
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            inode = os.stat(f"/proc/{entry}/ns/net").st_ino
            groups = Path(f"/proc/{entry}/cgroup").read_text()
            status = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        if status.rpartition(")")[2].split()[0] == "Z":
            continue
        in_group = any(line.partition(":")[2].partition(":")[2].startswith(f"/skep-lab-{n}/")
                       for line in groups.splitlines() for n in NODES)
        if inode in mine or in_group:
            found.add(int(entry))
    return found


def _cgroups():
    base = Path("/sys/fs/cgroup")
    return [p for n in NODES for p in (base / f"skep-lab-{n}", *base.glob(f"*/skep-lab-{n}")) if p.is_dir()]


def _remove_cgroups():
    def gone():
        for top in _cgroups():
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
        return not _cgroups()
    wait_for("the cgroups of the lab to go", gone, 20)


def _unmount_below(home):
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed([m for m in mounts if m.startswith(f"{home}/")]):
        run("umount", "-l", place, check=False)


def status():
    """What is there, as text, and whether it is a whole Swarm."""
    swarm = current()
    if swarm is None:
        rest = _namespaces()
        return ("down" if not rest else f"left behind: {' '.join(rest)}"), False
    lines, good = [f"home {swarm.home}"], True
    for node in swarm.nodes:
        try:
            info = json.loads(node.docker("info", "--format", "{{json .}}", timeout=20))
            state = f"{info['Swarm']['LocalNodeState']}, {'manager' if info['Swarm']['ControlAvailable'] else 'worker'}"
            state += f", {info['ContainersRunning']} containers"
            good = good and info["Swarm"]["LocalNodeState"] == "active"
        except (LabError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            state, good = f"no answer ({str(error)[:80]})", False
        lines.append(f"{node.hostname}  {node.address}  {state}  docker -H unix://{node.socket}")
    return "\n".join(lines), good
