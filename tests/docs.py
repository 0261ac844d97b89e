"""docs.py [BINARY]: checks that docs/ has all that there is, and nothing else: every metric of skep's own with its type and labels, every part of /readyz,
every family of containers, and, where the binary is given, every flag of its --help with its default. And that links between pages lead somewhere."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# How src/telemetry makes a family: what stands before its name, and its type.
MADE_BY = {
    "counter": "counter", "IntCounter::new": "counter", "Counter::new": "counter", "gauge": "gauge", "float": "gauge", "IntGauge::new": "gauge",
    "HistogramOpts::new": "histogram",
}


def source(folder):
    """Rust without its tests, which come last in a file or stand in files of their own."""
    files = [file for file in sorted((ROOT / "src" / folder).rglob("*.rs")) if file.name != "tests.rs" and "tests" not in file.relative_to(ROOT).parts]
    return "\n".join(file.read_text().split("#[cfg(test)]\nmod tests {")[0] for file in files)


def rows(page, *headings):
    """The rows of the tables below these headings, as cells, without the heads; no heading is the whole page."""
    below, table = not headings, 0
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if line.startswith("#") and headings:
            below = line.lstrip("# ") in headings
        table = table + 1 if line.startswith("|") else 0
        if below and table > 2:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def differences(page, what, have, told):
    for name in sorted(have - told):
        yield f"docs/{page}: {what} {name} is missing"
    for name in sorted(told - have):
        yield f"docs/{page}: there is no {what} {name}"


def own_metrics():
    text = source("")
    named = set(re.findall(r'"(skep_[a-z0-9_]+)"', text))
    # A name, a help text, and the labels where there are any; a histogram's stand behind its buckets.
    made = re.finditer(r'([\w:]+)\(\s*"(skep_\w+)",\s*"[^"]*",?\s*(?:\)\s*\.buckets\([^)]*\),\s*)?(?:&\[([^\]]*)\])?', text)
    have = {one[2]: (MADE_BY[one[1]], set(re.findall(r"\w+", one[3] or ""))) for one in made if one[1] in MADE_BY}
    have["skep_build_info"] = ("gauge", {"version", "rustversion"})
    for name in sorted(named - have.keys()):
        yield f"tests/docs.py: it does not see how {name} is made"
    told = {}
    for family, kind, labels, *_ in rows("own-metrics.md", "The agent", "The engine and the containers", "Logs"):
        # Behind a colon stand a label's values.
        told[code(family)[0]] = (kind, set(code(re.sub(r":[^;]*", "", labels))))
    yield from differences("own-metrics.md", "metric", have.keys(), told.keys())
    for name in have.keys() & told.keys():
        if have[name] != told[name]:
            yield f"docs/own-metrics.md: {name} is {have[name]}, not {told[name]}"
    # Values of labels. Those that a sink chooses are too many to tell.
    page = {word for row in rows("own-metrics.md") for cell in row for word in code(cell)}
    for name, values in re.findall(r"^const (\w+): \[&str; \d+\] =\s*\[([^\]]*)\]", text, re.MULTILINE):
        if name in {"DROPPED", "GAPS", "RESCANS", "FILE_ERRORS", "SPOOL_GIVEN_UP", "DISK_WALKS", "LEDGER_LOSSES", "HTTP_REFUSED", "REDACTED", "LABELS_REFUSED"}:
            yield from (f"docs/own-metrics.md: {value} of {name} is missing" for value in re.findall(r'"(\w+)"', values) if value not in page)


def parts():
    text = source("")
    have = set(re.findall(r'parts(?:\(\))?\.part\("([a-z.]+)"\)|Probe \{ part: "([a-z.]+)"', text))
    have = {name for pair in have for name in pair if name} | {"route:NAME"}
    told = {name for row in rows("own-metrics.md", "Parts") for name in code(row[0])} - {"ok", "off", "starting", "degraded"}
    yield from differences("own-metrics.md", "part", have, told)


def alternatives(name):
    """`a_{b,c}_d` is `a_b_d` and `a_c_d`. Braces behind anything but a `_` are labels."""
    name = re.sub(r"(?<!_)\{.*", "", name)
    pieces = [piece[1:-1].split(",") if piece.startswith("{") else [piece] for piece in re.split(r"(\{[^}]*\})", name)]
    return ["".join(choice) for choice in itertools.product(*pieces)]


def families(cell):
    """Of each name in a cell what it may be: `_b` is a name before it, with its end replaced."""
    before = []
    for token in code(cell):
        for name in alternatives(token):
            if re.match(r"(container|machine|cadvisor)_", name):
                before.append(name)
                yield {name}
            elif name.startswith("_") and before:
                yield {full[: cut.start()] + name for full in before for cut in re.finditer("_", full)}


def container_families():
    have = {name for name in re.findall(r'"((?:container|machine|cadvisor)_[a-z0-9_]+)"', source("containers")) if name != "machine_id" and not name.startswith("container_label_")}
    told = set()
    for row in rows("containers.md"):
        for position, cell in enumerate(row[:2]):
            for could in families(cell):
                told |= could & have
                if position == 0 and not could & have and "**not written**" not in row[-1]:
                    yield f"docs/containers.md: there is no family {' or '.join(sorted(could))}"
    yield from differences("containers.md", "family", have, told)


def flags(binary):
    text = subprocess.run([binary, "--help"], stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.split(r"^ {6}--([\w.-]+)", text, flags=re.MULTILINE)[1:]
    have = dict(zip(found[::2], found[1::2]))
    told = {}
    for flag, default, *_ in rows("flags.md"):
        name = code(flag)[0].removeprefix("--")
        told[name] = default
        is_default = re.search(r"\[default: (.*?)\]\.?$", have.get(name, ""), re.MULTILINE)
        is_default = is_default[1] if is_default else "none"
        if name in have and default.replace("`", "") != {"true": "on", "false": "off"}.get(is_default, is_default):
            yield f"docs/flags.md: --{name} is {is_default} by default"
    for collector, default, _, _, own in rows("host.md", "The collectors"):
        name = f"collector.{collector}"
        told[name] = default
        runs = "on" if "it runs by default" in have.get(name, "") else "off"
        if default != runs:
            yield f"docs/host.md: {collector} is {runs} by default"
        before = ""
        for token in code(own):
            before = before.rpartition("-")[0] + token if token.startswith("-") else token
            told[f"collector.{before}"] = None
    # Those that are understood and do nothing stand in a list.
    for name in re.findall(r"`--(?!no-)([a-z][\w.-]*)`", (ROOT / "docs/host.md").read_text()):
        if name in have:
            told[name] = None
    yield from differences("flags.md and host.md", "flag", have.keys(), told.keys())


def links():
    def text(page):
        """Without what is between fences, where a # is a comment."""
        return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)

    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/lab/*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if re.match(r"[a-z]+:", link):
                continue
            # As GitHub makes them.
            heads = re.findall(r"^#+ (.*)", text(target), re.MULTILINE) if anchor and target.is_file() else []
            if not target.exists() or anchor and anchor not in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}:
                yield f"{page.relative_to(ROOT)}: {link} leads nowhere"


found = [*links(), *own_metrics(), *parts(), *container_families(), *(flags(sys.argv[1]) if len(sys.argv) > 1 else [])]
for fault in found:
    print(fault)
if not found:
    print("docs: all of it is there")
sys.exit(bool(found))
