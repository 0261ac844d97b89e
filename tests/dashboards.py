"""dashboards.py FILE...: checks that Grafana dashboards are whole: they stand on a datasource variable alone, every panel says what it shows, every query is
PromQL (by promtool), and every metric of skep's own that they ask for is in the source."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PANELS = {"timeseries", "stat", "gauge", "bargauge", "table", "state-timeline", "logs", "text", "row"}
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def own_metrics():
    """The names that start with skep_ in the source; formats of tests among them do no harm."""
    names = set()
    for file in SOURCE.rglob("*.rs"):
        names.update(re.findall(r"\bskep_[a-z0-9_]+", file.read_text()))
    return names


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def faults(dashboard, own):
    if dashboard.get("id") is not None or not dashboard.get("uid"):
        yield "id has to be null, and uid set"
    if dashboard.get("__inputs") or not dashboard.get("schemaVersion", 0) >= 38:
        yield "no __inputs, and a schemaVersion of Grafana 9 or later"
    variables = {v["name"]: v for v in dashboard["templating"]["list"]}
    if variables.get("datasource", {}).get("type") != "datasource":
        yield "no datasource variable"
    ids, places = set(), set()
    for panel in panels(dashboard):
        name = panel.get("title") or f"panel {panel.get('id')}"
        if panel["id"] in ids:
            yield f"{name}: id {panel['id']} twice"
        ids.add(panel["id"])
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        if cells & places or place["x"] + place["w"] > 24:
            yield f"{name}: lies over another panel, or over the edge"
        places |= cells
        if panel["type"] not in PANELS:
            yield f"{name}: {panel['type']} is none of Grafana's own panels"
        if panel["type"] in ("row", "text"):
            continue
        if not panel.get("title") or not panel.get("description") or not panel.get("targets"):
            yield f"{name}: title, description and a query are needed"
        if panel.get("datasource") != DATASOURCE or any(t.get("datasource") != DATASOURCE for t in panel.get("targets", [])):
            yield f"{name}: its datasource is not the variable"
        for target in panel.get("targets", []):
            for used in re.findall(r"\$\{?(\w+)", target["expr"]):
                if used not in variables and not used.startswith("__") and not used.isdigit():
                    yield f"{name}: no variable {used}"
            for metric in re.findall(r"\bskep_\w+", target["expr"]):
                if metric not in own and SUFFIXES.sub("", metric) not in own:
                    yield f"{name}: skep has no {metric}"


def queries(dashboard):
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$host", ".+")
            yield f"{panel['title']}/{target['refId']}", expression


def promql(dashboard):
    """What promtool says against the queries."""
    rules = [{"record": "q:" + re.sub(r"\W", "_", name), "labels": {"n": str(n)}, "expr": e} for n, (name, e) in enumerate(queries(dashboard))]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)  # JSON is YAML
        file.flush()
        done = subprocess.run(["promtool", "check", "rules", file.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return len(rules), [] if done.returncode == 0 else [done.stdout]


status, own = 0, own_metrics()
for argument in sys.argv[1:]:
    board = json.loads(Path(argument).read_text())
    count, wrong = promql(board)
    found = [*faults(board, own), *wrong]
    for fault in found:
        print(f"{argument}: {fault}")
    if not found:
        print(f"{argument}: good, {sum(p['type'] != 'row' for p in panels(board))} panels, {count} queries")
    status |= bool(found)
sys.exit(status)
