"""The rows of the torture: what was written while one thing failed has to have arrived, once and in order."""

import contextlib
import time

from common import LabError, say

PATIENCE = 60           # seconds in which something has to happen
COLUMNS = ["fault", "written", "lost", "repeated", "409", "disorder", "engine lost", "seconds", "what was done"]


class Rows:
    def __init__(self, report):
        self.report = report
        self.sink = self.agent = None
        self.all, self.table = [], []                        # every writer there was; the rows until now
        self.counted = {"created": 0, "duplicates": 0, "repeated": 0}
        self.created = 0                                     # documents in the last row
        self.told, self.last_told = {}, {}                   # what the agents told of lines that did not arrive, in all and in the last row
        self.expected_strange = set()                        # what the engine's files have that is no whole line: (container, stream, time, checksum)
        self.empties_spared, self.empties_before = {}, {}
        self.forgiven = set()                                # empty records that stand elsewhere than behind their number, and may: (writer, stream, time)
        self.began = time.monotonic()

    @contextlib.contextmanager
    def row(self, name, holes=False, is_told=False):
        """What is written inside has to have arrived at its end, and all is counted. `holes`: the engine itself may lose
        lines. `is_told`: lines are lost for certain, and the agent is to say so; in all other rows it must not."""
        for writer in self.all:
            writer.started = dict(writer.written)
            self.empties_before[writer.name] = dict(writer.empty)
        self.notes, self.engine_lost, self.row_began, self.kills_before = [], 0, time.monotonic(), self.agent.kills
        self.row_since = time.time_ns()
        self.sink.ask("done")
        say(f"row {name}")
        yield
        self.settle(name)
        self.judge(name, holes, is_told)

    def note(self, text):
        self.notes.append(text)

    def missing(self):
        """What was written in this row and is not there, by stream; and streams that lack empty lines, or have too many."""
        ranges = {f"{w.name} {s}": (w.started[s] + 1, last) for w in self.all for s, last in w.written.items() if last > w.started[s]}
        spared = {f"{w.name} {s}": w.spared[s] for w in self.all for s in w.streams}
        gone = {key: [n for n in numbers if n not in spared[key]] for key, numbers in self.sink.ask("missing", ranges=ranges).items()}
        counts = self.sink.ask("counts")
        empties = {}
        for w in self.all:
            for s, number in w.empty.items():
                lack = number - self.empties_spared.get((w.name, s), 0) - counts.get(f"{w.name} {s}", [0, 0, 0])[2]
                if lack:
                    empties[f"{w.name} {s}"] = lack
        return {key: numbers for key, numbers in gone.items() if numbers}, empties

    def wait_written(self, of=None):
        def waiting():
            return [f"{w.name} {sum(w.written.values())} of {w.target}" for w in of or self.all if not w.fixed and not w.is_done()]
        written = lambda: sum(sum(w.written.values()) for w in self.all)
        if not self.wait_while(written, lambda: not waiting(), every=0.02):
            raise LabError(f"for {PATIENCE} s these did not write what they should: {waiting()}")

    @staticmethod
    def wait_while(progress, condition, every):
        """Polls until the condition holds, as long as there is progress; whether it does."""
        last, since = None, time.monotonic()
        while not condition():
            if progress() != last:
                last, since = progress(), time.monotonic()
            if time.monotonic() - since > PATIENCE:
                return False
            time.sleep(every)
        return True

    def arrived(self):
        """Waits until what was written has arrived; what is missing otherwise."""
        self.wait_written()
        last = {}

        def all_there():
            last["missing"] = self.missing()
            return not last["missing"][0] and not any(lack > 0 for lack in last["missing"][1].values())
        self.wait_while(lambda: self.sink.ask("progress"), all_there, every=0.1)
        # One that has just started may ship before it answers.
        self.agent.wait_ready()
        return last["missing"]

    def settle(self, name):
        gone, empties = self.arrived()
        self.lost = sum(map(len, gone.values())) + sum(lack for lack in empties.values() if lack > 0)
        self.excess = -sum(lack for lack in empties.values() if lack < 0)
        if gone or empties:
            text = "; ".join(f"{key}: {len(numbers)} lines, {numbers[0]} to {numbers[-1]}" for key, numbers in list(gone.items())[:8])
            say(f"row {name}: for {PATIENCE} s nothing came, and not there is: {text}; empty lines: {empties}")
            self.tell(name)
        # What is lost in this row is not to be waited for in the next.
        by_name = {w.name: w for w in self.all}
        for key, numbers in gone.items():
            writer, s = key.split()
            by_name[writer].spared[s].update(numbers)
        for key, lack in empties.items():
            key = tuple(key.split())
            self.empties_spared[key] = self.empties_spared.get(key, 0) + lack

    def tell(self, name):
        """The agent's own figures, when something is wrong."""
        with contextlib.suppress(OSError):
            sums = self.agent.sums()
            say(f"row {name}: the agent: " + ", ".join(f"{key.removeprefix('skep_log_')} {value:g}" for key, value in sorted(sums.items())
                                                       if value and "duration" not in key))

    def judge(self, name, holes, is_told):
        state = self.sink.ask("state")
        disorder = self.sink.ask("disorder", holes=holes)
        disorder = [entry for entry in disorder if (*entry[:2], entry[3][0]) not in self.forgiven]
        repeated = len(state["repeated"]) + len(state["collisions"]) - self.counted["repeated"] + self.excess
        strange = {tuple(key.split()) for key in state["strange"]}
        odd, absent = strange - self.expected_strange, self.expected_strange - strange
        written = sum(last - w.started[s] for w in self.all for s, last in w.written.items())
        written += sum(number - self.empties_before.get(w.name, {}).get(s, 0) for w in self.all for s, number in w.empty.items())
        duplicates = state["duplicates"] - self.counted["duplicates"]
        self.created = state["created"] - self.counted["created"]
        self.counted = {"created": state["created"], "duplicates": state["duplicates"], "repeated": len(state["repeated"]) + len(state["collisions"])}
        self.expected_strange = strange
        seconds = time.monotonic() - self.row_began
        if self.agent.kills > self.kills_before:
            self.note(f"{self.agent.kills - self.kills_before} kills of the agent")
        self.notes += [f"{number} {what}" for what, number in sorted(self.sink.ask("done").items())]
        lost = self.lost + len(absent)
        self.table.append([name, written, lost, repeated, duplicates, len(disorder), self.engine_lost, f"{seconds:.1f}", ", ".join(self.notes)])
        self.agent.wait_ready()
        told, before, self.told = self.agent.told(), self.told, self.agent.told()
        # What is told of lines that did not arrive, since the row before.
        told = {key: int(value - before.get(key, 0)) for key, value in sorted(told.items()) if value > before.get(key, 0)}
        detail = f"{written} written, {lost} lost, {repeated} repeated, {len(disorder)} out of order, {duplicates} times 409"
        if disorder or odd or absent or repeated:
            texts = [state["strange"][" ".join(key)] for key in sorted(odd)[:3]]
            detail += f"; repeated {(state['repeated'] + state['collisions'])[-3:]}; out of order {disorder[:3]}; no lines {texts}; not there {sorted(absent)[:3]}"
        self.last_told = told
        self.report.check(name, not (lost or repeated or disorder or odd or (told and not is_told)), detail + (f"; told: {told}" if told else ""))

    def spare(self, writer, numbers, strange, empty):
        """What the engine's files do not have was not written, as far as the agent goes."""
        for s, last in writer.written.items():
            gone = set(range(writer.started[s] + 1, last + 1)) - numbers[s]
            writer.spared[s] |= gone
            key = (writer.name, s)
            before = self.empties_before.get(writer.name, {}).get(s, 0)
            lack = writer.empty[s] - before - sum(when >= self.row_since for _, when in empty[s])
            self.empties_spared[key] = self.empties_spared.get(key, 0) + lack
            self.engine_lost += len(gone) + lack
        # The oldest file may begin with the end of a line of long ago.
        self.expected_strange |= {(writer.id, s, str(when), str(checksum)) for s, when, checksum in strange if when >= self.row_since}

    def print_table(self, more):
        total = ["sum", *(sum(int(row[n]) for row in self.table) for n in range(1, 7)), f"{time.monotonic() - self.began:.1f}", more]
        rows = [[str(cell) for cell in row] for row in [COLUMNS, *self.table, total]]
        widths = [max(len(row[n]) for row in rows) for n in range(len(COLUMNS) - 1)]
        for row in rows:
            print("  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths))) + "  " + row[-1], flush=True)
