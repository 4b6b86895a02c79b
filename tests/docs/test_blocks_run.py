"""Every `sh` block of README.md and every `python` block of any page, run as a reader would.

Those of the README are run one after the other, in one shell, in a folder of its own. (Lines of `console` blocks are run by the
tests that tests/docs/consoles.py names.) A shell has a network namespace of its own with nothing but loopback, so that the ports
which the README names are free, and a PID namespace, so that nothing outlives it.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Page, pages
from tests.docs.reader import own_namespaces, reader_environ

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("readme")
    seen = folder / "seen"
    seen.mkdir()
    readme = Page.named("README.md")
    done = subprocess.run(
        [*own_namespaces(), "bash", "-c", script(readme.blocks("sh"))],
        cwd=folder,
        env=reader_environ() | {"TMPDIR": str(folder), "SEEN": str(seen)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
        check=False,
    )
    return done, seen


PROGRAMS = {
    f"{page.path.relative_to(ROOT)} {number}": block
    for page in pages()
    for number, block in enumerate(page.blocks("python"), 1)
}

# Another member of the pages' cluster, which ends with the shell.
_NODE_B = """
import asyncio, time
from pathlib import Path
from peerd_gossip import Gossip, GossipConfig, Member, SerfConfig, SerfMembership, TlsFiles, key_hash

me = Member("node-b", time.time_ns() // 1_000_000, peer_addr="10.0.0.2:5001", gossip_addr="10.0.0.2:5002")
tls = TlsFiles(Path("certs/ca.crt"), Path("certs/node-b.crt"), Path("certs/node-b.key"))

async def main():
    membership = SerfMembership(SerfConfig(bind="10.0.0.2:7946"))
    async with Gossip.running(GossipConfig(me, bind="10.0.0.2:5002", tls=tls), membership) as gossip:
        gossip.advertise([key_hash("a key that node-b holds")])
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

_CLUSTER = """
set -eu
ip link set lo up
ip address add 10.0.0.1/32 dev lo
ip address add 10.0.0.2/32 dev lo
peerd certs init --out certs >certs.log
for node in a:10.0.0.1 b:10.0.0.2; do
    peerd certs issue --name "node-${node%:*}" --ip "${node#*:}" --out certs >>certs.log
done
python node_b.py >node_b.out 2>node_b.log &
until grep -q ready node_b.out; do kill -0 $!; sleep 0.1; done
python block.py
"""


def test_the_library_s_page_has_a_program() -> None:
    assert any(name.startswith("docs/gossip.md") for name in PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_of_a_page_finds_who_holds_a_key(program: str, tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(program, encoding="utf-8")
    (tmp_path / "node_b.py").write_text(_NODE_B, encoding="utf-8")
    done = subprocess.run(
        [*own_namespaces(), "bash", "-c", _CLUSTER],
        cwd=tmp_path,
        env=reader_environ(),
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, f"{done.stderr}\n{logs}"
    assert done.stdout == "node-b\n"


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
