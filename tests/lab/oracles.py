"""Where each number of a container comes from: one oracle for each family, for cgroup v1 and for v2.

An oracle reads the kernel's file, or asks the engine, and gives what the agent has to say: `{own labels: value}`, or None where this host does not tell it. Needs
only Python's own library, for it runs in the virtual machine too."""

import glob
import os
import re
import time

CGROUP = "/sys/fs/cgroup"
PAGE = 4096
TICK = 100                 # cpuacct.stat counts hundredths of a second on any kernel
# The kernel charges memory, and adds up its statistics, in batches of 64 pages for each CPU: two readings of a quiet cgroup may differ by so much.
BATCH = 64 * PAGE * (os.cpu_count() or 1)


class Place:
    """Where the cgroups of containers are: `below(id)` is their path in each tree."""

    def __init__(self, version, below):
        self.version, self.below = version, below

    def directory(self, controller, container):
        tree = CGROUP if self.version == 2 else f"{CGROUP}/{controller}"
        return f"{tree}/{self.below(container.id)}" if container.id else tree


class Reading:
    """What a container's files say at one moment: each file is read once."""

    def __init__(self, place, container, told):
        self.place, self.container, self.told, self.read = place, container, told, {}
        self.time = time.time()

    def file(self, path):
        if path not in self.read:
            try:
                with open(path) as f:
                    self.read[path] = f.read()
            except OSError:  # another kernel, a controller that is off, a process that has ended
                self.read[path] = None
        return self.read[path]

    def text(self, controller, name):
        return self.file(f"{self.place.directory(controller, self.container)}/{name}")

    def number(self, controller, name):
        """One number; a limit that is none is 0, as cAdvisor has it."""
        text = self.text(controller, name)
        if text is None or not text.strip():
            return None
        number = 0 if text.strip() == "max" else int(text)
        return 0 if number > 1 << 62 else number

    def key(self, controller, name, key, scale=1):
        text = self.text(controller, name)
        found = text and re.search(rf"^{re.escape(key)} (\d+)$", text, re.M)
        return int(found[1]) / scale if found and scale != 1 else int(found[1]) if found else None

    @property
    def pid(self):
        return (self.told or {}).get("State", {}).get("Pid") or None

    def process(self, name, pid=None):
        pid = pid or self.pid
        return self.file(f"/proc/{pid}/{name}") if pid else None

    def pids(self):
        text = self.text("memory", "cgroup.procs")
        return [int(word) for word in text.split()] if text else []


class Oracle:
    """`kind`: 'counter' only grows, so the agent's number lies between two readings; 'memory' moves both ways, by the kernel's batches and by
    what the container does; 'tasks' by what it forks; 'fixed' is told by the engine or changes only when somebody changes it."""

    def __init__(self, kind, read, slack=0):
        self.kind, self.read, self.slack = kind, read, slack

    def values(self, reading):
        found = self.read(reading)
        if isinstance(found, (int, float)):
            return {frozenset(): found}
        return found or {}


def labels(**own):
    return frozenset((k, str(v)) for k, v in own.items())


def both(read):
    """The same on v1 and v2."""
    return read, read


def total(a, b):
    return None if a is None or b is None else a + b


# --- block devices ---------------------------------------------------------------------------------------------------------

def device(number):
    try:
        with open(f"/sys/dev/block/{number}/uevent") as f:
            return "/dev/" + re.search(r"^DEVNAME=(.*)$", f.read(), re.M)[1]
    except (OSError, TypeError):
        return number


def blkio(name):
    """v1: what bfq has counted for a device, else what the throttling layer has; {(device, operation): number}."""
    def read(reading):
        found = {}
        for file in (f"blkio.bfq.{name}_recursive", f"blkio.throttle.{name}_recursive"):
            rows = [line.split() for line in (reading.text("blkio", file) or "").splitlines()]
            here = {(row[0], row[1]): int(row[2]) for row in rows if len(row) == 3}
            known = {number for number, _ in found}
            found.update({key: value for key, value in here.items() if key[0] not in known})
        return found
    return read


def io_stat(reading):
    """v2: {(device, key): number}."""
    found = {}
    for line in (reading.text("io", "io.stat") or "").splitlines():
        number, *fields = line.split()
        found.update({(number, field.partition("=")[0]): int(field.partition("=")[2]) for field in fields if field.partition("=")[2].isdigit()})
    return found


def io(v1_name, v1_operation, v2_key):
    """Of containers: the devices of the host are told by its own families."""
    return (lambda r: r.container.id and {labels(device=device(n)): v for (n, o), v in blkio(v1_name)(r).items() if o == v1_operation},
            lambda r: r.container.id and {labels(device=device(n)): v for (n, k), v in io_stat(r).items() if k == v2_key})


def io_cost(key):
    return lambda r: r.container.id and {labels(device=device(n)): v / 1e6 for (n, k), v in io_stat(r).items() if k == f"cost.{key}"}


def device_usage(rows, names):
    def read(reading):
        return {labels(device=device(n), major=n.partition(":")[0], minor=n.partition(":")[2], operation=names[o]): v
                for (n, o), v in rows(reading).items() if o in names} if reading.container.id else None
    return read


