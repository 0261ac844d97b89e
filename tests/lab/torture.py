#!/usr/bin/env python3
"""The torture of the log side: containers of a real engine write numbered lines while the agent, the sink, the engine and the disk fail, one fault to a row. Each
line has to arrive once, and in order; what is lost for certain has to be told. The table at the end has a row for each fault.

See `tests/lab/run torture --help` for its options."""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
import lines
import writers
from bulk import Sink
from common import LabError, Report, find_binary, run, say, wait_for
from one_engine import OneEngine
from rows import PATIENCE, Rows
from writers import ROTATED, Agent, Api, Writer

STATE_SIZE = "256m"
# Bytes that a rotated container writes while its sink stands: more than its files hold.
OUTRUN = 4_200_000
ROWS = ["quiet", "kills", "frozen", "away", "terminated", "busy", "refused", "cut", "silent", "closed", "large", "restart", "crash", "removed", "jobs", "full",
        "lost_state", "together", "rest", "compressed", "certain"]


def main(arguments):
    parser = argparse.ArgumentParser(prog="run torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the agent")
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--jobs", type=int, default=200, help="containers that live for 50 ms")
    parser.add_argument("--kills", type=int, default=10, help="of the agent, in the row of that name; there are others in other rows")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of kills and the sink's choices")
    parser.add_argument("--row", action="append", choices=ROWS, help="only this one; repeatable")
    parser.add_argument("--compressed", action=argparse.BooleanOptionalAction, default=True, help="whether the agent reads compressed predecessors")
    options = parser.parse_args(arguments)
    options.seed = random.randrange(1 << 30) if options.seed is None else options.seed
    report = Report()
    test = Torture(options, report)
    # SIGTERM takes everything down too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        test.prepare()
        for name in options.row or ROWS:
            getattr(test, name)()
        test.finish()
    except (LabError, OSError, RuntimeError) as error:
        report.check("the test could run to its end", False, str(error))
    finally:
        if report.failed or sys.exc_info()[0]:
            test.keep_artefacts()
        test.end()
    test.print_table(f"seed {options.seed}")
    return report.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Torture(Rows):
    def __init__(self, options, report):
        super().__init__(report)
        self.options = options
        self.random = random.Random(options.seed)
        self.engine = None
        self.long_lived = []

    # --- setting up and taking down ----------------------------------------------------------------------------------

    def prepare(self):
        binary = find_binary(self.options.binary)
        say(f"seed {self.options.seed}, {self.options.lines} lines, {binary}")
        self.engine = OneEngine()
        home = self.engine.home
        self.data, self.socket, self.controls, self.state = home / "data", self.engine.socket, home / "controls", home / "state"
        self.controls.mkdir()
        self.state.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={STATE_SIZE}", "skep-lab-state", self.state)
        self.api = Api(self.socket)
        writers.load_image(self.engine)
        self.sink = Sink(free_port(), self.options.seed, home / "sink.log")
        route = f"elasticsearch://127.0.0.1:{self.sink.port}?name=torture&timeout=3s&flush=200ms&batch_records=500"
        self.agent = Agent(binary, self, free_port(), ["--shutdown.timeout", "3s", "--route", route], home / "agent.log")
        self.agent.start()
        self.agent.wait_ready()
        self.rotated = [self.add(f"rotated-{n}", size=1500, log=ROTATED) for n in range(8)]
        self.rotated += [self.add(f"long-{n}", size=200, long_every=20, log=ROTATED) for n in range(4)]
        self.plain = [self.add(f"plain-{n}") for n in range(4)] + [self.add(f"long-plain-{n}", long_every=30) for n in range(2)]
        self.plain += [self.add(f"tty-{n}", streams="o", tty=True) for n in range(2)] + [self.add("stderr", streams="e")]
        # These end in every row, with a last line that has no line feed, and are started again.
        self.ending = [self.add("ending-0"), self.add("ending-1", log=ROTATED)]
        self.long_lived = self.rotated + self.plain + self.ending
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda w: w.create().start(), self.long_lived))
        wait_for("the writers", lambda: all(w.starts for w in self.long_lived), PATIENCE)
        say(f"{len(self.long_lived)} writers run")
        # A row of weight 1 has so many lines.
        self.unit = self.options.lines / 20

    def add(self, name, **how):
        self.all.append(Writer(self, name, **how))
        return self.all[-1]

    def end(self):
        if self.agent and self.agent.process and self.agent.process.poll() is None:
            self.agent.process.kill()
            self.agent.process.wait()
        if self.sink:
            self.sink.stop()
        if self.engine:
            self.engine.down()

    def keep_artefacts(self):
        base = os.environ.get("SKEP_LAB_DIR")
        folder = Path(base) / "artefacts" if base else Path(tempfile.mkdtemp(prefix="skep-artefacts-", dir="/var/tmp"))
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("agent.log", "sink.log", "dockerd.log"):
            if self.engine and (self.engine.home / name).exists():
                shutil.copy(self.engine.home / name, folder / name)
        print(f"artefacts: {folder}", flush=True)

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, weight, seconds, bounded=False, rounds=1, ends=True):
        """Rounds of writing, of so many lines together. Bounded: in one round nobody writes more than its files keep for an agent that is away. Gives after each
        grant, while the lines are written; what is left of a round arrives before the next."""
        each = self.unit * weight / len(self.long_lived)
        if bounded:
            # Those that hold least do not set the number of rounds: they write less.
            rounds = max(rounds, math.ceil(each / 1.5 / max(w.unread for w in self.rotated)))
        for n in range(rounds):
            for w in self.long_lived:
                count = max(2, int(each / rounds))
                count = min(count, w.unread) if bounded else count
                if w in self.ending:
                    if w.has_ended():
                        self.go_on(w)
                    w.quit(count) if ends and n == rounds - 1 else w.grant(count, seconds)
                else:
                    w.grant(count, seconds)
            yield n
            if n < rounds - 1:
                gone, empties = self.arrived()
                if gone or empties:
                    return

    def go_on(self, writer):
        """Starts it again when the engine knows of its end."""
        wait_for(f"the end of {writer.name}", lambda: not self.api.ask("GET", f"/containers/{writer.id}/json")["State"]["Running"], PATIENCE, every=0.05)
        writer.go_on()

    def outrun(self):
        """Rotated containers write more than their files hold, and no more than the state directory can."""
        for w in self.rotated:
            w.grant(int(OUTRUN / w.per_line), 3)
        self.wait_written(self.rotated)

    def at_random(self, most):
        time.sleep(self.random.uniform(0, most))

    def kill_agent(self, most):
        self.at_random(most)
        self.agent.kill()
        self.agent.start()

    # --- the rows ----------------------------------------------------------------------------------------------------

    def quiet(self):
        with self.row("none"):
            list(self.write(1, 2))

    def kills(self):
        with self.row("kill -9 of the agent"):
            each = 2
            for n in self.write(2, 1.5, bounded=True, rounds=math.ceil(self.options.kills / each)):
                for _ in range(min(each, self.options.kills - n * each)):
                    self.kill_agent(1.2)

    def frozen(self):
        with self.row("sink frozen (SIGSTOP)"):
            for _ in self.write(1, 2):
                self.at_random(1)
                self.sink.freeze()
                try:
                    self.outrun()
                    wait_for("something in the spool", lambda: self.agent.sums()["skep_log_spool_bytes"] > 0, PATIENCE)
                finally:
                    self.sink.thaw()

    def away(self):
        with self.row("sink away, agent killed meanwhile"):
            for _ in self.write(1, 2):
                self.at_random(1)
                self.sink.fault("away")
                self.outrun()
                self.wait_written()
                # What is gone from the disk and not yet copied goes with the agent, and its documents say so: it has to have been copied.
                self.note(f"{self.wait_spooled() / 1e6:.1f} MB in the spool")
                for _ in range(2):
                    self.kill_agent(1)
                self.sink.fault("none")

    def terminated(self):
        """Whatever would vanish has to be in the spool when the agent has ended; it is not waited for here."""
        with self.row("sink away, agent ended by SIGTERM"):
            for _ in self.write(1, 2):
                self.at_random(1)
                self.sink.fault("away")
                some = [self.add(f"terminated-{n}", remove=True) for n in range(4)]
                for job in some:
                    job.quit(200)
                    job.create().start()
                self.outrun()
                self.wait_removed(some)
                for _ in range(2):
                    status = self.agent.stop()
                    if status != 0:
                        raise LabError(f"the agent ended with {status} on SIGTERM")
                    self.agent.start()
                    self.agent.wait_ready()
                self.sink.fault("none")

    def wait_spooled(self):
        seen = []

        def still():
            sums = self.agent.sums()
            seen.append((sums["skep_log_spool_bytes"], sums["skep_log_pinned_bytes"]))
            return len(seen) > 5 and len(set(seen[-5:])) == 1 and seen[-1][0] > 0 and seen[-1][1] == 0
        wait_for("the spool to have what left the disk", still, PATIENCE)
        return seen[-1][0]

    def under(self, name, kind, weight=1.0, seconds=2, **more):
        with self.row(name):
            self.sink.fault(kind, **more)
            list(self.write(weight, seconds))
            self.wait_written()
            # The end arrives through a sink that is well: what is random may go on for as long as it likes.
            self.at_random(1)
            self.sink.fault("none")

    def busy(self):
        self.under("429 and 503 for some items and requests", "busy", share=0.1, whole=0.2)

    def cut(self):
        self.under("answers cut in the middle", "cut", share=0.5)

    def silent(self):
        self.under("requests never answered", "silent", share=0.3, seconds=4)

    def closed(self):
        self.under("connection closed before the answer", "closed", share=0.5)

    def large(self):
        self.under("413 over 256 KiB", "large", above=1 << 18)

    def refused(self):
        with self.row("400 for some items"):
            self.sink.fault("refuse", every=97)
            list(self.write(1, 2))
            self.arrived()
            self.sink.fault("none")
        refused = sorted(map(tuple, self.sink.ask("refused")))
        letters = lambda: sorted(self.letters())
        with contextlib.suppress(LabError):
            wait_for("the dead letters", lambda: letters() == refused, 10)
        self.report.check("the dead letter file has just what was refused", letters() == refused and refused, f"{len(letters())} letters, {len(refused)} refused")

    def letters(self):
        for file in (self.state / "dead-letters").glob("*.ndjson"):
            for text in file.read_text().splitlines():
                line = lines.parse(lines.fields(json.loads(text)["document"])[3])
                yield line.name, line.stream, line.number

    def restart(self):
        self.engine_away("engine restarted", self.engine.stop)

    def crash(self):
        self.engine_away("kill -9 of the engine", self.engine.kill)
        self.engine_away("kill -9 of the engine and the agent", self.engine.kill, kill=True)

    def engine_away(self, name, end, kill=False):
        """The engine loses what it has read of a pipe and not written: its own files are the truth here, and hold all of the row."""
        with self.row(name, holes=True):
            # As fast as they can: the engine has most in hand then.
            for _ in self.write(1, 0, bounded=True, ends=False):
                self.at_random(0.3)
                end()
                if kill:
                    self.kill_agent(1)
                self.at_random(1)
                self.engine.start()
            self.wait_written()
            # An end that the engine has: what is before it and not in its files is lost.
            for w in self.long_lived:
                w.quit(2) if w in self.ending else w.grant(2, 0)
            self.wait_written()
            found = {}

            def ends():
                for w in self.long_lived:
                    found[w] = w.in_files()
                    if any(last not in found[w][0][s] for s, last in w.written.items()):
                        return False
                return True
            wait_for("the last lines in the engine's files", ends, PATIENCE)
            for w, of in found.items():
                self.spare(w, *of)

    def removed(self):
        with self.row("docker rm -f of running containers"):
            gone = [self.add(f"removed-{n}", log=ROTATED if n % 2 else None) for n in range(6)]
            for w in gone:
                w.create().start()
                w.grant(min(w.unread, 3000), 3)
            list(self.write(0.3, 2))
            wait_for("lines of those that will be removed", lambda: all(sum(w.written.values()) > 300 for w in gone), PATIENCE)
            self.sink.freeze()
            try:
                for w in gone:
                    self.at_random(0.2)
                    with open(w.log_file, "rb") as log:
                        self.api.ask("DELETE", f"/containers/{w.id}?force=true")
                        numbers, strange, empty = lines.stored([log.read()])
                    told = sum(w.written.values())
                    w.fixed = {s: max(numbers[s], default=0) for s in w.streams}
                    w.fixed_empty = {s: len(empty[s]) for s in w.streams}
                    self.spare(w, numbers, strange, empty)
                    self.engine_lost += max(0, told - sum(w.fixed.values()))
                self.note(f"{self.wait_spooled() / 1e6:.1f} MB in the spool")
                self.kill_agent(0.2)
            finally:
                self.sink.thaw()

    def jobs(self):
        with self.row(f"{self.options.jobs} jobs of 50 ms with --rm"):
            self.run_jobs("job", self.options.jobs, freeze=True)

    def run_jobs(self, name, number, freeze=False):
        """Containers that print some lines, the last without line feed, and are removed with their end. The sink stands for a third of them."""
        jobs = [self.add(f"{name}-{n}", remove=True) for n in range(number)]
        for job in jobs:
            job.quit(self.random.randint(3, 12), linger=40)
        with ThreadPoolExecutor(4) as pool:
            third = number // 3
            for at, part in enumerate((jobs[:third], jobs[third:2 * third], jobs[2 * third:])):
                if freeze and at == 1:
                    self.sink.freeze()
                try:
                    list(pool.map(lambda job: job.create().start(), part))
                    if freeze and at == 1:
                        self.wait_removed(part)
                        self.note(f"{self.wait_spooled() / 1e6:.2f} MB in the spool")
                        self.kill_agent(0.2)
                finally:
                    self.sink.thaw()
        self.wait_removed(jobs)
        return jobs

    def wait_removed(self, jobs):
        def left():
            return [job.name for job in jobs if not job.has_ended()] or self.api.ask("GET", '/containers/json?all=1&filters={"label":["lab=job"]}')
        try:
            wait_for("the end of the jobs", lambda: not left(), PATIENCE)
        except LabError:
            raise LabError(f"in {PATIENCE} s these jobs did not end: {left()}") from None

    def full(self):
        with self.row("state directory full"):
            fill = self.state / "fill"
            try:
                for _ in self.write(1, 2, bounded=True, rounds=2):
                    if not fill.exists():
                        with open(fill, "wb", buffering=0) as f, contextlib.suppress(OSError):
                            while f.write(bytes(1 << 16)):
                                pass
                    self.kill_agent(1.5)
                self.arrived()
                self.sink.freeze()
                try:
                    self.outrun()
                    wait_for("files that are kept open, for the spool has no room", lambda: self.agent.sums()["skep_log_pinned_bytes"] > 0, PATIENCE)
                    sums = self.agent.sums()
                    self.note(f"{sums['skep_log_pinned_bytes'] / 1e6:.1f} MB kept open")
                finally:
                    self.sink.thaw()
                self.arrived()
                self.note(f"{self.agent.sums()['skep_log_cursor_errors_total']:.0f} cursors not saved")
            finally:
                fill.unlink(missing_ok=True)
            # What follows needs cursors again. They are saved with the next line's, if not before.
            try:
                wait_for("the cursors to be saved", lambda: self.agent.part("logs.state") == "ok", 3)
            except LabError:
                self.note("with room again, cursors are saved with the next line only")
                self.plain[0].grant(2, 0)
                wait_for("the cursors to be saved", lambda: self.agent.part("logs.state") == "ok", PATIENCE)

    def lost_state(self):
        name = "state directory lost"
        with self.row(name):
            for _ in self.write(0.5, 1, bounded=True):
                self.at_random(0.5)
                self.agent.kill()
                writers.empty_folder(self.state)
                self.wait_written()
                halves = self.expect_halves()
                self.agent.start()
            self.arrived()

            def at_rest():
                sums = self.agent.sums()
                return sums["skep_log_lag_bytes"] == 0 and sums["skep_log_records_acknowledged_total"] + sums["skep_log_dead_letters_total"] \
                    == sums["skep_log_records_read_total"] > 0
            wait_for("the agent to have sent all files again", at_rest, PATIENCE)
        _, written, lost, _, duplicates, *_ = self.table[-1]
        self.report.check("what is sent again after the loss of the state is known by its id", self.created == written - lost + halves and duplicates > 0,
                          f"{self.created} documents created for {written} lines and {halves} ends of lines, {duplicates} times 409")

    def expect_halves(self):
        """An oldest file may begin with the end of a line whose beginning went with the file before it. An agent that knows of nothing sends that too: a record under an
        id that was never sent. Gives their number."""
        halves = 0
        for w in self.rotated:
            _, strange, empty = w.in_files()
            new = {(w.id, s, str(when), str(checksum)) for s, when, checksum in strange} - self.expected_strange
            self.expected_strange |= new
            halves += len(new)
            # Of a line of just one piece that is its line feed: an empty line that is not known.
            for s in w.streams:
                alone = sum(not known for known in self.sink.ask("known", key=[w.name, s], times=[when for number, when in empty[s] if number == 0]))
                self.empties_spared[w.name, s] = self.empties_spared.get((w.name, s), 0) - alone
                self.forgiven += alone
                halves += alone
        self.note(f"{halves} ends of lines whose beginning was rotated away")
        return halves

    def together(self):
        with self.row("all faults of the sink, and kills"):
            self.sink.fault("all")
            for _ in self.write(1.5, 2, bounded=True, rounds=3):
                self.kill_agent(2)
            self.arrived()
            self.sink.fault("none")

    def rest(self):
        """What is left of the lines that were asked for."""
        left = self.options.lines - sum(row[1] for row in self.table)
        if left > 0:
            self.under("all faults of the sink", "all", weight=left / self.unit, seconds=max(2, left / 15_000))

    def compressed(self):
        if not self.options.compressed:
            say("compressed predecessors are left out")
            return
        with self.row("compressed, written while no agent ran"):
            packed = [self.add(f"compressed-{n}", size=1500, log={**ROTATED, "max-file": "5", "compress": "true"}) for n in range(3)]
            for w in packed:
                w.create().start()
                w.grant(1000, 0)
            self.arrived()
            self.agent.kill()
            # Three files of 1 MB behind what is acknowledged: the live one, two that are compressed.
            for w in packed:
                w.grant(int(2_600_000 / w.per_line), 1)
            self.wait_written(packed)
            wait_for("compressed files", lambda: all(list(w.log_file.parent.glob("*.gz")) for w in packed), PATIENCE)
            self.agent.start()

    def certain(self):
        """More rotations than files, and jobs that come and go, while no agent runs."""
        with self.row("lost for certain", is_told=True):
            self.agent.kill()
            some = self.rotated[:3]
            for w in some:
                w.grant(int(6_000_000 / w.per_line), 0)
            jobs = self.run_jobs("unseen", 5)
            self.wait_written()
            kept = {}
            for w in some:
                end = lambda w=w: all(last in w.in_files()[0][s] for s, last in w.written.items())
                wait_for("the last lines in the engine's files", end, PATIENCE)
                kept[w] = w.in_files()
            for w in some:
                self.spare(w, *kept[w])
            rotated, self.engine_lost = self.engine_lost, 0
            for job in jobs:
                self.spare(job, {"o": set(), "e": set()}, set(), {"o": [], "e": []})
            of_jobs, self.engine_lost = self.engine_lost, 0
            self.agent.start()
            self.note(f"{rotated} lines of {len(some)} containers were in no file when the agent started, and {of_jobs} of {len(jobs)} jobs")
        self.report.check("gaps are told", self.last_told.get("gaps_total:rotated_away") == len(some), str(self.last_told))
        self.table[-1][-1] += f"; told: {self.last_told}"

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self):
        state = self.sink.ask("state")
        ids = {w.name: w.id for w in self.all}
        wrong = [f"{key}: {found}" for key, found in state["identities"].items() for name, s in [key.split()]
                 if name in ids and found != [[ids[name], name, {"o": "stdout", "e": "stderr"}[s]]]]
        self.report.check("each record has its container's id and name, and its stream", not wrong, "; ".join(wrong[:3]))
        status = self.agent.stop()
        self.report.check("the agent ends by itself on SIGTERM", status == 0, f"status {status}")
        log = self.agent.log.read_text(errors="replace")
        faults = [line for line in log.splitlines() if "fault of skep" in line or "panicked" in line]
        self.report.check("no fault of skep's own in its log", not faults, " | ".join(faults[:3]))
        total = sum(row[1] for row in self.table)
        if not self.options.row:
            self.report.check("lines enough", total >= self.options.lines, f"{total}, {len(self.all)} containers, {self.agent.kills} kills of the agent")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
