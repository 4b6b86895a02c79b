"""containerd 2.x reads a layer in parts at the same time: each request is open-ended, and hung up on when its part is in.

core/remotes/docker/fetcher.go there: `Range: bytes=<offset>-`, `max_concurrent_layer_downloads` parts at a time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import made
from tests.support.nodes import Node, running_nodes, wait_until_agreed
from tests.support.registry import Registry

pytestmark = [pytest.mark.xdist_group("containerd-parallel")]

MIB = 1 << 20
SIZE_BYTES = 64 * MIB + 12_345
PART_BYTES = 4 * MIB
AT_ONCE = 8


@pytest.fixture(scope="module")
def nodes(new_folder: Callable[[], Path], registry: Registry) -> Iterator[list[Node]]:
    with running_nodes(new_folder(), 2, "--registry", f"registry.test={registry.url}") as nodes:
        yield nodes


def read_part(node: Node, target: str, start: int) -> bytes:
    """Ask for all from `start` on, take one part of it, and hang up."""
    count = min(PART_BYTES, SIZE_BYTES - start)
    with node.connect() as wire:
        head = wire.begin(target, headers={"Range": f"bytes={start}-", "Accept-Encoding": "zstd;q=1.0, gzip;q=0.5"})
        assert head.status == 206
        assert head.headers["content-range"] == f"bytes {start}-{SIZE_BYTES - 1}/{SIZE_BYTES}"
        assert "content-encoding" not in head.headers
        body, _ = wire.read(count)
    return bytes(body)


def read_in_parts(node: Node, target: str) -> bytes:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return b"".join(threads.map(lambda start: read_part(node, target, start), range(0, SIZE_BYTES, PART_BYTES)))


def test_no_byte_is_fetched_twice_and_no_error_is_logged(nodes: list[Node], registry: Registry) -> None:
    data = made.content("open-ended", SIZE_BYTES)
    digest = registry.push_blob("team/app", data)
    target = f"/v2/team/app/blobs/{digest}?ns=registry.test"
    assert read_in_parts(nodes[0], target) == data
    assert registry.sent_of(digest) <= SIZE_BYTES + 1, "the registry sends it once, and a byte to tell its size"
    wait_until_agreed(nodes)
    assert read_in_parts(nodes[1], target) == data
    assert registry.sent_of(digest) <= SIZE_BYTES + 1
    for node in nodes:
        log = node.program.log.read_text()
        assert not [line for line in log.splitlines() if " ERROR " in line or " WARNING " in line], log
