"""The proof of a container's numbers: what the agent says lies between two readings of the files it comes from.

Used on this machine (cgroup v1) and in the virtual machine (cgroup v2): needs only Python's own library."""

import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import families
from oracles import BATCH, Reading, labels

PATIENCE = 180         # seconds for anything to happen: emulated processors on a busy machine are slow
FIXED_LABELS = {"id", "name", "image", "host"}
MACHINE_LABELS = {"boot_id", "machine_id", "system_uuid"}
SERIES = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def wait_for(what, condition, timeout=None, every=0.2):
    timeout = timeout or PATIENCE
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except Exception as error:  # not there yet, whatever the reason
            last = error
        if time.monotonic() >= end:
            raise RuntimeError(f"waited {timeout} s in vain for {what}; last seen: {str(last)[:300]}")
        time.sleep(every)


# --- the engine ---------------------------------------------------------------------------------------------------------

class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    """`docker(*words)` runs the command line; what is asked often goes over the socket."""

    def __init__(self, docker, path, place):
        self.docker, self.path, self.place = docker, str(path), place

    def call(self, method, path, body=None):
        """What the engine answers; None where there is no such thing."""
        connection = _Connection(self.path)
        try:
            connection.request(method, path, *([json.dumps(body), {"Content-Type": "application/json"}] if body else []))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400 and answer.status != 404:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return json.loads(text) if text and answer.status != 404 else None
        finally:
            connection.close()

    def inspect(self, container):
        return self.call("GET", f"/containers/{container}/json")

    def run(self, name, *words, **more):
        """A container: `docker run -d` with options, `--`, and the shell script."""
        cut = words.index("--")
        identity = self.docker("run", "-d", "--name", name, *words[:cut], "bb:1", "sh", "-c", *words[cut + 1:]).split()[-1]
        return Container(self, identity, name, **more)


class Container:
    """`loose`: how many bytes of memory its own work moves between two readings; `forks`: how many processes come and go; `steady`: it never had another
    process than it has."""

    def __init__(self, engine, identity, name, loose=0, forks=0, steady=False):
        self.engine, self.id, self.name, self.loose, self.forks, self.steady = engine, identity, name, loose, forks, steady
        self.addresses = {}
        if identity:
            self.look()

    def look(self):
        """Takes over which interfaces there are."""
        told = self.engine.inspect(self.id)
        if told and told["State"]["Running"] and told["HostConfig"]["NetworkMode"] not in ("host", "none"):
            self.addresses = hardware_addresses(told["State"]["Pid"])

    def has(self, path):
        """Whether it has made a file, without a process more in its cgroup."""
        return os.path.exists(f"/proc/{self.engine.inspect(self.id)['State']['Pid']}/root{path}")

    def reading(self):
        return Reading(self.engine.place, self, self.engine.inspect(self.id) if self.id else None)


def hardware_addresses(pid):
    """The addresses of the interfaces in a process' network namespace."""
    said = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "link"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return dict(re.findall(r"^\d+: ([^:@]+)[:@].* link/ether (\S+)", said, re.M))


def host(engine):
    """The root of the tree, of which everything on the machine is part: much moves between two readings."""
    return Container(engine, "", "the host", loose=1 << 30, forks=0)


# --- the agent ------------------------------------------------------------------------------------------------------------

