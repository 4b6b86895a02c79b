"""docs/kubernetes.md says what is so."""

import re
import subprocess
from pathlib import Path

from tests.docs.markdown import Page
from tests.helm.test_schema import SCHEMA

PAGE = Page.named("docs/kubernetes.md")


def test_every_value_that_is_named_is_one_of_the_charts() -> None:
    named = set(re.findall(r"\bpeerd(?:\.[A-Za-z0-9]+)+", " ".join([*PAGE.code, *PAGE.blocks("console")])))
    assert len(named) > 30
    for value in named:
        schema = SCHEMA
        for part in value.split("."):
            assert part in schema["properties"], f"{value} is no value of the chart"
            schema = schema["properties"][part]


def test_what_azures_peerd_moved_away_comes_back(tmp_path: Path) -> None:
    """It moves all that it finds into `_backup`, and writes its own beside it."""
    (tmp_path / "_backup" / "docker.io").mkdir(parents=True)
    (tmp_path / "_backup" / "docker.io" / "hosts.toml").write_text("mine")
    (tmp_path / "_backup" / ".hidden").write_text("mine too")
    for registry in ("docker.io", "ghcr.io"):
        (tmp_path / registry).mkdir()
        (tmp_path / registry / "hosts.toml").write_text("https://localhost:30001")
    (block,) = PAGE.blocks("sh")
    for _ in range(2):  # the second time nothing is to be done
        subprocess.run(["sh", "-eu", "-c", block], check=True, env={"CERTS_D": str(tmp_path), "PATH": "/usr/bin:/bin"})
        there = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
        assert {name: path.read_text() for name, path in there.items()} == {
            "docker.io/hosts.toml": "mine",
            ".hidden": "mine too",
        }
        assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "docker.io"]
