"""Every `sh` block of README.md, run as a reader would: one after the other, in one shell, in a folder of its own.

`console` blocks are not run: they need a network, or are run by CI already. The shell has a network namespace of its own with
nothing but loopback, so that the ports which the README names are free, and a PID namespace, so that nothing outlives it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Page

FILE_SIZE = 32_000_000
# After which block of the README nodes are asked how they stand, by words in it.
ASK_AFTER = {"upstream": "cmp layer.bin copy.bin", "tls": "cmp layer.bin third.bin"}


def script(blocks: list[str]) -> str:
    """The blocks as one script that says which is running, and what nodes tell after some of them."""
    parts = ["set -eu", "ip link set lo up"]
    for number, block in enumerate(blocks, 1):
        parts += [f"echo '== block {number}'", block]
        for name, words in ASK_AFTER.items():
            if words in block:
                parts.append(
                    f'for n in 1 2 3; do peerd status --json --node "http://127.0.0.$n:5000" > "$SEEN/{name}-$n"; done'
                )
    return "\n".join(parts)


def own_namespaces() -> list[str]:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("readme")
    seen = folder / "seen"
    seen.mkdir()
    readme = Page(ROOT / "README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PEERD_")}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
        "SEEN": str(seen),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [*own_namespaces(), "bash", "-c", script(readme.blocks("sh"))],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
        check=False,
    )
    return done, seen


def received(seen: Path, name: str, source: str) -> list[int]:
    return [
        json.loads((seen / f"{name}-{number}").read_text())["status"]["bytes"]["received"][source]
        for number in (1, 2, 3)
    ]


def test_every_block_runs(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, seen = run
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in seen.parent.glob("tmp.*/*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{logs}"


def test_the_nodes_fetch_one_copy_together(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, seen = run
    assert FILE_SIZE <= sum(received(seen, "upstream", "upstream")) < FILE_SIZE * 1.05


def test_with_certificates_the_third_takes_it_from_members_alone(
    run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, seen = run
    assert sum(received(seen, "tls", "upstream")) == 0
    assert received(seen, "tls", "peer")[2] >= FILE_SIZE / 2


def test_a_range_of_one_byte_tells_the_size(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = run
    assert re.search(rf"206 bytes 0-0/{FILE_SIZE} peerd; ", done.stdout)