# --- CPU, memory, tasks ------------------------------------------------------------------------------------------------

def cpu_each(reading):
    each = [int(word) for word in (reading.text("cpuacct", "cpuacct.usage_percpu") or "").split()]
    if not any(each):
        sum_of_all = reading.number("cpuacct", "cpuacct.usage")
        return None if sum_of_all is None else {labels(cpu="total"): sum_of_all / 1e9}
    return {labels(cpu=f"cpu{n:02}"): t / 1e9 for n, t in enumerate(each) if t}


def cpu_sum(reading):
    usage = reading.key("cpu", "cpu.stat", "usage_usec", 1e6)
    return None if usage is None else {labels(cpu="total"): usage}


def period_v1(reading):
    return reading.number("cpu", "cpu.cfs_period_us") if reading.container.id else None


def quota_v1(reading):
    quota = reading.number("cpu", "cpu.cfs_quota_us") if reading.container.id else None
    return quota if quota and quota > 0 else None


def quota_v2(reading):
    quota = (reading.text("cpu", "cpu.max") or "max").split()[0]
    return None if quota == "max" else int(quota)


def period_v2(reading):
    text = reading.text("cpu", "cpu.max")
    return int(text.split()[1]) if text else None


def throttled(quota, key, scale=1):
    return lambda r: r.key("cpu", "cpu.stat", key, scale) if quota(r) is not None else None


def ratio(quota):
    def read(reading):
        periods, hit = (throttled(quota, key)(reading) for key in ("nr_periods", "nr_throttled"))
        return hit / periods if periods and hit is not None else None
    return read


def memory(key):
    """v1 tells the cgroup with those below it as `total_`, and alone where the hierarchy is off."""
    def read(reading):
        whole = reading.key("memory", "memory.stat", f"total_{key}")
        return reading.key("memory", "memory.stat", key) if whole is None else whole
    return read


def stat(key):
    return lambda r: r.key("memory", "memory.stat", key)


def working_set(usage, inactive):
    def read(reading):
        used, free = usage(reading), inactive(reading)
        return None if used is None or free is None else max(0, used - free)
    return read


def usage_v2(reading):
    if reading.container.id:
        return reading.number("memory", "memory.current")
    return total(stat("anon")(reading), stat("file")(reading))


def failures(reading):
    found = {}
    for kind in ("pgfault", "pgmajfault"):
        own, whole = stat(kind)(reading), reading.key("memory", "memory.stat", f"total_{kind}")
        if own is not None:
            found[labels(failure_type=kind, scope="container")] = own
            found[labels(failure_type=kind, scope="hierarchy")] = own if whole is None else whole
    return found


def swap_limit_v2(reading):
    """Docker's --memory-swap: both together."""
    text, limit = reading.text("memory", "memory.swap.max"), reading.number("memory", "memory.max")
    if text is None or limit is None:
        return None
    return 0 if text.strip() == "max" or limit == 0 else limit + int(text)


def memory_limit(read):
    def limit(reading):
        if reading.container.id:
            return read(reading)
        return int(re.search(r"MemTotal:\s+(\d+)", reading.file("/proc/meminfo"))[1]) * 1024
    return limit


def shares_v2(reading):
    """What Docker was asked for, since a weight does not tell it."""
    asked = ((reading.told or {}).get("HostConfig") or {}).get("CpuShares")
    return (asked or 1024) if reading.container.id else None


def of_container(read):
    """The root has none: the host's own families tell it."""
    return lambda r: read(r) if r.container.id else None


def pressure(resource, kind):
    def read(reading):
        text = reading.text("unified", f"{resource}.pressure") if reading.container.id else None
        found = text and re.search(rf"^{kind} .*total=(\d+)$", text, re.M)
        return int(found[1]) / 1e6 if found else None
    return read


def processes(reading):
    count = len((reading.text("unified", "cgroup.procs") or "").split()) if reading.container.id else 0
    return count or None


