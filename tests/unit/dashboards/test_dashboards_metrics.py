"""Dashboards, alerts and documents name metrics that exist, and every alert has its page in the runbook."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from settings.deployment import Deployment
from tests.support.paths import ROOT
from workers.exporter import metrics_of

METRICS = metrics_of()

PROMETHEUS = ROOT / "dashboards" / "prometheus"
BOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
NAME = re.compile(r"\bbtcfi_\w+")


def samples():
    """Every sample's name that the exporter can serve."""
    for name, spec in METRICS.items():
        yield name
        if spec.kind == "histogram":
            yield from (f"{name}_bucket", f"{name}_count", f"{name}_sum")


def labels_of(expression):
    """Each metric of an expression with the labels that it is selected by."""
    for name, selector in re.findall(r"\b(btcfi_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*[=!]~?", re.sub(r'"[^"]*"', '""', selector)))


def expressions():
    for board in BOARDS:
        document = json.loads(board.read_text())
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                yield f"{board.name}: {panel['title']}", target["expr"]
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{board.name}: ${variable['name']}", variable["definition"].split(",")[0].split("(")[1]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("place", "expression"), list(expressions()), ids=lambda value: value[:60])
def test_every_metric_and_label_that_is_asked_for_exists(place, expression):
    own = {"job", "instance"}  # Prometheus adds these
    for name, labels in labels_of(expression):
        assert name in set(samples()), f"{place} asks for {name}"
        spec = METRICS.get(name) or METRICS[name.rpartition("_")[0]]
        assert labels <= {*spec.labels, *own}, f"{place} selects {name} by {labels - set(spec.labels)}"


def test_there_are_boards_and_each_panel_asks_something():
    assert BOARDS
    for board in BOARDS:
        panels = [p for p in json.loads(board.read_text())["panels"] if p["type"] != "row"]
        assert all(panel["targets"] for panel in panels)
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_no_panel_lies_over_another_and_none_stands_behind_a_hole(board):
    cells = {}
    for panel in json.loads(board.read_text())["panels"]:
        at = panel["gridPos"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in cells, f"{panel['title']} lies over {cells[cell]}"
            cells[cell] = panel["title"]
    behind = {title for (x, y), title in cells.items() if x and (x - 1, y) not in cells}
    assert behind == set(), "nothing is to the left of these"


def test_every_metric_is_on_a_dashboard_or_in_an_alert():
    asked = {name for _, expression in expressions() for name, _ in labels_of(expression)}
    shown = {name for name, spec in METRICS.items() if {name, f"{name}_bucket", f"{name}_count"} & asked}
    assert set(METRICS) - shown == {"btcfi_build_info"}


def test_the_reference_lists_every_metric_with_its_labels():
    rows = re.findall(
        r"^\| `(btcfi_\w+)` \| (\w+) \| ([^|]*) \|", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE
    )
    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert listed == {name: (spec.kind, spec.labels) for name, spec in METRICS.items()}


def test_every_alert_has_its_section_in_the_runbook_and_no_section_is_left_over():
    sections = re.findall(r"^### (Btcfi\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(rule["alert"] for rule in RULES)
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_prometheus_is_told_the_port_that_the_exporter_listens_on():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    targets = [t for job in config["scrape_configs"] for t in job["static_configs"][0]["targets"]]
    assert f"metrics:{Deployment.model_fields['metrics_port'].default}" in targets
    assert {job["job_name"] for job in config["scrape_configs"]} >= {"btcfi"}, "the rules select job=btcfi"


@pytest.mark.parametrize("order", ["check config prometheus.yml", "check rules rules.yml", "test rules rules_test.yml"])
def test_promtool_agrees(order):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt-get install prometheus")
    command = [promtool, *order.split()]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_of_a_dashboard_is_promql(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt-get install prometheus")
    asked = [e.replace("$queue", ".*") for place, e in expressions() if ".json" in place and ": $" not in place]
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    command = [promtool, "check", "rules", str(tmp_path / "asked.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(asked)} rules found" in done.stdout
