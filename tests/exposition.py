"""exposition.py [--legacy REGEX] NAME TEXT OPEN: checks two answers of one skep, the text format in the file TEXT and OpenMetrics in OPEN ('-' is standard
input), with the parsers of Prometheus' client for Python, which are OpenMetrics' reference, and the text with `promtool check metrics`.

promtool finds fault with names that are node_exporter's and have to stay; those whose complaint begins with REGEX are listed and are no fault."""

import argparse
import re
import subprocess
import sys
from collections import Counter

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format


def read(path):
    if path == "-":
        return sys.stdin.buffer.read().decode()
    with open(path, "rb") as file:
        return file.read().decode()


def series(families):
    found = Counter()
    for family in families:
        for sample in family.samples:
            # Bounds are floats in the one format and may be whole in the other.
            labels = {name: str(float(value)) if name in ("le", "quantile") else value for name, value in sample.labels.items()}
            # An empty label is none.
            found[sample.name, tuple(sorted((name, value) for name, value in labels.items() if value))] += 1
    return found


def check(text, opened, legacy):
    faults, listed = [], []
    heads = Counter(line.split(" ")[2] for line in text.split("\n") if line.startswith("# TYPE "))
    faults += [f"text: {count} heads of {name}" for name, count in heads.items() if count > 1]
    both = []
    for name, parser, body in (("text", text_format, text), ("OpenMetrics", openmetrics, opened)):
        try:
            found = series(parser(body))
        except (ValueError, KeyError) as error:
            faults.append(f"{name}: {error!r}")
            continue
        both.append(set(re.findall(r"^[a-zA-Z_:][a-zA-Z0-9_:]*", body, re.MULTILINE)))
        faults += [f"{name}: {count} of {sample}" for sample, count in found.items() if count > 1]
    if len(both) == 2:
        # Two answers are some time apart, so a series more or less is none of the format's; a name is.
        faults += [f"only in one of the formats: {name}" for name in sorted(both[0] ^ both[1])]
    tool = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    complaints = (tool.stdout + tool.stderr).decode().splitlines()
    if tool.returncode not in (0, 3) and not complaints:
        faults.append(f"promtool ended with {tool.returncode}")
    for complaint in filter(None, complaints):
        (listed if legacy and re.match(legacy, complaint) else faults).append(f"promtool: {complaint}")
    return faults, listed, sum(heads.values()), sum(1 for line in text.split("\n") if line and not line.startswith("#"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--legacy", help="names that promtool may find fault with")
    arguments.add_argument("name")
    arguments.add_argument("text")
    arguments.add_argument("open")
    given = arguments.parse_args()
    faults, listed, families, samples = check(read(given.text), read(given.open), given.legacy)
    for line in listed:
        print(f"  node_exporter's name: {line}")
    for line in faults:
        print(f"  FAULT {line}")
    print(f"{given.name}: {families} families, {samples} samples, {len(listed)} names of node_exporter's, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
