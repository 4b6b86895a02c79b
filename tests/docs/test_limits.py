"""The limits that docs/security.md tells are those of the code."""

import ast
import re

import pytest

from tests.docs.markdown import ROOT

_ROW = re.compile(r"^\| [^|]+ \| (\d+)(?: (KiB|MiB|s))? \| `([\w/]+\.py)` `(\w+)` \|", re.MULTILINE)
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 1}
ROWS = _ROW.findall((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))


def value_of(module: str, name: str) -> float:
    """What a module's constant is, an expression of numbers."""
    for node in ast.parse((ROOT / module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return float(eval(compile(ast.Expression(value), module, "eval"), {"__builtins__": {}}))
    raise AssertionError(f"{module} has no {name}")


def test_the_table_is_read() -> None:
    assert len(ROWS) > 25


@pytest.mark.parametrize(("number", "unit", "module", "name"), ROWS, ids=[row[3] for row in ROWS])
def test_a_limit_is_told_as_it_is(number: str, unit: str, module: str, name: str) -> None:
    assert value_of(module, name) == int(number) * _UNITS[unit]
