"""House rules that no linter knows."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).parent.parent
LINES_MAX = 400
GENERATED = ("app/api/", "/_pb/")
OPTIONS = [
    "http-addr",
    "metrics-addr",
    "peer-addr",
    "gossip-addr",
    "advertise-host",
    "node-name",
    "zone",
    "membership",
    "join",
    "serf-bind",
    "serf-rpc-addr",
    "serf-key-file",
    "filter-fp-rate",
    "tls-ca",
    "tls-cert",
    "tls-key",
    "insecure-peers",
    "cache-dir",
    "cache-size",
    "chunk-size",
    "registry",
    "default-registry",
    "tag-ttl",
    "registry-auth",
    "pull-through",
    "upstream-allow",
    "upstream-deny-unlisted",
    "upstream-ca",
    "consent",
    "consent-ttl",
    "containerd-socket",
    "containerd-namespace",
    "containerd-content-dir",
    "share-filter",
    "mirror-timeout",
    "hosts",
    "hosts-dir",
    "containerd-config",
    "prefetch",
    "upload-limit",
    "max-uploads",
    "drain-timeout",
    "log-level",
    "log-format",
]


def sources() -> Iterator[Path]:
    """The modules that people write."""
    for room in ("app", "peerd_gossip", "scripts"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if not any(part in f"{path.relative_to(ROOT)}" for part in GENERATED):
                yield path


MODULES = {str(path.relative_to(ROOT)): path for path in sources()}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_module_is_longer_than_a_sitting() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lengths.items() if count > LINES_MAX} == {}


def users_of(*names: str) -> set[str]:
    """`module:line` of each use of an attribute or an import of these names."""
    return {
        f"{module}:{node.lineno}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and any(alias.name in names for alias in node.names))
    }


def test_tasks_have_owners() -> None:
    assert users_of("ensure_future") == set()


def test_options_come_from_settings_alone() -> None:
    """Of the rooms nobody reads the environment; the command line and the demo hand it on, scripts are their own."""
    readers = users_of("environ", "getenv")
    assert readers, "the search finds nothing"
    assert {one for one in readers if not one.startswith(("app/cli/", "app/demo/", "scripts/"))} == set()


def test_imports_point_one_way() -> None:
    result = run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert result.returncode == 0, result.stdout


def test_every_option_that_users_rely_on_is_there_and_no_other() -> None:
    assert {name.replace("_", "-") for name in Settings.model_fields} == set(OPTIONS)


def test_every_option_has_its_row_on_the_page_of_operations() -> None:
    result = run(sys.executable, "scripts/write_options.py", "--check")
    assert result.returncode == 0, result.stderr
    page = (ROOT / "docs" / "operations.md").read_text()
    assert [option for option in OPTIONS if f"| `--{option}`" not in page] == []


def test_generated_messages_are_fresh() -> None:
    result = run(sys.executable, "scripts/generate_grpc.py", "--check")
    assert result.returncode == 0, result.stderr


def test_stale_messages_are_noticed(tmp_path: Path) -> None:
    """The check itself is checked, on a copy."""
    for path in (
        "scripts/generate_grpc.py",
        *(str(p.relative_to(ROOT)) for p in ROOT.glob("*/**/_pb/*") if p.is_file()),
    ):
        if "__pycache__" not in path and ".venv" not in path:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    check = (sys.executable, str(tmp_path / "scripts" / "generate_grpc.py"))
    (tmp_path / "peerd_gossip" / "_pb" / "old_pb2.py").write_text("")
    with (tmp_path / "peerd_gossip" / "_pb" / "gossip_pb2.py").open("a") as file:
        file.write("# changed by hand\n")
    stale = run(*check, "--check")
    assert stale.returncode == 1
    assert "gossip_pb2.py" in stale.stderr
    assert "old_pb2.py" in stale.stderr
    assert run(*check).returncode == 0
    assert run(*check, "--check").returncode == 0


class TestLockFiles:
    @pytest.mark.parametrize("name", ["build", "run", "dev", "helm"])
    def test_pin_and_hash_everything_and_name_no_index(self, name: str) -> None:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        assert "://" not in text
        entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
        assert entries
        for entry in entries:
            assert re.match(r"[a-z0-9._\[\]-]+==\S+( ;.*)? \\\n", entry), entry[:80]
            assert "--hash=sha256:" in entry

    def test_hold_what_the_project_says_that_it_needs(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for name, needs in (("run", project["dependencies"]), ("dev", project["optional-dependencies"]["dev"])):
            locked = set(
                re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)
            )
            needed = {re.split(r"[<>=\[;]", need)[0].strip().lower() for need in needs}
            assert needed - locked == set()

    def test_agree_with_each_other(self) -> None:
        pins: dict[str, set[str]] = {}
        for name in ("build", "run", "dev"):
            text = (ROOT / "requirements" / f"{name}.txt").read_text()
            for package, version in re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE):
                pins.setdefault(package, set()).add(version)
        assert {package: versions for package, versions in pins.items() if len(versions) > 1} == {}


def test_every_make_target_that_people_call_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    told = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert told == set(phony.split())


def test_ci_does_what_everybody_can_do() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "exec make test"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
