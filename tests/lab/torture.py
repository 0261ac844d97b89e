#!/usr/bin/env python3
"""The torture of the log side: containers of a real engine write numbered lines while the agent, the sink, the engine and the disk fail, one fault to a row. Each
line has to arrive once, and in order; what is lost for certain has to be told. The table at the end has a row for each fault.

See `tests/lab/run torture --help` for its options."""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
import writers
from bulk import Sink
from common import LabError, Report, find_binary, free_port, run, say, wait_for
from faults import ROWS, Faults
from one_engine import OneEngine
from rows import PATIENCE
from writers import ROTATED, Agent, Api, Writer

STATE_SIZE = "256m"


def main(arguments):
    parser = argparse.ArgumentParser(prog="run torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the agent")
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--jobs", type=int, default=200, help="containers that live for 50 ms")
    parser.add_argument("--kills", type=int, default=10, help="of the agent, in the row of that name; there are others in other rows")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of kills and the sink's choices")
    parser.add_argument("--row", action="append", choices=ROWS, help="only this one; repeatable")
    parser.add_argument("--compressed", action=argparse.BooleanOptionalAction, help="whether the agent reads compressed predecessors [default: asked of it]")
    parser.add_argument("--elasticsearch", action="store_true", help="a real Elasticsearch 7 too, for one row")
    parser.add_argument("--option", action="append", default=[], help="of the agent's own, such as --option=--no-logs.inotify; repeatable")
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


class Torture(Faults):
    def __init__(self, options, report):
        super().__init__(report)
        self.options = options
        self.random = random.Random(options.seed)
        self.engine = self.server = self.proxy = None
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
        self.agent = Agent(binary, self, free_port(), ["--shutdown.timeout", "3s", "--route", route, *self.options.option], home / "agent.log")
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
        if self.proxy:
            self.proxy.close()
        if self.server:
            self.server.stop()
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
