"""Content is brought onto real nodes, from one upstream copy."""

import json
import signal
from collections.abc import Callable
from functools import partial

import pytest

from app.api.models import Preheat
from app.client import api
from app.client.node import Node as NodeClient
from app.client.node import NodeRefused
from tests.conftest import Cluster
from tests.operations.images import MIB, NAME, GatedRegistry, image, layer
from tests.support.blob_store import BlobStore
from tests.support.made import content
from tests.support.nodes import Node

Client = Callable[[Node], NodeClient]
NAMES = {"node-1", "node-2", "node-3"}


@pytest.fixture
def preheat(nodes: list[Node], client: Client) -> Callable[..., Preheat]:
    """Preheats from the first node, to the end."""

    def run(*references: str, onto: int | str = "all") -> Preheat:
        begun = api.start_preheat(client(nodes[0]), list(references), onto)
        return ended(nodes[0], client, begun)

    return run


def ended(node: Node, client: Client, preheat: Preheat) -> Preheat:
    node.program.wait_until(lambda: api.preheat(client(node), preheat.id).state != "running", "done with the preheat")
    return api.preheat(client(node), preheat.id)


def contents(node: Node) -> dict[str, dict[str, object]]:
    return {one["key"]: one for one in json.loads(node.ask("/api/v1/contents?limit=1000").body)["contents"]}


def test_an_image_comes_onto_all_nodes_from_one_copy(
    nodes: list[Node], preheat: Callable[..., Preheat], images: GatedRegistry
) -> None:
    made = image("all", [layer("all/1", 5 * MIB), layer("all/2")])
    images.push("all", "1", made)
    done = preheat(f"{NAME}/all:1")
    assert done.state == "finished"
    assert {node.name for node in done.nodes} == NAMES
    assert {(node.state, node.done_bytes, node.total_bytes, node.error) for node in done.nodes} == {
        ("finished", made.size, made.size, None)
    }
    assert images.copies_of(made) == 1
    for node in nodes:
        held = contents(node)
        for document in (made.index, made.manifest, *made.blobs):
            one = held[str(document.digest)]
            assert one["whole"], one
            assert one["verified"], one
        # A client that comes now gets it from here.
        before = node.metric("peerd_served_bytes_total", source="cache")
        for blob in made.blobs:
            answer = node.ask(f"/v2/all/blobs/{blob.digest}?ns={NAME}")
            assert answer.body == blob.data
            assert answer.headers["cache-status"] == "peerd; hit"
        served = node.metric("peerd_served_bytes_total", source="cache") - before
        assert served == sum(len(blob.data) for blob in made.blobs)


def test_only_this_platforms_manifest_of_an_index_is_brought(
    nodes: list[Node], preheat: Callable[..., Preheat], images: GatedRegistry
) -> None:
    own, other = layer("platforms/own"), layer("platforms/other")
    made = image("platforms", [own], other_platform=[other])
    images.push("platforms", "1", made)
    assert preheat(f"{NAME}/platforms:1", onto=1).state == "finished"
    assert len(own.data) <= images.bytes_sent_of(own) <= len(own.data) + 1
    assert images.bytes_sent_of(other) == 0


def test_layers_that_images_share_count_once(preheat: Callable[..., Preheat], images: GatedRegistry) -> None:
    base = layer("common/base")
    one, two = image("common one", [base, base]), image("common two", [base, layer("common/two")])
    images.push("common/one", "1", one)
    images.push("common/two", "1", two)
    done = preheat(f"{NAME}/common/one:1", f"{NAME}/common/two:1", onto=1)
    assert done.state == "finished"
    documents = {one.digest: len(one.data) for made in (one, two) for one in (made.index, made.manifest, *made.blobs)}
    assert [(node.done_bytes, node.total_bytes) for node in done.nodes] == [(sum(documents.values()),) * 2]


def test_so_many_nodes_as_are_asked_for(
    nodes: list[Node], preheat: Callable[..., Preheat], images: GatedRegistry
) -> None:
    made = image("two nodes", [layer("two nodes")])
    images.push("two-nodes", "1", made)
    done = preheat(f"{NAME}/two-nodes:1", onto=2)
    names = [node.name for node in done.nodes]
    assert len(names) == 2
    assert names[0] == "node-1"
    whole = {node.name for node in nodes if contents(node).get(str(made.blobs[1].digest), {}).get("whole")}
    assert whole == set(names)


def test_a_file_comes_onto_all_nodes(nodes: list[Node], preheat: Callable[..., Preheat], blob_store: BlobStore) -> None:
    data = content("preheated file", 5 * MIB + 1)
    (blob_store.files / "preheated.bin").write_bytes(data)
    url = f"{blob_store.url}/preheated.bin"
    done = preheat(f"{url}?sv=1&sig=secret")
    assert (done.state, done.references) == ("finished", [f"{url}?…"])
    assert {(node.done_bytes, node.total_bytes) for node in done.nodes} == {(len(data), len(data))}
    for node in nodes:
        assert node.ask(f"/blobs/{url}").body == data
    # One copy, and each node's probe of a byte for the size.
    assert len(data) <= blob_store.sent_of("/preheated.bin") <= len(data) + len(nodes)


