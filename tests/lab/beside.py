"""skep beside a real node_exporter on the same machine: the same series, with the same types, help texts, labels and values.

Used in the virtual machine (guest.py, with systemd, logind, swap) and on the machine that runs the tests (`run beside`). node_exporter is asked before and after
skep: a number has to be what node_exporter said, or lie between what it said before and after. What moves otherwise gets a few rounds. Whatever differs has to
stand in a table here with its reason.
"""

import re
import subprocess
import time
import urllib.error
import urllib.request

ROUNDS = 8
# Collectors off by default that are switched on in both; those that both refuse to run here are told by the peer's own success metric.
OPTIONAL = ("buddyinfo cgroups cpu_vulnerabilities drbd drm ethtool interrupts ksmd lnstat logind meminfo_numa mountstats network_route nvmesubsystem "
            "pcidevice processes qdisc slabinfo softirqs swap sysctl systemd tcpstat wifi xfrm zoneinfo").split()
# What is the exporter's own, or cannot be the same twice.
SKIP = re.compile(r"^(go_|process_|promhttp_|skep_|node_exporter_build_info|node_scrape_collector_|node_time_seconds|node_textfile_)")
# What no two moments share, and what the asking itself moves: only that it is there is compared.
MOVING = re.compile(r"^node_(cpu_frequency|cpu_scaling_frequency|timex_(offset|frequency|maxerror|estimated)|processes_|procs_|memory_|tcp_connection_states.*_queued_bytes)")
# Counts that the reading itself moves, by a few pages of objects: files that were closed are freed later, and a scrape of skep keeps more of them open.
NEAR = re.compile(r"^node_slabinfo_")
# Series of node_exporter that skep has otherwise, and why. A pattern of the whole series.
DIFFERENT = [
    (r"node_disk_\w+\{device=\"zram\d+\"", "1.9 and later leave zram out"),
    (r"node_filesystem_purgeable_bytes", "macOS' family, which 1.12 writes on Linux too, always 0"),
    (r"node_network_speed_bytes", "an interface that does not know its speed has none, instead of -125000"),
    (r"node_pcidevice_((current|max)_link|sriov)_", "a device without a link has no speed and width of it, instead of -1; one without SR-IOV no virtual functions, instead of 0"),
]
# Families to which later versions gave more labels: a series with those that this version knows is the same.
GREW = re.compile(r"node_(disk|cpu|dmi|os|network)_info|node_filesystem_\w+")


def exposition(address):
    """Series with their values, types and help texts."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": "text/plain"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read().decode()
    series, types, helps = {}, {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            types[name] = kind
        elif line.startswith("# HELP "):
            name, _, told = line[7:].partition(" ")
            helps[name] = told
        elif line:
            key, value = line.rsplit(" ", 1)
            name, _, labels = key.partition("{")
            pairs = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
            series[name, pairs] = float(value)
    return series, types, helps


def shown(key):
    name, labels = key
    return name + ("{" + ",".join(f'{label}="{value}"' for label, value in labels) + "}" if labels else "")


def wanted(key):
    return not SKIP.match(key[0])


def excused(key, more):
    return any(re.fullmatch(rf".*{pattern}.*", shown(key)) for pattern, _ in [*DIFFERENT, *more])


def grown(key, found):
    """The series of skep's that is `key` with more labels."""
    name, labels = key
    told = {pair for pair in labels if pair[1]}
    return GREW.fullmatch(name) and any(other == name and told <= set(pairs) for other, pairs in found)


def supported(program, collectors):
    help_text = subprocess.run([program, "--help"], capture_output=True, text=True)
    known = help_text.stdout + help_text.stderr
    return [name for name in collectors if re.search(rf"--(\[no-\])?collector\.{name}\b(?![.-])", known)]


def started(command, address):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    for _ in range(600):
        try:
            exposition(address)
            return process
        except (OSError, urllib.error.URLError):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {process.stderr.read()[-400:]}")
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"{command[0]} does not answer")


def compare(check, skep, peer, flags=(), different=()):
    """Starts both and compares. `check(name, good, detail)` takes the verdicts, one for each collector's families."""
    both = supported(peer, OPTIONAL)
    switches = [f"--collector.{name}" for name in both]
    address, own = "127.0.0.1:17561", "127.0.0.1:17562"
    processes = []
    try:
        processes.append(started([peer, f"--web.listen-address={address}", *switches, *flags], address))
        processes.append(started([skep, f"--web.listen-address={own}", "--host-label=", "--state-dir=/tmp/skep-beside",
                                  "--collector.as-node-exporter", "--docker.host=unix:///nothing", *switches, *flags], own))
        verdicts(check, address, own, different)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()


def verdicts(check, address, own, different):
    values, kinds, missing, lost_helps = {}, {}, None, {}
    for _ in range(ROUNDS):
        before, types, helps = exposition(address)
        found, own_types, own_helps = exposition(own)
        after, _, _ = exposition(address)
        there = {key for key in before if key in after and wanted(key)}
        lacks = {key for key in there if key not in found and not excused(key, different) and not grown(key, found)}
        missing = lacks if missing is None else missing & lacks
        kinds.update({name: (kind, own_types.get(name)) for name, kind in types.items() if not SKIP.match(name) and any(k[0] == name for k in there & found.keys())})
        lost_helps.update({name: (told, own_helps.get(name)) for name, told in helps.items() if name in kinds})
        for key in there & found.keys():
            low, high = sorted((before[key], after[key]))
            if NEAR.match(key[0]):
                low, high = low * 0.75 - 64, high * 1.25 + 64
            good = low <= found[key] <= high or str(low) == str(found[key]) or MOVING.match(shown(key)) is not None
            values[key] = values.get(key, False) or good or (found[key], low, high)
            if good:
                values[key] = True
        if not missing and all(value is True for value in values.values()):
            break
        time.sleep(0.3)
    shared = len(values)
    wrong = {key: value for key, value in values.items() if value is not True}
    check("node_exporter's series are there", shared > 200 and not missing,
          f"{shared} series in both" + "".join(f"; lacks {shown(key)}" for key in sorted(missing)[:20]))
    check("their values are node_exporter's", not wrong,
          "; ".join(f"{shown(key)}: {value[0]!r} is not within {value[1]!r} and {value[2]!r}" for key, value in sorted(wrong.items())[:12]) or f"{shared} values")
    other = {name: pair for name, pair in kinds.items() if pair[0] != pair[1]}
    check("their types are node_exporter's", not other, "; ".join(f"{name}: {pair}" for name, pair in sorted(other.items())[:12]) or f"{len(kinds)} families")
    # Help texts changed between versions; the one that counts is 1.12.1's, which the conformance suite compares. Said, and no fault.
    changed = sorted(name for name, (theirs, ours) in lost_helps.items() if theirs != ours)
    if changed:
        print(f"help texts that differ from this older version's: {', '.join(changed[:30])}", flush=True)
