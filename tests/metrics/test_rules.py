"""The rules as they are: Prometheus takes them, they speak of metrics that exist, and fire in their own time."""

import re

import pytest
import yaml

from app.observability.metrics import Metrics
from tests.metrics.dashboard import DASHBOARD, queries
from tests.metrics.prometheus import RULES, alerts, faster, promtool, rules

TEST = RULES.with_name("alerts_test.yaml")
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
SERIES = {
    family.name + suffix
    for family in Metrics("some node").registry.collect()
    for suffix in SUFFIXES.get(family.type, [""])
}


def test_prometheus_takes_them() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_they_fire_in_their_own_time() -> None:
    assert "SUCCESS" in promtool("test", "rules", TEST)


def test_every_alert_is_tried_at_a_fault_and_at_none() -> None:
    tried: dict[str, set[bool]] = {}
    for case in yaml.safe_load(TEST.read_text())["tests"]:
        for one in case["alert_rule_test"]:
            tried.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert tried == {name: {True, False} for name in alerts()}


@pytest.mark.parametrize("alert", alerts().values(), ids=alerts())
def test_an_alert_says_what_is_wrong_how_bad_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_they_speak_of_metrics_that_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for rule in rules() for name in re.findall(r"[\w:]*\bpeerd_[\w:]+|job\w*:[\w:]+", rule["expr"])}
    assert recorded < asked, "what is recorded is used"
    assert asked - recorded - SERIES == set()


def test_the_dashboard_speaks_of_metrics_that_exist() -> None:
    asked = {name for query in queries(DASHBOARD) for name in re.findall(r"\bpeerd_\w+", query)}
    assert asked
    assert asked - SERIES == set()


def test_hurried_rules_are_the_same_but_for_their_pace() -> None:
    pace = re.compile(r"\[\d+[smh]\]")
    hurried = [rule for group in faster()["groups"] for rule in group["rules"]]
    for rule, hasty in zip(rules(), hurried, strict=True):
        assert pace.sub("", hasty["expr"]) == pace.sub("", rule["expr"])
        assert {**hasty, "expr": "", "for": ""} == {**rule, "expr": "", "for": ""}
