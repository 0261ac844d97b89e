"""The end-to-end test: the unmodified stack files on a Swarm of three nodes, a real Prometheus, a real Elasticsearch.

Part A: Prometheus finds and scrapes every agent, and each node's figures carry that node's name.
Part B: 100 000 numbered lines of six containers arrive exactly once and in order, while every agent is killed with -9
three times and Elasticsearch is out of reach for 20 s.

See `tests/lab/run swarm --help` for its options."""

import argparse
import calendar
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter, defaultdict
from pathlib import Path

sys.dont_write_bytecode = True
import elastic
import images
import netns
import rotation
import stackfile
import swarm_lab
from common import PROJECT, LabError, Report, find_binary, say, wait_for
from proxy import Proxy

STACK = "mon"
AGENT = f"{STACK}_skep"
WRITER = "writer"
PORT = 7537
REPLICAS = 6
RATE = 500          # lines a second of each writer
OUTAGE = 20.0       # seconds
INDEX = "docker-logs-*"
LINE = re.compile(r"^(\S+) (stdout|stderr) (\d+) [a-z]+$")


def main(arguments):
    parser = argparse.ArgumentParser(prog="run swarm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the static binary of the agent")
    parser.add_argument("--stack", type=Path, default=PROJECT / "stack", help="folder with skep.yml and prometheus/")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--part", choices=["a", "b", "ab"], default="ab")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the kills")
    parser.add_argument("--keep", action="store_true", help="leave the Swarm up (take it down with `swarm down`)")
    options = parser.parse_args(arguments)
    options.seed = random.randrange(1 << 30) if options.seed is None else options.seed
    report = Report()
    test = Test(options, report)
    # SIGTERM takes the lab down too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        test.prepare()
        if "a" in options.part:
            test.part_a()
        if "b" in options.part:
            test.part_b()
    except LabError as error:
        report.check("the test could run to its end", False, str(error))
    finally:
        if report.failed or sys.exc_info()[0]:
            test.keep_artefacts()
        test.end()
    return report.close()


