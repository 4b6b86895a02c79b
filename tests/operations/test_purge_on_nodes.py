"""Content is forgotten on real nodes: here or everywhere, and no more than was meant."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import pytest

from app.client import api
from app.client.node import Node as NodeClient
from app.client.node import NodeRefused
from app.demo.image import Document, Image
from tests.operations.images import NAME, GatedRegistry, image, layer
from tests.support.blob_store import BlobStore
from tests.support.made import write
from tests.support.nodes import Node, wait_until_agreed
from tests.support.wire import Wire

Client = Callable[[Node], NodeClient]


def pull(node: Node, repository: str, image: Image) -> None:
    """As containerd does: the tag, then what it names."""
    for place in ("manifests/1", f"manifests/{image.manifest.digest}", *(f"blobs/{one.digest}" for one in image.blobs)):
        assert node.ask(f"/v2/{repository}/{place}?ns={NAME}").correct, place


def held(node: Node) -> set[str]:
    """The digests and keys that a node holds something of."""
    contents = json.loads(node.ask("/api/v1/contents?limit=1000").body)["contents"]
    return {one["digest"] or one["key"] for one in contents if one["held_bytes"]}


def keys_known(nodes: list[Node]) -> list[list[int]]:
    """What each node believes that each member holds."""
    return [[member["keys"] for _, member in sorted(node.members().items())] for node in nodes]


def digests(*documents: Document) -> set[str]:
    return {str(document.digest) for document in documents}


@pytest.fixture
def pushed(images: GatedRegistry, request: pytest.FixtureRequest) -> tuple[str, Image]:
    """An image that no other test knows, by its repository."""
    name = request.node.name.replace("_", "-").lower()
    made = image(name, [layer(name)])
    images.push(name, "1", made)
    return name, made


@pytest.fixture(autouse=True)
def _empty(nodes: list[Node], client: Client) -> Iterator[None]:
    """Each test leaves nothing behind."""
    yield
    for node in nodes:
        for key in held(node):
            # One that was stopped when it was ordered to forget may do so just now.
            with suppress(NodeRefused):
                api.purge(client(node), key, all_nodes=True)
        assert held(node) == set()


def test_an_image_is_forgotten_here_alone(nodes: list[Node], client: Client, pushed: tuple[str, Image]) -> None:
    name, made = pushed
    pull(nodes[0], name, made)
    pull(nodes[1], name, made)
    everything = digests(made.index, made.manifest, *made.blobs)
    assert everything <= held(nodes[0])
    before = api.status(client(nodes[0])).cache
    purge = api.purge(client(nodes[0]), f"{NAME}/{name}:1", all_nodes=False)
    after = api.status(client(nodes[0])).cache
    assert [one.name for one in purge.nodes] == ["node-1"]
    assert purge.forgotten_contents == before.contents - after.contents >= len(everything)
    assert purge.forgotten_bytes == before.used_bytes - after.used_bytes >= made.size
    assert not everything & held(nodes[0])
    assert everything <= held(nodes[1])


def test_what_another_image_has_too_stays(nodes: list[Node], client: Client, images: GatedRegistry) -> None:
    base, own, other = (layer(f"shared/{part}") for part in ("base", "own", "other"))
    one, two = image("one", [base, own]), image("two", [base, other])
    for name, made in (("shared/one", one), ("shared/two", two)):
        images.push(name, "1", made)
        pull(nodes[0], name, made)
    api.purge(client(nodes[0]), f"{NAME}/shared/one:1", all_nodes=False)
    left = held(nodes[0])
    assert digests(two.index, two.manifest, *two.blobs) <= left
    assert not digests(one.index, one.manifest, own) & left


def test_all_nodes_forget_and_nobody_is_asked_for_it_any_more(
    nodes: list[Node], client: Client, pushed: tuple[str, Image], images: GatedRegistry
) -> None:
    name, made = pushed
    wait_until_agreed(nodes)
    keys_before = keys_known(nodes)
    for node in nodes:
        pull(node, name, made)
    assert images.copies_of(made) == 1
    purge = api.purge(client(nodes[2]), f"{NAME}/{name}:1", all_nodes=True)
    assert purge.nodes[0].name == "node-3"
    assert {one.name for one in purge.nodes} == {"node-1", "node-2", "node-3"}
    assert all(one.error is None and one.forgotten_bytes >= made.size for one in purge.nodes)
    assert purge.forgotten_bytes == sum(one.forgotten_bytes for one in purge.nodes)
    assert not any(digests(made.index, made.manifest, *made.blobs) & held(node) for node in nodes)
    wait_until_agreed(nodes)
    assert keys_known(nodes) == keys_before
    pull(nodes[0], name, made)
    assert images.copies_of(made) == 2


def test_a_digest_is_forgotten_and_nothing_beside_it(
    nodes: list[Node], client: Client, pushed: tuple[str, Image]
) -> None:
    name, made = pushed
    pull(nodes[0], name, made)
    gone = str(made.blobs[1].digest)
    purge = api.purge(client(nodes[0]), gone, all_nodes=False)
    assert (purge.target, purge.forgotten_contents) == (gone, 1)
    assert held(nodes[0]) >= digests(made.index, made.manifest, made.blobs[0])
    assert gone not in held(nodes[0])


def test_a_url_is_forgotten_in_all_its_versions_however_it_was_signed(
    nodes: list[Node], client: Client, blob_store: BlobStore
) -> None:
    url = f"{blob_store.url}/versions.bin"
    for age, version in ((200, "first"), (100, "second")):
        file = write(blob_store.files / "versions.bin", version, 2_500_000 + len(version))
        # What changed in this very second might change again without showing, and is not kept.
        os.utime(file, (time.time() - age,) * 2)
        # --tag-ttl passes, or the second version would not be seen: another signature is the same name.
        node = nodes[0]
        node.program.wait_until(
            partial(_reads, node, f"{url}?sv=1&sig=one", 2_500_000 + len(version)), f"reading {version}"
        )
    assert len(held(nodes[0])) == 2
    purge = api.purge(client(nodes[0]), f"{url}?sv=2&sig=two", all_nodes=True)
    assert purge.target == f"{url}?…"
    assert purge.nodes[0].forgotten_contents == 2
    assert [held(node) for node in nodes] == [set()] * 3


def _reads(node: Node, url: str, size: int) -> bool:
    answer = node.ask(f"/blobs/{url}")
    return answer.correct and len(answer.body) == size


def test_a_purge_goes_on_without_a_member_that_is_silent(
    nodes: list[Node], client: Client, pushed: tuple[str, Image]
) -> None:
    name, made = pushed
    for node in nodes:
        pull(node, name, made)
    nodes[2].program.send(signal.SIGSTOP)
    try:
        purge = api.purge(client(nodes[0]), f"{NAME}/{name}:1", all_nodes=True)
    finally:
        nodes[2].program.send(signal.SIGCONT)
    errors = {one.name: one.error for one in purge.nodes}
    assert errors["node-1"] is errors["node-2"] is None
    assert errors["node-3"]
    for node in nodes:
        node.program.wait_until(partial(node.sees_alive, 3), "seeing all alive again")


@pytest.mark.parametrize(("all_nodes", "advice"), [(False, "all_nodes=true asks every member"), (True, None)])
def test_what_nobody_holds_is_not_found(nodes: list[Node], *, all_nodes: bool, advice: str | None) -> None:
    answer = nodes[0].ask(
        f"/api/v1/contents/{quote('https://host/a?sig=secret', safe='')}?all_nodes={str(all_nodes).lower()}",
        method="DELETE",
    )
    document = json.loads(answer.body)
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert document.get("advice") == advice
    assert "secret" not in bytes(answer.body).decode()


def test_what_can_not_be_meant_is_refused(nodes: list[Node], client: Client) -> None:
    with pytest.raises(NodeRefused, match="no image reference") as refused:
        api.purge(client(nodes[0]), "Not An Image", all_nodes=True)
    assert refused.value.status == 400


def test_the_peer_door_takes_orders_of_members_only(nodes: list[Node], pushed: tuple[str, Image]) -> None:
    name, made = pushed
    pull(nodes[0], name, made)
    order = json.dumps({"target": f"{NAME}/{name}:1", "roots": [], "parts": []}).encode()
    door = nodes[0].host, nodes[0].peer_port
    with Wire(*door) as wire:
        # As a page in a browser of this machine might: without a header of ours.
        assert wire.ask("/orders/purge", method="POST", body=order).status == 403
        assert wire.ask("/orders/purge").status == 405
    assert digests(made.index) <= held(nodes[0])
    with Wire(*door) as wire:
        own = {"X-MS-Peerd-RequestFromPeer": "true"}
        assert wire.ask("/orders/purge", method="POST", headers=own, body=b"no order").status == 400
        assert wire.ask("/orders/purge", method="POST", headers=own, body=b" " * (2 << 20)).status == 400
        assert wire.ask("/orders/purge", method="POST", headers=own, body=order).status == 200
    assert not digests(made.index) & held(nodes[0])
