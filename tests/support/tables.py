"""Figures that tests measure, as tables at the end of the run, wherever the tests ran."""

from collections.abc import Callable, Mapping

import pytest

Figures = Callable[[str, Mapping[str, object]], None]

_PROPERTY = "figures"


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """`figures(table, {column: cell, …})` adds a line to a table."""
    return lambda table, cells: record_property(_PROPERTY, [table, {name: str(cell) for name, cell in cells.items()}])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    tables: dict[str, list[dict[str, str]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = report.user_properties if getattr(report, "when", None) == "call" else ()
            for name, value in properties:
                if name == _PROPERTY:
                    tables.setdefault(value[0], []).append(value[1])
    for table, lines in tables.items():
        terminalreporter.section(table)
        columns = list(dict.fromkeys(name for line in lines for name in line))
        widths = [max(len(text) for text in [name, *(line.get(name, "") for line in lines)]) for name in columns]
        for cells in [dict(zip(columns, columns, strict=True)), *lines]:
            parts = [cells.get(name, "").ljust(width) for name, width in zip(columns, widths, strict=True)]
            terminalreporter.line("  ".join(parts).rstrip())
