"""Each line of a `console` block is run, here or by the test that tests/docs/consoles.py names, as it stands on its page.

A line that runs tests is asked only which ones, as the run that this test is part of runs them. What `make` would do is looked at
and not done, but for `make demo`.
"""

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.docs.consoles import Line, lines, lines_for
from tests.docs.markdown import ROOT
from tests.docs.reader import own_namespaces, reader_environ
from tests.support.oci import make_image
from tests.support.program import installed
from tests.support.registry import Registry

MIB = 1 << 20
SECONDS_MAX = 240
MINE = lines_for("tests/docs/test_consoles.py")
RUNS_TESTS = [line for line in MINE if re.search(r"pytest|make (test|soak)", line.text)]
IN_THE_PROJECT = [line for line in MINE if re.match(r"promtool|\.venv/bin/python", line.text)]
OF_A_NODE = [line for line in MINE if line.page == "README.md" and line.text.startswith("peerd ")]


def named(line: Line) -> str:
    return f"{line.page} {line.text}"


def run(command: str, folder: Path, *, around: Sequence[str] = (), **environ: str) -> str:
    """What a reader's shell prints; the test fails when it fails. `around` are the words before its command."""
    mine = {name: value for name, value in reader_environ().items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        [*around, "bash", "-eu", "-c", command],
        cwd=folder,
        env=mine | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-5000:]}"
    return done.stdout


def only(pattern: str) -> Line:
    """The line of this test's own that has the pattern."""
    (found,) = (line for line in MINE if re.search(pattern, line.text))
    return found


@pytest.mark.parametrize("line", lines(), ids=named)
def test_a_test_runs_it(line: Line) -> None:
    (test,) = line.run_by
    assert f'lines_for("{test}")' in (ROOT / test).read_text(encoding="utf-8")


def test_every_line_of_this_test_s_own_is_run_below() -> None:
    others = [only("^make demo"), only("^make venv"), only("^make lint"), only("certs issue"), only("hosts restore")]
    assert {*RUNS_TESTS, *IN_THE_PROJECT, *OF_A_NODE, *others} == set(MINE)


@cache
def collected_by(command: str) -> str:
    return run(command, ROOT, PYTEST_ADDOPTS="--collect-only --quiet")


@pytest.mark.parametrize("line", RUNS_TESTS, ids=named)
def test_a_line_that_runs_tests_finds_some(line: Line) -> None:
    command = line.text
    if "make " in command:
        would_run = run(command.replace("make ", "make --dry-run "), ROOT)
        (command,) = (one for one in would_run.splitlines() if " -m pytest " in one)
    said = collected_by(command)
    assert re.search(r"\b[1-9]\d*(/\d+)? tests? collected", said), said[-2000:]


@pytest.mark.parametrize("target", ["venv", "lint"])
def test_what_make_would_do_is_there(target: str) -> None:
    run(only(f"^make {target}$").text.replace("make ", "make --dry-run "), ROOT)


def test_the_demo() -> None:
    """`.venv` is there already, so that no network is needed."""
    said = run(f"ip link set lo up; {only('^make demo$').text}", ROOT, around=own_namespaces())
    assert "All digests verified; every node but the first took its image from peers" in said


@pytest.mark.parametrize("line", IN_THE_PROJECT, ids=named)
def test_a_line_runs_in_the_project_s_folder(line: Line) -> None:
    run(line.text, ROOT)


def test_an_image_is_brought_pulled_and_forgotten(
    registry: Registry, cluster: Cluster, new_folder: Callable[[], Path]
) -> None:
    """Docker Hub is a registry of this machine's here."""
    folder = new_folder()
    image = make_image(folder / "image", {"amd64": [5 * MIB], "arm64": [5 * MIB]})
    pushed = f"docker://{registry.netloc}/library/alpine:3.20"
    skopeo = installed("skopeo", "skopeo")
    run(f"{skopeo} copy --all --dest-tls-verify=false oci:{image.layout}:{image.tag} {pushed}", folder)
    nodes = cluster(2, "--registry", f"docker.io={registry.url}")
    preheat, pull, to_layout, purge, status = [line.text for line in OF_A_NODE]

    def reader(command: str) -> str:
        return run(command, folder, PEERD_NODE=f"http://{nodes[0].netloc}")

    def held() -> list[int]:
        return [json.loads(node.ask("/api/v1/status").body)["cache"]["contents"] for node in nodes]

    reader(preheat)
    assert min(held()) > 0, "it is on both nodes"
    asked = len(registry.log())
    reader(pull)
    reader(to_layout)
    layers = [sent for sent in registry.log()[asked:] if "/blobs/" in sent.target]
    assert layers == [], "what was brought is not asked for again"
    assert json.loads((folder / "alpine" / "index.json").read_text())["manifests"]
    reader(purge)
    assert held() == [0, 0]
    assert json.loads(reader(status))["status"]["members"]["alive"] == 2


def test_a_certificate_is_issued_again(tmp_path: Path) -> None:
    run("peerd certs init --out certs", tmp_path)
    for _ in range(2):
        run(only("certs issue").text, tmp_path)
        run(f"{installed('openssl', 'openssl')} verify -CAfile certs/ca.crt certs/node-a.crt", tmp_path)


def test_mirror_files_are_put_back_where_containerd_has_them(tmp_path: Path) -> None:
    """In a folder that takes the place of this machine's `/etc/containerd` for the reader's shell alone."""
    installed("containerd", "containerd")  # whose package makes that folder
    own = tmp_path / "certs.d" / "ghcr.io" / "hosts.toml"
    own.parent.mkdir(parents=True)
    own.write_text('# mine\nserver = "https://ghcr.example"\n')
    folder = "/etc/containerd/certs.d"
    commands = [
        "mount --bind . /etc/containerd",
        f"peerd hosts install --hosts ghcr.io --hosts docker.io --hosts-dir {folder}",
        f"peerd hosts show --hosts-dir {folder}",
        only("hosts restore").text,
    ]
    said = run("\n".join(commands), tmp_path, around=own_namespaces())
    assert f"{folder}/docker.io/hosts.toml: peerd is the first host" in said
    assert own.read_text() == '# mine\nserver = "https://ghcr.example"\n'
    assert not (tmp_path / "certs.d" / "docker.io").exists()
