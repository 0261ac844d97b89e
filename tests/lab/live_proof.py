#!/usr/bin/env python3
"""The proof of container metrics on this machine's own cgroups: a real engine, real containers, and the agent as a process."""

import argparse
import signal
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import images
import oracles
import proof
from common import LabError, Report
from life import Life
from one_engine import PARENT, OneEngine
from proof import Agent, Engine

SECTIONS = ["numbers", "files", "bytes_of_disk_and_network", "kills_for_want_of_memory", "names_and_limits", "restarts", "exit_codes", "health", "short_jobs",
            "agent_restarts", "engine_restarts", "containers_vanish", "engine_hangs"]


class Control:
    def __init__(self, engine):
        self.engine = engine
        self.crash, self.start = engine.kill, engine.start

    def freeze(self):
        self.engine.signal(signal.SIGSTOP)

    def thaw(self):
        self.engine.signal(signal.SIGCONT)


def place():
    """Where the engine's cgroups are on this machine, whichever version it has."""
    version = 2 if Path(oracles.CGROUP, "cgroup.controllers").exists() else 1
    return oracles.Place(version, lambda identity: f"{PARENT}/{identity}")


def prove(report, binary, ledger=True, sections=SECTIONS):
    one = agent = None
    proof.PATIENCE = 60
    try:
        one = OneEngine()
        images.load([one], images.shell())
        engine = Engine(one.docker, one.socket, place())
        agent = Agent(binary, f"unix://{one.socket}", one.home / "state", one.home / "agent.log")
        agent.start()
        life = Life(report.check, f"v{engine.place.version}", agent, engine, Control(one), one.home / "disk", ledger)
        for section in sections:
            getattr(life, section)()
    except (LabError, RuntimeError, OSError, SystemExit) as error:
        report.check("the proof could run to its end", False, str(error))
    finally:
        if agent:
            agent.stop()
        if one:
            one.down()


def main():
    cli = argparse.ArgumentParser(prog="live_proof", description=__doc__)
    cli.add_argument("--binary", required=True, help="the agent")
    cli.add_argument("--without-ledger", action="store_true", help="leave out what only a ledger of exits can tell")
    cli.add_argument("--section", action="append", choices=SECTIONS, help="only this one; repeatable")
    options = cli.parse_args()
    report = Report()
    prove(report, options.binary, not options.without_ledger, options.section or SECTIONS)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
