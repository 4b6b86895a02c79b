"""app/api/ is what openapi/ says, and scripts/generate_api.py tells when it is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def generate(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "generate_api.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def contents(root: Path) -> dict[str, bytes]:
    folder = root / "app" / "api"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy of the parts that take part in generating, to be spoilt. Its path has a blank, as a user's may."""
    there = tmp_path / "a copy"
    for name in ("openapi", "app/api"):
        shutil.copytree(root / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
    (there / "scripts").mkdir()
    for script in root.glob("scripts/generate_api*.py"):
        shutil.copy(script, there / "scripts")
    return there


def test_what_is_committed_is_what_would_be_generated(root: Path) -> None:
    checked = generate(root, "--check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_generating_from_nothing_gives_what_is_committed(copy: Path) -> None:
    committed = contents(copy)
    shutil.rmtree(copy / "app")
    assert generate(copy).returncode == 0
    assert contents(copy) == committed


def test_a_change_by_hand_is_shown_and_not_touched(copy: Path) -> None:
    models = copy / "app" / "api" / "models.py"
    models.write_text(models.read_text().replace("uptime_seconds", "uptime_minutes"))
    spoilt = contents(copy)
    checked = generate(copy, "--check")
    assert checked.returncode == 1
    assert "-    uptime_minutes:" in checked.stdout
    assert "+    uptime_seconds:" in checked.stdout
    assert "make generate" in checked.stderr
    assert contents(copy) == spoilt


def test_a_change_of_the_description_is_a_difference_until_generated(copy: Path) -> None:
    description = copy / "openapi" / "peerd.yaml"
    description.write_text(description.read_text().replace("operationId: get_status", "operationId: show_status"))
    assert generate(copy, "--check").returncode == 1
    assert generate(copy).returncode == 0
    assert generate(copy, "--check").returncode == 0
    assert b"operations.show_status(request)" in contents(copy)["routers/operations.py"]


def test_a_file_that_is_generated_no_more_goes(copy: Path) -> None:
    stale = copy / "app" / "api" / "routers" / "stale.py"
    stale.write_text("router = None\n")
    assert generate(copy, "--check").returncode == 1
    assert generate(copy).returncode == 0
    assert not stale.exists()
