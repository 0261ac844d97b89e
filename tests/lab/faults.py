"""The faults of the torture, a method for each: a row, or some."""

import contextlib
import json
import math
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import elastic
import lines
import netns
import writers
from common import LabError, free_port, say, wait_for
from proxy import Proxy
from rows import PATIENCE, Rows
from writers import ROTATED

# Bytes that a rotated container writes while its sink stands: more than its files hold.
OUTRUN = 4_200_000
ROWS = ["quiet", "kills", "frozen", "away", "terminated", "busy", "refused", "cut", "silent", "closed", "large", "restart", "crash", "removed", "jobs", "full",
        "lost_state", "together", "rest", "single", "compressed", "real", "certain"]


class Faults(Rows):
    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, weight, seconds, bounded=False, rounds=1, ends=True, once=False):
        """Rounds of writing, of so many lines together. Bounded: in one round nobody writes more than its files keep for an agent that is away. Gives after each
        grant, while the lines are written; what is left of a round arrives before the next. `once`: no more rounds than that, so that the files keep all of the row."""
        each = self.unit * weight / len(self.long_lived)
        if bounded and not once:
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
            for _ in self.write(1, 0, bounded=True, ends=False, once=True):
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
                # No more in all than the files keep: no cursor is saved meanwhile, and an agent that is killed begins where it stood before.
                for _ in self.write(1, 2, bounded=True, rounds=2, once=True):
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
            if not self.wait_while(lambda: self.sink.ask("progress"), self.at_rest, every=0.2):
                raise LabError(f"the agent has not sent all files again, and for {PATIENCE} s nothing came")
        _, written, lost, _, duplicates, *_ = self.table[-1]
        self.report.check("what is sent again after the loss of the state is known by its id", self.created == written - lost + halves and duplicates > 0,
                          f"{self.created} documents created for {written} lines and {halves} ends of lines, {duplicates} times 409")

    def expect_halves(self):
        """An oldest file may begin with the end of a line whose beginning went with the file before it. An agent that knows of nothing sends that too, under an
        id that was never sent. Gives their number."""
        halves = 0
        for w in self.rotated:
            _, strange, empty = w.in_files()
            new = {(w.id, s, str(when), str(checksum)) for s, when, checksum in strange} - self.expected_strange
            self.expected_strange |= new
            halves += len(new)
            # Of a line of just one piece that is its line feed: an empty line that is not known.
            for s in w.streams:
                times = [when for number, when in empty[s] if number == 0]
                alone = [when for when, known in zip(times, self.sink.ask("known", key=[w.name, s], times=times)) if not known]
                self.empties_spared[w.name, s] = self.empties_spared.get((w.name, s), 0) - len(alone)
                self.forgiven.update((w.name, s, when) for when in alone)
                halves += len(alone)
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

    def single(self):
        """One file only: the engine throws it away when it is full, and an agent that lives still has it."""
        with self.row("one file only (max-file=1), sink frozen"):
            some = [self.add(f"single-{n}", size=1500, log={**ROTATED, "max-file": "1"}) for n in range(3)]
            for w in some:
                w.create().start()
                w.grant(100, 0)
            self.arrived()
            self.sink.freeze()
            try:
                for w in some:
                    w.grant(int(OUTRUN / w.per_line), 3)
                self.wait_written(some)
                self.note(f"{self.wait_spooled() / 1e6:.1f} MB in the spool")
            finally:
                self.sink.thaw()

    def compressed(self):
        reads = self.options.compressed
        # The counter is there, with 0, in an agent that reads them.
        if not ("skep_log_gaps_total:damaged_file" in self.agent.sums() if reads is None else reads):
            say("the agent does not read compressed predecessors: their rows are left out")
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
        with self.row("compressed, sink frozen and agent killed"):
            self.sink.freeze()
            try:
                for w in packed:
                    w.grant(int(3_400_000 / w.per_line), 3)
                for _ in range(3):
                    self.kill_agent(1)
                self.wait_written(packed)
            finally:
                self.sink.thaw()

    def real(self):
        """A second route, to a real Elasticsearch behind a proxy that is cut and stalls."""
        if not self.options.elasticsearch:
            return
        inside = netns.of_process(os.getpid())
        self.server = elastic.Elasticsearch(self.engine.home / "elasticsearch", inside)
        port = free_port()
        self.proxy = proxy = Proxy(inside, ("127.0.0.1", port), ("127.0.0.1", self.server.port))
        with self.row("a real Elasticsearch cut off and stalled, agent killed"):
            self.agent.stop()
            self.agent.command += ["--route", f"elasticsearch://127.0.0.1:{port}?name=real&timeout=3s&flush=200ms"]
            self.agent.start()
            for _ in self.write(1, 2, bounded=True, rounds=3):
                proxy.cut()
                self.kill_agent(1)
                proxy.restore()
                self.at_random(1)
                proxy.stall()
                self.at_random(1)
                proxy.restore()
            self.arrived()
            wait_for("the second route to have sent all", self.at_rest, PATIENCE)
        found = Counter()
        for _, _, document in self.server.documents("docker-logs-*"):
            line = lines.parse(lines.fields(document)[3])
            if line:
                found[line] += 1
        wanted = [(w.name, s, n) for w in self.all for s, last in w.written.items() for n in range(w.started[s] + 1, last + 1)]
        lost = [line for line in wanted if line not in found]
        repeated = [line for line, times in found.items() if times > 1]
        self.report.check("the real Elasticsearch has each line once", not lost and not repeated,
                          f"{len(wanted)} written, {len(found)} there with those of before, {len(lost)} lost {lost[:3]}, {len(repeated)} repeated {repeated[:3]}")

    def at_rest(self):
        """Everything that was read has its verdict, and there is nothing else to read."""
        sums = self.agent.sums()
        return sums["skep_log_lag_bytes"] == 0 and sums["skep_log_records_acknowledged_total"] + sums["skep_log_dead_letters_total"] \
            == sums["skep_log_records_read_total"] > 0

    def certain(self):
        """More rotations than files, and jobs that come and go, while no agent runs."""
        with self.row("lost for certain", holes=True, is_told=True):
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
