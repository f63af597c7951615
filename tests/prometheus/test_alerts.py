"""The alerts: each is tried, has its section of the runbook, and together they tell of every problem there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from watchdog.health import PROBLEMS
from watchdog.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy/prometheus/watchdog.rules.yml").read_text(encoding="utf-8"))
TRIED = yaml.safe_load((ROOT / "tests/prometheus/watchdog.test.yml").read_text(encoding="utf-8"))
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy/grafana/watchdog.json").read_text(encoding="utf-8"))

ALL = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))

METRICS = {
    name + suffix
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", Metrics("0").render().decode(), re.MULTILINE)
    for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
}


def codes(alert):
    """The codes of problems of which an alert tells."""
    found = re.findall(r'watchdog_problems\{code=~?"([a-z_|]+)"\}', alert["expr"])
    return {code for each in found for code in each.split("|")}


def names(expression):
    """The metrics that an expression reads."""
    return set(re.findall(r"\b(?:watchdog_|process_)\w+", re.sub(r'"[^"]*"', "", expression)))


def test_there_is_one_alert_of_each_name():
    assert len(ALERTS) == sum("alert" in rule for rule in ALL) > 20


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_a_summary_and_the_way_to_its_section(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_every_alert_has_its_section_and_every_section_its_alert():
    assert set(SECTIONS) == set(ALERTS)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_what_it_means_what_to_look_at_what_to_do_and_when_to_escalate(name):
    assert re.findall(r"^\*\*([\w ]+):\*\* \S", SECTIONS[name], re.MULTILINE) == [
        "Means",
        "Look at",
        "Do",
        "Escalate",
    ]


def test_every_problem_is_told_of_by_one_alert():
    told = [code for alert in ALERTS.values() for code in codes(alert)]
    assert sorted(told) == sorted(PROBLEMS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_leads_to_each_problem_of_its_alert(name):
    linked = set(re.findall(r"\]\(troubleshooting\.md#([a-z_]+)\)", SECTIONS[name]))
    assert codes(ALERTS[name]) <= linked <= set(PROBLEMS)


def test_the_runbook_names_panels_that_are_there():
    named = {
        name
        for group in re.findall(r"the panels? ((?:\"[^\"]+\"(?: and )?)+)", RUNBOOK.replace("\n", " "))
        for name in re.findall(r'"([^"]+)"', group)
    }
    assert len(named) >= 8
    assert named <= {panel["title"] for panel in DASHBOARD["panels"]}


def test_every_alert_is_tried_with_numbers_that_raise_it_and_with_some_that_do_not():
    cases = [case for story in TRIED["tests"] for case in story["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


def test_every_problem_is_tried():
    series = [each["series"] for story in TRIED["tests"] for each in story["input_series"]]
    tried = {code for each in series for code in re.findall(r'watchdog_problems\{code="(\w+)"', each)}
    assert set(PROBLEMS) - tried == set()


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_metrics_that_there_are(rule):
    assert names(rule["expr"]) <= METRICS
    recorded = {each["record"] for each in ALL if "record" in each}
    assert set(re.findall(r"watchdog:\w+:\w+", rule["expr"])) <= recorded


# The check.


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_where_promtool_is_missing_that_is_said_and_fails_in_continuous_integration(tmp_path, ci, code):
    for command in ("bash", "dirname"):
        (tmp_path / command).symlink_to(shutil.which(command))
    done = subprocess.run(
        [shutil.which("bash"), ROOT / "tests/prometheus/check.sh"],
        env={"PATH": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code
    assert "no promtool here: alerts not checked" in done.stderr


# The dashboard.


def targets():
    """Each query of the dashboard, with its panel's title."""
    return [(panel["title"], each) for panel in DASHBOARD["panels"] for each in panel.get("targets", ())]


def test_the_dashboard_can_be_imported_anywhere():
    assert (DASHBOARD["uid"], DASHBOARD["id"]) == ("connect-presence-watchdog", None)
    assert len(DASHBOARD["uid"]) <= 40
    assert DASHBOARD["schemaVersion"] >= 36
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    text = json.dumps(DASHBOARD)
    assert not re.findall(r"https?://|localhost|\d+\.\d+\.\d+\.\d+|__inputs", text)
    assert set(re.findall(r'"datasource": \{"type": "(\w+)", "uid": "([^"]*)"', text)) == {
        ("prometheus", "${datasource}")
    }
    assert all("datasource" in panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    covered = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not covered & cells, panel["title"]
        covered |= cells


@pytest.mark.parametrize(("title", "target"), targets())
def test_a_query_reads_metrics_that_there_are_of_the_instances_chosen(title, target):
    assert names(target["expr"])
    assert names(target["expr"]) <= METRICS
    assert 'instance=~"$instance"' in target["expr"]


def test_every_metric_is_on_the_dashboard():
    shown = {name for _, target in targets() for name in names(target["expr"])}
    shown |= names(DASHBOARD["annotations"]["list"][0]["expr"])
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in METRICS}
    assert families - {re.sub(r"_bucket$", "", name) for name in shown} == {"process_virtual_memory_bytes"}