def test_what_is_there_already_is_not_fetched_again(
    nodes: list[Node], preheat: Callable[..., Preheat], images: GatedRegistry
) -> None:
    made = image("twice", [layer("twice")])
    images.push("twice", "1", made)
    assert preheat(f"{NAME}/twice:1").state == "finished"
    received = [node.metric("peerd_received_bytes_total") for node in nodes]
    again = preheat(f"{NAME}/twice:1")
    assert {node.done_bytes for node in again.nodes} == {made.size}
    assert [node.metric("peerd_received_bytes_total") for node in nodes] == received


def test_one_reference_that_is_wrong_keeps_no_other_away(
    nodes: list[Node], preheat: Callable[..., Preheat], images: GatedRegistry
) -> None:
    made = image("half", [layer("half")])
    images.push("half", "1", made)
    done = preheat(f"{NAME}/nothing:1", f"{NAME}/half:1")
    assert done.state == "failed"
    for node in done.nodes:
        assert node.state == "failed"
        assert f"{NAME}/nothing:1" in str(node.error)
        assert "half" not in str(node.error)
    assert all(contents(node)[str(made.blobs[1].digest)]["whole"] for node in nodes)


def test_a_file_that_can_not_be_kept_is_said_to_be_so(preheat: Callable[..., Preheat], blob_store: BlobStore) -> None:
    assert "404" in str(preheat(f"{blob_store.url}/nothing.bin", onto=1).nodes[0].error)


def test_more_than_the_cache_takes_fails_with_the_option_that_helps(
    cluster: Cluster, client: Client, images: GatedRegistry
) -> None:
    made = image("large", [layer("large", 12 * MIB)])
    images.push("large", "1", made)
    [small] = cluster(
        1, "--registry", f"{NAME}=http://127.0.0.1:{images.port}", "--cache-size", "8MiB", "--chunk-size", "1MiB"
    )
    done = ended(small, client, api.start_preheat(client(small), [f"{NAME}/large:1"], "all"))
    assert done.state == "failed"
    assert "--cache-size" in str(done.nodes[0].error)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param({"references": ["Not An Image"]}, 400, "no image reference", id="a reference that is none"),
        pytest.param({"references": []}, 422, "references", id="no reference"),
        pytest.param({"references": ["a"] * 101}, 422, "references", id="too many references"),
        pytest.param({"references": ["a"], "nodes": 0}, 422, "nodes", id="no node"),
        pytest.param({"references": ["a"], "nodes": "some"}, 422, "nodes", id="neither all nor a number"),
    ],
)
def test_requests_that_can_not_be_meant(nodes: list[Node], body: object, status: int, said: str) -> None:
    with nodes[0].connect() as wire:
        headers = {"Content-Type": "application/json"}
        answer = wire.ask("/api/v1/preheat", method="POST", headers=headers, body=json.dumps(body).encode())
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in json.loads(answer.body)["detail"]


def test_a_preheat_that_nobody_knows(nodes: list[Node], client: Client) -> None:
    with pytest.raises(NodeRefused, match="no preheat unknown"):
        api.preheat(client(nodes[0]), "unknown")


def test_progress_is_told_while_it_goes_on_and_a_member_that_dies_fails_alone(
    nodes: list[Node], client: Client, images: GatedRegistry
) -> None:
    made = image("slow", [layer("slow", 6 * MIB)])
    images.push("slow", "1", made)
    victim = nodes[2]
    with images.shut():
        begun = api.start_preheat(client(nodes[0]), [f"{NAME}/slow:1"], "all")
        assert (begun.state, begun.finished_at) == ("running", None)
        images.wait_until_asked()
        now = api.preheat(client(nodes[0]), begun.id)
        assert [node.state for node in now.nodes] == ["running", "waiting", "waiting"]
        assert now.nodes[0].total_bytes == made.size
        assert now.nodes[0].done_bytes < made.size
        victim.program.end(signal.SIGKILL)
    done = ended(nodes[0], client, begun)
    victim.program.start_again()
    assert done.state == "failed"
    assert {node.name: node.state for node in done.nodes} == {
        "node-1": "finished",
        "node-2": "finished",
        "node-3": "failed",
    }
    for node in nodes:
        node.program.wait_until(partial(node.sees_alive, 3), "seeing all alive again")


def test_a_node_that_is_told_to_end_does_not_wait_for_its_preheats(
    nodes: list[Node], client: Client, images: GatedRegistry
) -> None:
    made = image("never", [layer("never")])
    images.push("never", "1", made)
    with images.shut():
        api.start_preheat(client(nodes[1]), [f"{NAME}/never:1"], 1)
        images.wait_until_asked()
        with nodes[1].program.away():
            pass
    for node in nodes:
        node.program.wait_until(partial(node.sees_alive, 3), "seeing all alive again")