class Agent:
    """The agent as a process of this machine."""

    def __init__(self, binary, docker_host, state, log, port=7641):
        self.command = [str(binary), "run", "--docker.host", docker_host, "--state-dir", str(state), "--web.listen-address", f"127.0.0.1:{port}"]
        self.base, self.log, self.process = f"http://127.0.0.1:{port}", log, None

    def start(self):
        with open(self.log, "ab") as log:
            # It ends with the test, however that ends.
            die_with_parent = lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM)
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, preexec_fn=die_with_parent, env={**os.environ, **families.ENVIRONMENT})

        def answers():
            if self.process.poll() is not None:
                with open(self.log, errors="replace") as log:
                    raise SystemExit(f"the agent ended with {self.process.returncode}: {log.read()[-800:]}")
            return scrape(self.base)
        wait_for("the agent to answer", answers)

    def stop(self):
        """SIGTERM; gives its exit status, or None when it had to be killed."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


class Scrape:
    def __init__(self, text):
        self.text = text
        self.time = time.time()
        self.types, self.samples = {}, []
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.types[name] = kind
            match = SERIES.match(line) if not line.startswith("#") else None
            if match:
                self.samples.append((match[1], dict(LABEL.findall(match[2] or "")), float(match[3])))

    def of(self, family, container=None, **own):
        """Samples of a family, of one container (by id, or by the name of one that has no id any more)."""
        return [(l, v) for n, l, v in self.samples if n == family and (container is None or l.get("id") == f"/docker/{container.id}")
                and all(l.get(k) == w for k, w in own.items())]

    def value(self, family, container=None, **own):
        found = self.of(family, container, **own)
        return sum(v for _, v in found) if found else None

    def faults(self):
        """What no answer may have, whatever happens meanwhile: a family in two pieces, one without its type, a series twice."""
        found, seen, last, done = [], set(), None, set()
        for name, own, _ in self.samples:
            if name != last:
                if name in done:
                    found.append(f"{name} comes in two pieces")
                done.add(name)
                last = name
            key = (name, tuple(sorted(own.items())))
            if key in seen:
                found.append(f"twice: {name}{own}")
            seen.add(key)
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            if name not in self.types and base not in self.types:
                found.append(f"{name} has no type")
        if not self.text.endswith("\n"):
            found.append("it ends in the middle of a line")
        return found


def scrape(base, path="/metrics/containers", timeout=60):
    with urllib.request.urlopen(base + path, timeout=timeout) as answer:
        return Scrape(answer.read().decode())


def page(base, path, timeout=60):
    """A page's status and text, whichever status it is."""
    try:
        with urllib.request.urlopen(base + path, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# --- the comparison -----------------------------------------------------------------------------------------------------

def readings(table, containers):
    """{container: {family: {own labels: value}}}, and which of them run."""
    found, running = {}, set()
    for container in containers:
        reading = container.reading()
        found[container] = {name: oracle.values(reading) for name, oracle in table.items()}
        if not container.id or reading.told["State"]["Running"]:
            running.add(container)
    return found, running


def own(family, found):
    drop = FIXED_LABELS | (MACHINE_LABELS if family.startswith("machine_") else set())
    return labels(**{k: v for k, v in found.items() if k not in drop and not k.startswith("container_label_")})


def slack(kind, container, exact):
    """By how much a number may lie beside the two readings."""
    rounding = 1e-6
    if kind in ("time", "fixed", "state"):
        return rounding
    if kind == "files":
        return 1 << 62
    if exact:
        return rounding
    if kind in ("threads", "requests"):
        return 100
    return {"memory": BATCH + container.loose, "pages": (BATCH + container.loose) // 4096, "tasks": container.forks,
            "descriptors": 4 * container.forks, "ratio": 0.1}.get(kind, rounding)


def compare(check, how, base, engine, containers, rounds=5, exact=False, keep=None, lacks=()):
    """Checks each family over all containers: in each of the rounds, its number lies between what its files say before and after the scrape. `exact`:
    nothing runs in the containers, and nothing may be off. `lacks`: families that need not tell of every container."""
    table = families.table(engine.place.version)
    counted, faults = {}, {}

    def fault(family, what):
        faults.setdefault(family, []).append(what)
    for _ in range(rounds):
        before, running = readings(table, containers)
        answer = scrape(base)
        after, _ = readings(table, containers)
        for what in answer.faults():
            fault("the answer as a whole", what)
        said = {}
        for name, sample_labels, value in answer.samples:
            said.setdefault((name, sample_labels.get("id", "/")), {})[own(name, sample_labels)] = value
        for family in answer.types:
            if not family.startswith(("container_", "machine_")) or family in families.EVENTS:
                continue
            if family in families.OWN:
                if said.get((family, "/")) != {labels(): families.OWN[family]}:
                    fault(family, f"{said.get((family, '/'))}, not {families.OWN[family]}")
                counted[family] = counted.get(family, 0) + 1
            elif family in families.INFO:
                for container in containers:
                    for what in families.INFO[family](answer, container):
                        fault(family, what)
                counted[family] = counted.get(family, 0) + 1
            elif family not in table:
                fault(family, "there is no oracle for it")
        for family, oracle in table.items():
            if family not in answer.types:
                if family not in families.MAY_BE_MISSING and any(
                        before[c][family] and after[c][family] for c in containers if c in running or oracle.kind == "state"):
                    fault(family, "it is not exported at all")
                continue
            for container in containers:
                if family in families.NOT_WHEN_PAUSED and container.id and (container.engine.inspect(container.id) or {}).get("State", {}).get("Paused"):
                    continue
                low_of, high_of = before[container][family], after[container][family]
                found = said.get((family, f"/docker/{container.id}" if container.id else "/"), {})
                off = slack(oracle.kind, container, exact and bool(container.id))
                for key in found.keys() | (low_of.keys() & high_of.keys()):
                    where = " ".join([container.name, *(f"{k}={v}" for k, v in sorted(key))])
                    low, high = low_of.get(key, high_of.get(key)), high_of.get(key, low_of.get(key))
                    if low is None and (container in running) == families.NOT_IN_FILES.get(family):
                        counted[family] = counted.get(family, 0) + 1
                    elif low is None:
                        fault(family, f"{where}: {found[key]}, and the host does not tell it")
                    elif key not in found and not container.id and family.startswith(families.OF_THE_HOST) and not found:
                        continue
                    elif key not in found and family in lacks:
                        continue
                    elif key not in found:
                        # Of a container that does not run, what it is in is all that has to be told.
                        if container in running or oracle.kind == "state":
                            fault(family, f"{where}: missing; [{low:.12g}, {high:.12g}]")
                    elif oracle.kind == "of processes" and not container.steady:
                        # The time of processes that ended is known of those that a scrape has seen.
                        counted[family] = counted.get(family, 0) + 1
                    elif not min(low, high) - off <= found[key] <= max(low, high) + off:
                        fault(family, f"{where}: {found[key]:.12g} is not in [{min(low, high) - off:.12g}, {max(low, high) + off:.12g}]")
                    else:
                        counted[family] = counted.get(family, 0) + 1
    for family in sorted(counted.keys() | faults.keys()):
        wrong = faults.get(family, [])
        check(f"{how}: {family}", not wrong, f"{counted.get(family, 0)} values" + "".join(f"; {what}" for what in wrong[:3])
              + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""))
    identity(check, how, answer, containers)
    if keep:
        with open(keep, "w") as f:
            f.write(answer.text)
    return answer


def identity(check, how, answer, containers):
    """Every series of a container names it, and its image."""
    wrong = []
    for container in containers:
        if container.id:
            own_labels = [l for _, l, _ in answer.samples if l.get("id") == f"/docker/{container.id}"]
            wrong += [f"{container.name}: {l}" for l in own_labels if (l.get("name"), l.get("image")) != (container.name, "bb:1")]
            wrong += [] if own_labels else [f"{container.name}: no series"]
    check(f"{how}: id, name and image of every series", not wrong, "; ".join(wrong[:3]))
    ids = {l["id"] for _, l, _ in answer.samples if "id" in l} - {"/"}
    check(f"{how}: ids look like /docker/<64 hex>", ids and all(re.fullmatch(r"/docker/[0-9a-f]{64}", i) for i in ids), f"{len(ids)}")
