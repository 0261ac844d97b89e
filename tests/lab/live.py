#!/usr/bin/env python3
"""run live: cargo's tests that need more than cargo has (root for a mount that never answers, an engine, and Elasticsearch), and the proof of container
metrics on this machine's cgroups.

Cargo's are marked `#[ignore = "..."]` in the source, because cargo alone cannot start what they need; here each of them runs, and counts.
"""
import argparse
import os
import re
import subprocess
import sys

import elastic
import images
import live_proof
import swarm_lab
from common import LabError, Report, need_root, say


def main():
    cli = argparse.ArgumentParser(prog="run live", description=__doc__)
    cli.add_argument("--library", required=True, help="the library's unit tests, as cargo test --no-run makes them")
    cli.add_argument("--collect", required=True, help="the test binary of tests/collect")
    cli.add_argument("--containers", required=True, help="the test binary of tests/containers.rs")
    cli.add_argument("--agent", required=True, help="the agent itself, however it is built")
    cli.add_argument("--without-ledger", action="store_true", help="leave out what only a ledger of exits can tell")
    options = cli.parse_args()
    need_root()
    report = Report()
    mine, server = not swarm_lab.STATE.exists(), None
    try:
        tests(report, "a hung mount", [options.collect], {}, ["hung::"])
        swarm = swarm_lab.up()
        node = swarm.nodes[0]
        images.load([node], images.shell())
        node.docker("run", "-d", "--name", "burns", "--memory", "64m", "--cpus", "0.3", "bb:1", "sh", "-c", "while :; do :; done")
        node.docker("run", "-d", "--name", "sleeps", "bb:1", "sleep", "100000")
        engine = {"DOCKER_HOST": f"unix://{node.socket}", "SKEP_TEST_CGROUP_PARENT": f"skep-lab-{node.number}"}
        tests(report, "containers", [options.containers], engine, ["live::", "live_endings::"])
        inside = ["nsenter", f"--net={swarm.wire}", options.library]
        # One at a time: each takes some hundred MB.
        for kind, name in elastic.KINDS.items():
            server = elastic.Elasticsearch(swarm.home / kind, swarm.wire, kind)
            tests(report, name, inside, {"SKEP_TEST_ELASTICSEARCH": f"127.0.0.1:{server.port}"}, ["a_real_server"])
            server.stop()
            server = None
    except LabError as error:
        report.check("the servers are there", False, str(error))
    finally:
        if server:
            server.stop()
        if mine:
            swarm_lab.down()
    live_proof.prove(report, options.agent, not options.without_ledger)
    return report.close()


def tests(report, name, command, environment, which):
    """Runs ignored tests, one after the other, and counts each."""
    done = subprocess.run([*command, "--ignored", "--nocapture", "--test-threads=1", *which], env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    found = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed", done.stdout, re.M)
    passed, failed = map(int, found[0]) if found else (0, 0)
    if failed or done.returncode or not passed:
        say(done.stdout)
    report.check(f"{name}: the tests that cargo alone leaves out", done.returncode == 0 and passed > 0 and not failed, f"{passed} passed, {failed} failed")


if __name__ == "__main__":
    sys.exit(main())
