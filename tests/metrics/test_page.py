"""docs/operations.md tells of every metric and every alert, and of no other."""

import re

import pytest

from app.observability.metrics import FILTER_REFUSALS, UPSTREAM_REFUSALS, Metrics
from tests.docs.markdown import ROOT, Page
from tests.metrics.prometheus import alerts

PATH = ROOT / "docs" / "operations.md"
PAGE = Page(PATH, PATH.read_text(encoding="utf-8"))
FAMILIES = {
    family.name + ("_total" if family.type == "counter" else ""): family
    for family in Metrics("some node").registry.collect()
    if family.name.startswith("peerd_")
}


def section(heading: str) -> str:
    """What stands under a heading, up to the next of its level."""
    level = re.escape(heading.split(" ", maxsplit=1)[0])
    (found,) = re.findall(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", PAGE.text, re.MULTILINE | re.DOTALL)
    return str(found)


def rows() -> dict[str, list[str]]:
    """The table of metrics: type, labels, meaning and when to look, by name."""
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in _lines()]
    return {cell[0].strip("`"): cell[1:] for cell in cells}


def _lines() -> list[str]:
    return [line.replace("| |", "| - |") for line in section("## Metrics").splitlines() if line.startswith("| `peerd_")]


def test_every_metric_has_its_row_and_no_other() -> None:
    assert sorted(rows()) == sorted(FAMILIES)
    assert len(_lines()) == len(rows())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_type_meaning_and_when_to_look(name: str) -> None:
    kind, _labels, meaning, when = rows()[name]
    assert kind == FAMILIES[name].type
    assert len(meaning) > 20
    assert when


def test_labels_are_those_of_the_code() -> None:
    told = {name: re.findall(r"`(\w+)`", labels) for name, (_, labels, *_) in rows().items()}
    # Of a family without a sample nothing but the collector itself tells which labels it has.
    collectors = Metrics("some node").registry._collector_to_names
    assert told == {
        name: list(collector._labelnames)
        for collector, names in collectors.items()
        for name in names
        if name in FAMILIES and hasattr(collector, "_labelnames")
    }


def test_every_reason_for_a_refusal_is_told() -> None:
    assert {f"`{reason}`" for reason in UPSTREAM_REFUSALS} <= set(
        re.findall(r"`\w+`", rows()["peerd_upstream_refused_total"][2])
    )
    told = re.findall(r"`(\w+)`", "".join(re.findall(r"^- (.*?):", section("### PeerdFiltersRefused"), re.MULTILINE)))
    assert sorted(told) == sorted(FILTER_REFUSALS)


def test_every_alert_has_its_heading_and_no_other() -> None:
    assert re.findall(r"^### (\w+)$", section("## Alerts"), re.MULTILINE) == list(alerts())


@pytest.mark.parametrize(("name", "alert"), alerts().items(), ids=alerts())
def test_the_runbook_of_an_alert_is_its_section(name: str, alert: dict[str, dict[str, str]]) -> None:
    path, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert ROOT / path == PATH
    assert anchor == name.lower()
    assert anchor in PAGE.anchors
    assert section(f"### {name}").strip().startswith(f"*{alert['labels']['severity'].capitalize()}.* ")
