"""Oracles, continued: what the engine tells of a container, its files on the disk, and the machine (see oracles.py)."""

import calendar
import glob
import os
import re
import time

from oracles import device, labels

# --- what the engine tells --------------------------------------------------------------------------------------------

def moment(text):
    """Seconds since the epoch; None for the engine's `never`."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", text or "")
    if not found or text.startswith("0001-"):
        return None
    return calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) + float(found[2] or 0)


def state(of):
    return lambda r: of(r.told["State"]) if r.told else None


def one_of(words, of):
    def read(reading):
        word = of(reading.told["State"]) if reading.told else None
        return None if word is None else {labels(status=w): int(w == word) for w in words}
    return read


STATES = ["created", "running", "paused", "restarting", "removing", "exited", "dead"]
HEALTH = ["starting", "healthy", "unhealthy"]


def health(state_of):
    word = (state_of.get("Health") or {}).get("Status")
    return word if word in HEALTH else None


def exit_code(state_of):
    return state_of["ExitCode"] if moment(state_of["FinishedAt"]) is not None and not state_of["Running"] else None


def cores(reading):
    """What `--cpus`, or a quota, leaves: CPUs."""
    asked = (reading.told or {}).get("HostConfig") or {}
    if asked.get("NanoCpus"):
        return asked["NanoCpus"] / 1e9
    return asked["CpuQuota"] / (asked.get("CpuPeriod") or 100_000) if (asked.get("CpuQuota") or 0) > 0 else None


# --- a container's files --------------------------------------------------------------------------------------------------

def folder_usage(folder):
    """As du counts: (bytes, inodes), each inode once."""
    sizes = {}
    for top, folders, files in os.walk(folder):
        for name in [top, *(os.path.join(top, f) for f in files), *(os.path.join(top, f) for f in folders)]:
            try:
                at = os.lstat(name)
                sizes[at.st_ino] = at.st_blocks * 512
            except OSError:
                continue
    return sum(sizes.values()), len(sizes)


def upper(reading):
    return (((reading.told or {}).get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")


def layer(reading):
    return folder_usage(upper(reading))[0] if upper(reading) else None


def layer_inodes(reading):
    return folder_usage(upper(reading))[1] if upper(reading) else None


def log_bytes(reading):
    path = (reading.told or {}).get("LogPath")
    return sum(os.stat(name).st_blocks * 512 for name in glob.glob(glob.escape(path) + "*")) if path else None


def on_device(read):
    """What the device is called on which the layer lies."""
    def labelled(reading):
        folder = upper(reading)
        if not folder or read(reading) is None:
            return None
        number = os.stat(folder).st_dev
        return {labels(device=device(f"{os.major(number)}:{os.minor(number)}")): read(reading)}
    return labelled


def usage(reading):
    folder = os.path.dirname((reading.told or {}).get("LogPath") or "")
    return layer(reading) + folder_usage(folder)[0] if upper(reading) and folder else None


def file_system(of):
    return on_device(lambda r: of(os.statvfs(upper(r))) if upper(r) else None)


# --- the machine ------------------------------------------------------------------------------------------------------------

def meminfo(key):
    return lambda r: None if r.container.id else int(re.search(rf"^{key}:\s+(\d+)", r.file("/proc/meminfo"), re.M)[1]) * 1024


def processors():
    """[(number, node, package, die, core)] of those that are online."""
    found = []
    for folder in glob.glob("/sys/devices/system/cpu/cpu[0-9]*"):
        try:
            package, core = (int(open(f"{folder}/topology/{name}").read()) for name in ("physical_package_id", "core_id"))
        except (OSError, ValueError):
            continue
        die = open(f"{folder}/topology/die_id").read().strip() if os.path.exists(f"{folder}/topology/die_id") else ""
        node = sorted(int(path.rpartition("node")[2]) for path in glob.glob(f"{folder}/node[0-9]*"))
        found.append((int(folder.rpartition("cpu")[2]), node[0] if node else 0, package, die, core))
    return found


def of_host(read):
    return lambda r: None if r.container.id else read()


def siblings():
    cpus = processors()
    return {labels(node_id=n, core_id=c, thread_id=number): sum(1 for other in cpus if other[1:] == (n, p, d, c)) for number, n, p, d, c in cpus}


def caches():
    """Of a cache that all CPUs of a node share the core is empty."""
    found, cpus = {}, processors()
    for number, node, _, _, core in sorted(cpus):
        for folder in glob.glob(f"/sys/devices/system/cpu/cpu{number}/cache/index[0-9]*"):
            level, size, kind, shared = (open(f"{folder}/{name}").read().strip() for name in ("level", "size", "type", "shared_cpu_list"))
            users = set()
            for part in shared.split(","):
                first, _, last = part.partition("-")
                users |= set(range(int(first), int(last or first) + 1))
            cores = {c[4] for c in cpus if c[0] in users}
            whole = cores != {core} and all(c[0] in users for c in cpus if c[1] == node)
            scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[-1]]
            found.setdefault(labels(node_id=node, core_id="" if whole else core, type=kind, level=level), int(size[:-1]) * scale)
    return found


def node_numbers():
    return sorted(int(folder.rpartition("node")[2]) for folder in glob.glob("/sys/devices/system/node/node[0-9]*"))


def node_memory():
    """A kernel that knows no nodes has all in one."""
    found = {labels(node_id=n): int(re.search(r"MemTotal:\s+(\d+)", open(f"/sys/devices/system/node/node{n}/meminfo").read())[1]) * 1024 for n in node_numbers()}
    return found or {labels(node_id=0): int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())[1]) * 1024}


def node_huge_pages():
    return {labels(node_id=n, page_size=re.search(r"hugepages-(\d+)kB", folder)[1]): int(open(f"{folder}/nr_hugepages").read())
            for n in node_numbers() for folder in glob.glob(f"/sys/devices/system/node/node{n}/hugepages/hugepages-*")}


def node_distances():
    return {labels(node_id=n, target_node_id=target): int(distance) for n in node_numbers()
            for target, distance in zip(node_numbers(), open(f"/sys/devices/system/node/node{n}/distance").read().split())}


def diskstats(column, scale=1):
    """The host's disks: whole ones, that ever did something."""
    def read(reading):
        found = {}
        for line in (reading.file("/proc/diskstats") or "").splitlines() if not reading.container.id else []:
            row = line.split()
            whole = not re.match(r"(ram|zram|loop|fd|sr)", row[2]) and not re.match(r"((sd|vd|xvd|hd)[a-z]+\d+|.*\dp\d+)$", row[2])
            if whole and (row[3], row[7]) != ("0", "0"):
                found[labels(device=device(f"{row[0]}:{row[1]}"))] = int(row[column]) * scale if isinstance(scale, int) else int(row[column]) / 1000
        return found
    return read


def either(of_containers, of_the_host):
    return lambda r: of_containers(r) if r.container.id else of_the_host(r)


def disk_operations(reading):
    """The host's bytes, under the operations that diskstats tells."""
    found = {}
    for operation, column in (("Read", 5), ("Write", 9), ("Discard", 16)):
        for key, value in diskstats(column, 512)(reading).items():
            name = dict(key)["device"]
            number = next(row.split()[:2] for row in reading.file("/proc/diskstats").splitlines() if f"/dev/{row.split()[2]}" == name)
            found[labels(device=name, major=number[0], minor=number[1], operation=operation)] = value
    return found