def numa(reading):
    """v1: lines `hierarchical_file=12 N0=12`, in pages. v2 has bytes, and of a container, below which there is none, one scope is the other."""
    found = {}
    for line in (reading.text("memory", "memory.numa_stat") or "").splitlines():
        head, *nodes = line.split()
        kind = head.partition("=")[0]
        if kind.removeprefix("hierarchical_") not in ("file", "anon", "unevictable"):
            continue
        scope = "hierarchy" if kind.startswith("hierarchical_") else "container"
        for node in nodes:
            name, _, count = node.partition("=")
            if "=" in head:
                found[labels(type=kind.removeprefix("hierarchical_"), scope=scope, node=name[1:])] = int(count)
            else:
                found.update({labels(type=kind, scope=scope, node=name[1:]): int(count) // PAGE for scope in ("container", "hierarchy")})
    return of_container(lambda _: found)(reading)


def hugetlb(v1_name, v2_name):
    def read(reading):
        found, folder = {}, reading.place.directory("hugetlb", reading.container)
        name = v2_name if reading.place.version == 2 else v1_name
        for file in glob.glob(f"{folder}/hugetlb.*.{name}") if name and reading.container.id else []:
            size = os.path.basename(file).split(".")[1]
            if name == "events":
                found[labels(pagesize=size)] = int(re.search(r"^max (\d+)", reading.file(file), re.M)[1])
            else:
                found[labels(pagesize=size)] = int(reading.file(file))
        return found
    return read


# --- a container's processes ------------------------------------------------------------------------------------------

def of_all_processes(count):
    def read(reading):
        if not reading.container.id:
            return None
        numbers = [count(reading, pid) for pid in processes_of(reading)]
        numbers = [n for n in numbers if n is not None]
        return sum(numbers) if numbers else None
    return read


def processes_of(reading):
    text = reading.text("memory" if reading.place.version == 1 else "", "cgroup.procs")
    return [int(word) for word in (text or "").split()]


def descriptors(sockets):
    def count(_, pid):
        try:
            names = os.listdir(f"/proc/{pid}/fd")
            return sum(1 for n in names if not sockets or os.readlink(f"/proc/{pid}/fd/{n}").startswith("socket:"))
        except OSError:
            return None
    return of_all_processes(count)


def threads(reading, pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def schedstat(column, scale):
    """Of the threads that there are; the agent knows those that have ended too, if it saw them."""
    def count(reading, pid):
        texts = [reading.process(f"task/{thread}/schedstat", pid) for thread in threads(reading, pid)]
        return sum(int(text.split()[column]) for text in texts if text) / scale
    return of_all_processes(count)


def tasks_state(reading):
    found = dict.fromkeys(("sleeping", "running", "stopped", "uninterruptible"), 0)
    letters = {"S": "sleeping", "I": "sleeping", "R": "running", "T": "stopped", "t": "stopped", "D": "uninterruptible"}
    for pid in processes_of(reading):
        for thread in threads(reading, pid):
            letter = (reading.process(f"task/{thread}/stat", pid) or ") Z").rpartition(")")[2].split()[0]
            if letter in letters:
                found[letters[letter]] += 1
    return {labels(state=name): count for name, count in found.items()} if reading.container.id else None


def ulimits(reading):
    found = re.search(r"^Max open files\s+(\S+)", reading.process("limits") or "", re.M)
    if not found or not reading.container.id:
        return None
    return {labels(ulimit="max_open_files"): -1 if found[1] == "unlimited" else int(found[1])}


# --- network ----------------------------------------------------------------------------------------------------------------

def has_own_network(reading):
    mode = ((reading.told or {}).get("HostConfig") or {}).get("NetworkMode", "host")
    return bool(reading.pid) and mode not in ("host", "none") and not mode.startswith("container:")


def net_dev(column):
    def read(reading):
        found, text = {}, reading.process("net/dev", pid=None if reading.container.id else 1)
        for line in (text or "").splitlines()[2:] if has_own_network(reading) or not reading.container.id else []:
            name, _, numbers = line.partition(":")
            if not name.strip().startswith(("lo", "veth", "docker")):
                found[labels(interface=name.strip())] = int(numbers.split()[column])
        return found
    return read


TCP_STATES = ["", "established", "synsent", "synrecv", "finwait1", "finwait2", "timewait", "close", "closewait", "lastack", "listen", "closing"]


def tcp(file):
    def read(reading):
        text = reading.process(f"net/{file}") if has_own_network(reading) else None
        if text is None:
            return None
        states = [int(line.split()[3], 16) for line in text.splitlines()[1:]]
        # A connection that is only asked for (12) is told as `synrecv` is.
        return {labels(tcp_state=name): sum(1 for s in states if s == n or (n == 3 and s == 12)) for n, name in enumerate(TCP_STATES) if name}
    return read


def udp(file):
    def read(reading):
        text = reading.process(f"net/{file}") if has_own_network(reading) else None
        if text is None:
            return None
        rows = [line.split() for line in text.splitlines()[1:]]
        queues = [row[4].split(":") for row in rows]
        numbers = {"listen": len(rows), "dropped": sum(int(row[-1]) for row in rows),
                   "rxqueued": sum(int(q[1], 16) for q in queues), "txqueued": sum(int(q[0], 16) for q in queues)}
        return {labels(udp_state=name): number for name, number in numbers.items()}
    return read


def advanced_tcp(reading):
    found = {}
    for file, head in (("netstat", "TcpExt"), ("snmp", "Tcp")) if has_own_network(reading) else ():
        lines = [line.split()[1:] for line in (reading.process(f"net/{file}") or "").splitlines() if line.startswith(f"{head}:")]
        found.update({labels(tcp_state=k.lower()): int(v) for k, v in zip(*lines)} if len(lines) == 2 else {})
    return found


def networks(reading):
    """Which interface leads into which network: by its hardware address, which the engine tells for each network."""
    told = ((reading.told or {}).get("NetworkSettings") or {}).get("Networks") or {}
    of_address = {network.get("MacAddress"): name for name, network in told.items()}
    return {labels(interface=interface, network=of_address[address]): 1
            for interface, address in reading.container.addresses.items() if address in of_address} if has_own_network(reading) else None
