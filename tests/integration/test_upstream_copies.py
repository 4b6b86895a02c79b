"""How often upstream sent the same bytes, as the cluster tells it and as upstream's own log says."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.blob_store import BlobStore
from tests.support.events import events_of
from tests.support.nodes import Node
from tests.support.registry import Registry

SIZE = 24 << 20
PROBES = 0.01
"""How much more upstream's log may have than chunks: sizes are asked for with the beginning of a body."""

pytestmark = [pytest.mark.xdist_group("upstream copies")]


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, registry: Registry) -> list[Node]:
    return cluster(3, "--registry", f"reg.test={registry.url}", "--tag-ttl", "1s")


def take(nodes: list[Node], target: str, data: bytes) -> None:
    """All nodes at the same time."""
    with ThreadPoolExecutor(len(nodes)) as clients:
        for reply in clients.map(lambda node: node.ask(target), nodes):
            assert (reply.status, reply.body == data) == (200, True)


def shown(node: Node, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What a node's events say of an image, as soon as it is of all members and `holds`."""
    with events_of(node) as events:
        for event, document in events:
            if event == "images" and document["members"] == 3:
                for image in document["images"]:
                    if image["name"] == name and holds(image):
                        return dict(image)
    raise AssertionError(f"{node.name} ended its events")


def test_a_file_that_three_nodes_take_is_one_copy(nodes: list[Node], blob_store: BlobStore) -> None:
    data = made.content("shared file", SIZE)
    (blob_store.files / "disk.img").write_bytes(data)
    url = f"{blob_store.url}/disk.img?sig=secret&sv=2024-01-01"
    take(nodes, f"/blobs/{url}", data)
    name = f"127.0.0.1:{blob_store.port}/disk.img"
    for node in nodes:
        image = shown(node, name, lambda image: bool(image["distinct_bytes"] == SIZE))
        assert image["size_bytes"] == SIZE
        logged = blob_store.sent_of("/disk.img")
        assert logged * (1 - PROBES) <= image["upstream_bytes"] <= logged
        assert image["copies"] == pytest.approx(logged / SIZE, rel=PROBES)
        assert image["copies"] < 1.05
        assert b"secret" not in node.ask("/api/v1/images").body


def test_what_was_purged_everywhere_and_taken_again_is_two(nodes: list[Node], registry: Registry) -> None:
    layers = [made.content(f"layer {number}", SIZE // 4) for number in range(2)]
    digests = [registry.push_blob("team/app", layer) for layer in layers]

    def pull() -> None:
        for digest, layer in zip(digests, layers, strict=True):
            take(nodes, f"/v2/team/app/blobs/{digest}?ns=reg.test", layer)

    pull()
    size = sum(map(len, layers))
    once = shown(nodes[1], "reg.test/team/app", lambda image: bool(image["distinct_bytes"] == size))
    assert once["copies"] < 1.05
    for digest in digests:
        assert nodes[0].ask(f"/api/v1/contents/{digest}?all_nodes=true", method="DELETE").status == 200
    pull()
    twice = shown(nodes[1], "reg.test/team/app", lambda image: bool(image["upstream_bytes"] >= 2 * size))
    assert twice["distinct_bytes"] == twice["size_bytes"] == size
    logged = sum(map(registry.sent_of, digests))
    assert logged * (1 - PROBES) <= twice["upstream_bytes"] <= logged
    assert twice["copies"] == pytest.approx(twice["upstream_bytes"] / size, abs=0.001)


def test_who_listens_to_nothing_is_told_of_this_node_alone(nodes: list[Node], registry: Registry) -> None:
    data = made.content("one node's", 1 << 20)
    digest = registry.push_blob("team/alone", data)
    take(nodes[:1], f"/v2/team/alone/blobs/{digest}?ns=reg.test", data)
    assert '"members":1' in nodes[2].ask("/api/v1/images").body.decode()