class Test:
    def __init__(self, options, report):
        self.options, self.report = options, report
        self.swarm = self.server = self.proxy = None
        self.mine = False      # a lab that somebody else brought up stays up
        self.artefacts = {}    # name -> text, written out if something fails

    # --- setting up and taking down ----------------------------------------------------------------------------------

    def prepare(self):
        skep_yml = self.options.stack / "skep.yml"
        if not skep_yml.is_file():
            raise LabError(f"no stack file {skep_yml}")
        binary = find_binary(self.options.binary)
        self.mine = not swarm_lab.STATE.exists()
        self.swarm = swarm = swarm_lab.up()
        say("the Swarm is up")
        named = stackfile.images(skep_yml)
        for tag in {t for t in named if "skep" in t or len(named) == 1} | {"skep:dev"}:
            images.load(swarm.nodes, images.scratch(binary, tag, name="skep"))
        images.load(swarm.nodes, images.shell())
        self.server = elastic.Elasticsearch(swarm.home / "elasticsearch", swarm.wire)
        self.proxy = Proxy(swarm.wire, (swarm_lab.WIRE_ADDRESS, 9200), ("127.0.0.1", self.server.port))
        say("Elasticsearch is up, images are loaded")
        self.deploy(skep_yml, STACK, SKEP_ROUTES=f"elasticsearch://{swarm_lab.WIRE_ADDRESS}:9200?name=es")
        self.agents_running(90)
        say("every node runs an agent")

    def deploy(self, file, stack, **environment):
        self.swarm.docker("stack", "deploy", "--resolve-image", "never", "-c", file, stack,
                          env={**os.environ, **environment}, cwd=file.parent)

    def agent(self, node):
        """The running agent of a node, as `docker inspect` gives it."""
        running = [c for c in node.of_service(AGENT) if c["State"]["Running"] and c["State"]["Pid"] > 0]
        return running[0] if running else None

    def agents_running(self, timeout, other_than=()):
        """Waits until each node runs an agent (a new one, not one of those given) that answers over HTTP."""
        def answering():
            found = [self.agent(node) for node in self.swarm.nodes]
            if not all(found) or any(c["Id"] in other_than for c in found):
                return None
            for c in found:
                netns.fetch(netns.of_process(c["State"]["Pid"]), "127.0.0.1", PORT, "/metrics", timeout=10)
            return found
        return wait_for("an answering agent on each node", answering, timeout, every=0.5)

    def end(self):
        if self.options.keep and self.swarm:
            say("left up:\n" + swarm_lab.status()[0])
            return
        if self.proxy:
            self.proxy.close()
        if self.server:
            self.server.stop()
        if self.mine:
            swarm_lab.down()

    def keep_artefacts(self):
        base = os.environ.get("SKEP_LAB_DIR")
        folder = Path(base) / "artefacts" if base else Path(tempfile.mkdtemp(prefix="skep-artefacts-", dir="/var/tmp"))
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.artefacts.items():
            (folder / name).write_text(text)
        for node in self.swarm.nodes if self.swarm else []:
            try:
                if node.log.exists():
                    shutil.copy(node.log, folder / f"{node.hostname}-dockerd.log")
                for c in node.of_service(AGENT, every=True):
                    place = folder / f"{node.hostname}-agent-{c['Created'][:19]}-{c['Id'][:12]}.log"
                    place.write_text(f"{json.dumps(c['State'])}\n" + self._logs(node, c["Id"]))
                for c in node.of_service("prom_prometheus", every=True):
                    (folder / f"{node.hostname}-prometheus.log").write_text(self._logs(node, c["Id"]))
            except (LabError, OSError) as error:
                say(f"artefacts of {node.hostname}: {error}")
        if self.swarm:
            try:
                (folder / "services.txt").write_text(self.swarm.docker("service", "ls") + self.swarm.docker(
                    "service", "ps", "--no-trunc", AGENT, check=False))
            except (LabError, OSError):
                pass
        if self.server:
            shutil.copy(self.server.log, folder / "elasticsearch.log")
        print(f"artefacts: {folder}", flush=True)

    @staticmethod
    def _logs(node, container):
        return subprocess.run(["docker", "-H", f"unix://{node.socket}", "logs", "--timestamps", container],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout

    # --- part A: a real Prometheus -----------------------------------------------------------------------------------

    def part_a(self):
        report, swarm = self.report, self.swarm
        stacks = stackfile.find_stack(self.options.stack / "prometheus")
        if not stacks:
            raise LabError(f"no stack file in {self.options.stack / 'prometheus'}")
        tags = [t for file in stacks for t in stackfile.images(file) if re.search(r"(^|/)prometheus(:|@|$)", t)]
        for tag in dict.fromkeys(tags):
            images.load(swarm.nodes, images.prometheus(tag))
        for file in stacks:
            self.deploy(file, "prom")

        def find_prometheus():
            for node in swarm.nodes:
                for c in node.containers("label=com.docker.stack.namespace=prom"):
                    if c["Config"]["Image"].split("@")[0] in tags and c["State"]["Running"]:
                        return netns.of_process(c["State"]["Pid"])
            return None
        self.prometheus = wait_for("a running Prometheus", find_prometheus, 90)
        wait_for("Prometheus to be ready", lambda: netns.fetch(self.prometheus, "127.0.0.1", 9090, "/-/ready"), 60)
        say("Prometheus is ready")

        hosts = {node.hostname for node in swarm.nodes}
        ups = self.until(lambda: self.query('up'), lambda r: sum(v == 1 for labels, v in r
                                                                  if labels.get("instance", "").endswith(f":{PORT}")) == 3)
        ups = [(labels, v) for labels, v in ups if labels.get("instance", "").endswith(f":{PORT}")]
        report.check("three targets up", [v for _, v in ups] == [1, 1, 1], f"{[(l.get('instance'), v) for l, v in ups]}")

        seen = self.until(lambda: self.query("node_load1"), lambda r: {l.get("host") for l, _ in r} == hosts)
        report.check("node_load1 of every node, told apart by host", {l.get("host") for l, _ in seen} == hosts and len(seen) == 3,
                     f"{sorted(str(l.get('host')) for l, _ in seen)}")
        total = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
        seen = self.until(lambda: self.query("node_memory_MemTotal_bytes"), lambda r: len(r) == 3)
        report.check("node_memory_MemTotal_bytes of every node, and right",
                     len(seen) == 3 and {l.get("host") for l, _ in seen} == hosts and all(v == total for _, v in seen), f"{total}")

        ids = {node.hostname: node.docker("info", "--format", "{{.Swarm.NodeID}}").strip() for node in swarm.nodes}

        def expected():
            """What is running now: (host, container) -> its Swarm labels."""
            found = {}
            for node in swarm.nodes:
                for c in node.containers("label=com.docker.swarm.task.id"):
                    label = c["Config"]["Labels"]
                    found[node.hostname, c["Id"]] = {
                        "name": c["Name"].lstrip("/"),
                        "container_label_com_docker_swarm_node_id": ids[node.hostname],
                        "container_label_com_docker_swarm_service_name": label["com.docker.swarm.service.name"],
                        "container_label_com_docker_swarm_task_id": label["com.docker.swarm.task.id"],
                        "container_label_com_docker_swarm_task_name": label["com.docker.swarm.task.name"],
                        "container_label_com_docker_stack_namespace": label.get("com.docker.stack.namespace"),
                    }
            return found

        def wrong(series):
            given = {(l.get("host"), l.get("id", "").rpartition("/")[2]): (l, v) for l, v in series if l.get("id") != "/"}
            for key, labels in expected().items():
                if key not in given:
                    yield f"no series for {key[0]} {labels['name']}"
                    continue
                has, value = given[key]
                if has["id"] != f"/docker/{key[1]}":
                    yield f"{labels['name']}: id={has['id']}"
                if not value > 0:
                    yield f"{labels['name']}: value {value}"
                for name, want in labels.items():
                    if has.get(name) != want:
                        yield f"{labels['name']}: {name} is {has.get(name)!r}, not {want!r}"
        series = self.until(lambda: self.query("container_memory_usage_bytes"), lambda r: not list(wrong(r)))
        faults = list(wrong(series))
        report.check("container_memory_usage_bytes of every container, with its node's and its task's labels",
                     not faults and len(series) >= 4, "; ".join(faults[:5]) or f"{len(series)} series")
        resident = {labels["host"]: value / 2**20 for labels, value in self.query('process_resident_memory_bytes{job="skep"}')}
        report.check("no agent needs more than half of its limit of 128 MB", len(resident) == 3 and max(resident.values()) < 64,
                     ", ".join(f"{host} {mebibytes:.1f} MiB" for host, mebibytes in sorted(resident.items())))
        names = [labels["__name__"] for labels, _ in self.query('{__name__=~"node_.+|container_.+|skep_.+"}')]
        for prefix in ("node_", "container_", "skep_"):
            report.check(f"there are {prefix}* families", any(n.startswith(prefix) for n in names),
                         f"{len({n for n in names if n.startswith(prefix)})} families, {sum(n.startswith(prefix) for n in names)} series")

    def query(self, expression):
        text = netns.fetch(self.prometheus, "127.0.0.1", 9090, "/api/v1/query?query=" + urllib.parse.quote(expression))
        return [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]]

    def until(self, ask, good, timeout=75):
        """Asks until the answer is good; after the time given, the last answer whatever it is."""
        last = []

        def again():
            last[:] = [ask()]
            return good(last[0])
        try:
            wait_for("", again, timeout, every=1)
        except LabError:
            pass
        return last[0] if last else []

    # --- part B: nothing lost, nothing twice -------------------------------------------------------------------------

    def part_b(self):
        options, swarm, report = self.options, self.swarm, self.report
        rand = random.Random(options.seed)
        lines, duration = options.lines, options.lines / (RATE * REPLICAS)
        swarm.docker(
            "service", "create", "-d", "--no-resolve-image", "--name", WRITER, "--replicas", str(REPLICAS),
            "--replicas-max-per-node", str(REPLICAS // len(swarm.nodes)), "--restart-condition", "none",
            "--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=5",
            "--env", "WRITER_NAME={{.Service.Name}}.{{.Task.Slot}}", "--env", f"WRITER_SHARE={{{{.Task.Slot}}}}/{REPLICAS}",
            "bb:1", "/bin/writer", "-", str(lines), str(RATE), "both")
        writers = wait_for("the writers", self.find_writers, 60, every=0.05)
        began = time.monotonic()
        watcher = rotation.Watcher([w["log"] for w in writers.values()])
        say(f"{len(writers)} writers, {lines} lines, about {duration:.0f} s; seed {options.seed}")

        def at(second):
            """The test's own schedule: sleeps to a moment of the run."""
            time.sleep(max(0.0, began + second - time.monotonic()))

        kills = 0
        at(duration * 0.08)
        kills += self.kill_agents(rand, "while all is well")
        at(duration * 0.25)
        outage_from = time.monotonic()
        self.proxy.cut()
        say("Elasticsearch is out of reach")
        at(duration * 0.25 + 4)
        kills_in_outage = self.kill_agents(rand, "while Elasticsearch is out of reach")
        kills += kills_in_outage
        time.sleep(max(0.0, outage_from + OUTAGE - time.monotonic()))
        self.proxy.restore()
        say(f"Elasticsearch is back after {self.proxy.outage_seconds:.1f} s")
        before = self.server.count(INDEX)
        self.until(lambda: self.server.count(INDEX), lambda n: n > before, 30)
        kills += self.kill_agents(rand, "while they catch up")

        wait_for("the writers to be done", lambda: sum(rotation.entries(w["log"]) for w in writers.values()) >= lines
                 or (watcher.files and max(watcher.files.values()) >= 5 and time.monotonic() - began > duration + 15),
                 duration * 2 + 60, every=0.5)
        rotations = watcher.stop()
        on_disk = sum(rotation.entries(w["log"]) for w in writers.values())
        say(f"the writers are done: {on_disk} lines in the files, {rotations} rotations")
        done = time.monotonic()
        last = self.settled(lines, 120 + duration)
        self.figures = [
            ("of these, in the outage", kills_in_outage),
            ("outage, seconds", f"{self.proxy.outage_seconds:.1f}"),
            ("rotations seen", rotations),
            ("last arrival after the end, s", f"{max(0.0, last - done):.1f}"),
            *self.agents_own_figures(),
        ]
        self.judge(writers, lines, on_disk, rotations, kills)

    def agents_own_figures(self):
        """What the agents themselves counted since they were last started, for the table: no verdict hangs on it."""
        sums = Counter()
        for node in self.swarm.nodes:
            try:
                agent = self.agent(node)
                text = netns.fetch(netns.of_process(agent["State"]["Pid"]), "127.0.0.1", PORT, "/metrics")
            except (LabError, OSError, TypeError):
                continue
            self.artefacts[f"{node.hostname}-metrics.txt"] = text
            for name, value in re.findall(r"^(skep_log_\w*(?:dropped|gaps|dead_letters|duplicates)_total)(?:\{.*\})? (\S+)", text, re.M):
                sums[name] += float(value)
        return [(name, f"{value:.0f}") for name, value in sorted(sums.items())]

    def find_writers(self):
        """name -> where it runs, what it has to write; only when all of them are running."""
        found = {}
        for node in self.swarm.nodes:
            for c in node.of_service(WRITER):
                environment = dict(e.split("=", 1) for e in c["Config"]["Env"])
                slot = int(environment["WRITER_SHARE"].split("/")[0])
                share = self.options.lines // REPLICAS + (slot <= self.options.lines % REPLICAS)
                found[environment["WRITER_NAME"]] = {
                    "node": node.hostname, "id": c["Id"], "container": c["Name"].lstrip("/"), "log": c["LogPath"],
                    "lines": {"stdout": share - share // 2, "stderr": share // 2},
                }
        return found if len(found) == REPLICAS else None

    def kill_agents(self, rand, when):
        """kill -9 to the agent of each node, at moments of its own; then waits for the new ones. Gives how many died of it."""
        killed = []
        for node in rand.sample(self.swarm.nodes, len(self.swarm.nodes)):
            c = wait_for(f"an agent on {node.hostname}", lambda n=node: self.agent(n), 60)
            time.sleep(rand.uniform(0, 0.5))
            try:
                os.kill(c["State"]["Pid"], signal.SIGKILL)
                killed.append((node, c["Id"]))
            except ProcessLookupError:
                say(f"the agent of {node.hostname} was gone before it was killed")
        gone = {i for _, i in killed}
        self.agents_running(90, other_than=gone)
        say(f"killed {len(killed)} agents {when}; new ones answer")
        died = 0
        for node, container in killed:
            state = json.loads(node.docker("inspect", container, check=False) or "[]")
            # Swarm keeps few dead tasks: one that it has removed already did die
            died += 1 if not state or state[0]["State"]["ExitCode"] == 137 else 0
        return died

    def settled(self, lines, timeout):
        """Waits until Elasticsearch has as many writer lines as were written, and then for a while of silence.
        Gives the moment of the last arrival."""
        query = {"match_phrase": {"service.name": WRITER}}
        last, since = -1, time.monotonic()

        def quiet():
            nonlocal last, since
            now = self.server.count(INDEX, query)
            if now != last:
                last, since = now, time.monotonic()
            silence = time.monotonic() - since
            return silence >= (5 if now >= lines else 45)
        try:
            wait_for("Elasticsearch to settle", quiet, timeout, every=0.5)
        except LabError as error:
            say(str(error))
        say(f"Elasticsearch has {last} lines of the writers")
        return since

    def judge(self, writers, lines, on_disk, rotations, kills):
        report = self.report
        arrived, wrong, strange = defaultdict(list), Counter(), []
        foreign = 0
        for _id, index, doc in self.server.documents(INDEX):
            match = LINE.match(field(doc, "message") or "")
            if not match or match[1] not in writers:
                if field(doc, "service.name") == WRITER:
                    strange.append(doc)
                else:
                    foreign += 1
                continue
            writer, stream, number = match[1], match[2], int(match[3])
            w = writers[writer]
            arrived[writer, stream].append((nanoseconds(field(doc, "@timestamp")), field(doc, "log.offset"), number))
            for name, want in (("host.name", w["node"]), ("container.name", w["container"]), ("container.id", w["id"]),
                               ("service.name", WRITER), ("stream", stream)):
                if field(doc, name) != want:
                    wrong[f"{name} is {field(doc, name)!r}, not {want!r}"] += 1

        lost = repeated = disorder = alien = no_offset = 0
        lost_list, per_node = [], Counter()
        for name, w in writers.items():
            for stream, count in w["lines"].items():
                got = arrived.get((name, stream), [])
                per_node[w["node"]] += len(got)
                numbers = Counter(n for _, _, n in got)
                missing = [n for n in range(1, count + 1) if n not in numbers]
                lost += len(missing)
                lost_list += [f"{name} {stream} {n}" for n in missing]
                repeated += sum(c - 1 for c in numbers.values())
                alien += sum(1 for n in numbers if not 1 <= n <= count)
                no_offset += sum(1 for _, offset, _ in got if offset is None)
                ordered = [n for _, _, n in sorted(got, key=lambda x: (x[0], x[1] if x[1] is not None else -1))]
                disorder += sum(1 for a, b in zip(ordered, ordered[1:]) if b < a)
        total = sum(len(v) for v in arrived.values())
        expected = Counter()
        for w in writers.values():
            expected[w["node"]] += sum(w["lines"].values())

        print()
        for name, value in (
                ("lines to be written", lines), ("lines in the files at the end", on_disk), ("documents that arrived", total),
                ("lost", lost), ("repeated", repeated), ("out of order", disorder), ("agents killed with -9", kills),
                *self.figures, ("documents of other containers", foreign),
                *((f"documents of {node}", f"{per_node[node]} of {expected[node]}") for node in sorted(expected))):
            print(f"  {name:38} {value}")
        print(flush=True)
        if lost_list:
            self.artefacts["lost.txt"] = "\n".join(lost_list) + "\n"
        if wrong:
            self.artefacts["wrong-fields.txt"] = "\n".join(f"{n} x {what}" for what, n in wrong.most_common()) + "\n"
        if strange:
            self.artefacts["strange.json"] = "\n".join(json.dumps(d) for d in strange[:1000]) + "\n"

        report.check("each agent was killed three times", kills == 3 * len(self.swarm.nodes), f"{kills}")
        report.check("the outage was as long as meant", self.proxy.outage_seconds >= OUTAGE, f"{self.proxy.outage_seconds:.1f} s")
        if lines <= 100_000:
            report.check("the files have every line", on_disk == lines, f"{on_disk} of {lines}")
        # 100 bytes of text make a line of 170 in the file: each writer of the default run fills more than two files
        report.check("the files rotated", rotations >= (lines // REPLICAS * 170 // 1_000_000) * REPLICAS, f"{rotations}")
        report.check("no line lost", lost == 0, f"{lost}" + (f", first: {', '.join(lost_list[:5])}" if lost else ""))
        report.check("no line twice", repeated == 0, f"{repeated}")
        report.check("no line but those written", alien == 0 and not strange, f"{alien}, {len(strange)} not understood")
        report.check("order by (@timestamp, log.offset) is the order written", disorder == 0 and no_offset == 0,
                     f"{disorder} inversions, {no_offset} without log.offset")
        for node in sorted(expected):
            report.check(f"documents of {node}", per_node[node] == expected[node], f"{per_node[node]} of {expected[node]}")
        report.check("host.name, container.name, container.id, service.name, stream of every record are right", not wrong,
                     "; ".join(f"{n} x {what}" for what, n in wrong.most_common(5)))


def field(doc, name):
    """A field by its dotted name, however the document nests it."""
    if name in doc:
        return doc[name]
    parts = name.split(".")
    for i in range(len(parts) - 1, 0, -1):
        inner = doc.get(".".join(parts[:i]))
        if isinstance(inner, dict):
            return field(inner, ".".join(parts[i:]))
    return None


def nanoseconds(text):
    """An RFC 3339 time in UTC as nanoseconds since 1970."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", text or "")
    if not match:
        return -1
    seconds = calendar.timegm(tuple(int(match[i]) for i in range(1, 7)))
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
