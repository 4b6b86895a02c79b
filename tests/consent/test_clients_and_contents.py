"""Three nodes hold private and public content, and have a credential of their own: who gets what of whom."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.consent.parties import CLIENTS, PrivateRegistry, headers_of
from tests.support import made
from tests.support.events import events_of
from tests.support.nodes import Node, wait_until_agreed
from tests.support.registry import AUTHORIZATION, Registry
from tests.support.tables import Figures
from tests.support.wire import Wire

pytestmark = [pytest.mark.xdist_group("consent")]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LET_IN = ("a user", "another user")
NODES = 3


@dataclass(frozen=True)
class Kept:
    """A content that all nodes hold. `asked` is the path by which upstream is asked for it."""

    target: str
    data: bytes
    asked: str
    at_blobs: bool = False


def push_manifest(registry: Registry, tag: str, data: bytes) -> None:
    headers = {"Authorization": AUTHORIZATION, "Content-Type": MANIFEST}
    with Wire("127.0.0.1", registry.port) as wire:
        assert wire.ask(f"/v2/team/app/manifests/{tag}", method="PUT", headers=headers, body=data).status == 201


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, new_folder: Callable[[], Path], private: PrivateRegistry, registry: Registry) -> list[Node]:
    """Nodes that could have everything by their own credential."""
    config = new_folder() / "config.json"
    config.write_text(json.dumps({"auths": {"private.test": {"auth": AUTHORIZATION.removeprefix("Basic ")}}}))
    return cluster(
        NODES,
        *("--consent", "upstream"),
        *("--registry", f"private.test={private.registry.url}"),
        *("--registry", f"public.test={registry.url}"),
        *("--registry-auth", str(config)),
    )


@pytest.fixture(scope="module")
def contents(nodes: list[Node], private: PrivateRegistry, registry: Registry) -> dict[str, Kept]:
    """All kinds, and each on every node."""
    layer, other, public = (made.content(seed, 2_500_000) for seed in ("private layer", "private file", "public layer"))
    digest, by_url = (private.registry.push_blob("team/app", data) for data in (layer, other))
    config = private.registry.push_blob("team/app", b"{}")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/octet-stream", "digest": digest, "size": len(layer)}],
        }
    ).encode()
    push_manifest(private.registry, "v1", manifest)
    by_digest = f"/v2/team/app/manifests/{made.digest_of(manifest)}"
    url = f"/v2/team/app/blobs/{by_url}"
    public_blob = f"/v2/team/app/blobs/{registry.push_blob('team/app', public)}"
    found = {
        "a private blob": Kept(f"/v2/team/app/blobs/{digest}?ns=private.test", layer, f"/v2/team/app/blobs/{digest}"),
        "a private manifest by tag": Kept("/v2/team/app/manifests/v1?ns=private.test", manifest, by_digest),
        "a private manifest by digest": Kept(f"{by_digest}?ns=private.test", manifest, by_digest),
        "a private file": Kept(f"/blobs/{private.registry.url}{url}", other, url, at_blobs=True),
        "a public blob": Kept(f"{public_blob}?ns=public.test", public, public_blob),
        "a public file": Kept(f"/blobs/{registry.url}{public_blob}", public, public_blob, at_blobs=True),
    }
    for node in nodes:
        for kept in found.values():
            assert node.ask(kept.target, headers={"Authorization": AUTHORIZATION}).body == kept.data
        node.program.wait_until(lambda node=node: held(node) >= 5, "holding all of it")
    wait_until_agreed(nodes)
    return found


def held(node: Node) -> int:
    """How many contents the node has whole."""
    listed = json.loads(node.ask("/api/v1/contents").body)["contents"]
    return sum(one["whole"] for one in listed)


def ask_all_ways(node: Node, kept: Kept, client: str) -> Iterator[tuple[int, bytes]]:
    headers = headers_of(client)
    for method, more in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=7-99"}), ("GET", {"Range": "bytes=-10"})):
        reply = node.ask(kept.target, method=method, headers={**headers, **more})
        yield reply.status, reply.body


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "content",
    ["a private blob", "a private manifest by tag", "a private manifest by digest", "a private file"],
)
def test_private_content_is_given_to_whom_upstream_lets_in_and_to_nobody_else(
    nodes: list[Node], contents: dict[str, Kept], client: str, content: str, figures: Figures
) -> None:
    kept = contents[content]
    given = 0
    for node in nodes:
        for status, body in ask_all_ways(node, kept, client):
            if client in LET_IN:
                assert status in (200, 206)
                assert not body or body in kept.data
            else:
                assert status == (401 if kept.at_blobs else 404)
                assert kept.data[:64] not in body
                assert kept.data[7:64] not in body
                assert kept.data[-10:] not in body
            given += len(body) if status < 300 else 0
    assert (given > NODES * len(kept.data)) is (client in LET_IN)
    figures(
        "Consent: bytes given by three nodes that hold the content",
        {"content": content, "client": client, "bytes": given},
    )


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("content", ["a public blob", "a public file"])
def test_public_content_is_given_to_everybody(
    nodes: list[Node], contents: dict[str, Kept], client: str, content: str
) -> None:
    kept = contents[content]
    for node in nodes:
        assert node.ask(kept.target, headers=headers_of(client)).body == kept.data


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("content", ["a private blob", "a private manifest by digest", "a private file"])
def test_upstream_is_asked_once_for_each_client_and_content(
    nodes: list[Node], private: PrivateRegistry, client: str, content: str
) -> None:
    """A content of its own for each: what others made known does not count."""
    node = nodes[0]
    data = made.content(f"{client} and {content}", 5_000)
    if content == "a private manifest by digest":
        data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config_of(private),
                "layers": [],
                "annotations": {"for": client},
            }
        ).encode()
        push_manifest(private.registry, "once", data)
        path = f"/v2/team/app/manifests/{made.digest_of(data)}"
    else:
        path = f"/v2/team/app/blobs/{private.registry.push_blob('team/app', data)}"
    target = f"/blobs/{private.registry.url}{path}" if content == "a private file" else f"{path}?ns=private.test"
    assert node.ask(target, headers={"Authorization": AUTHORIZATION}).body == data
    known = {"a user": 0, "nobody": 1, "another user": 1}.get(client, 2)  # The last are asked for as nobody, too.
    before = private.asked(path)
    for _ in range(5):
        node.ask(target, headers=headers_of(client))
    assert private.asked(path) - before == known


def config_of(private: PrivateRegistry) -> dict[str, object]:
    digest = private.registry.push_blob("team/app", b"{}")
    return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2}


def test_what_upstream_said_stands_with_the_error(nodes: list[Node], contents: dict[str, Kept]) -> None:
    reply = nodes[1].ask(contents["a private file"].target)
    assert reply.headers["www-authenticate"] == 'Basic realm="tests"'
    assert json.loads(reply.body)["status"] == 401
    reply = nodes[1].ask(contents["a private blob"].target)
    assert json.loads(reply.body)["errors"][0]["code"] == "DENIED"
    assert "www-authenticate" not in reply.headers


def test_a_blob_is_private_in_one_repository_and_public_in_another(
    nodes: list[Node], private: PrivateRegistry, registry: Registry
) -> None:
    """Whoever has it at the public registry may have it by that registry's name, and by no other."""
    data = made.content("in both", 300_000)
    digest = private.registry.push_blob("team/app", data)
    assert registry.push_blob("everybodys/app", data) == digest
    target = f"/v2/team/app/blobs/{digest}?ns=private.test"
    assert nodes[2].ask(target, headers={"Authorization": AUTHORIZATION}).body == data
    assert nodes[2].ask(target).status == 404
    assert nodes[2].ask(f"/v2/everybodys/app/blobs/{digest}?ns=public.test").body == data
    assert nodes[2].ask(f"/v2/no/app/blobs/{digest}?ns=public.test").status == 404


def test_metrics_tell_how_often_and_never_who(nodes: list[Node], contents: dict[str, Kept]) -> None:
    nodes[0].ask(contents["a private blob"].target)
    for answer in ("given", "refused"):
        for source in ("memory", "upstream"):
            assert nodes[0].metric("peerd_consents_total", answer=answer, source=source) > 0
    text = nodes[0].ask("/metrics/prometheus").body.decode()
    assert AUTHORIZATION.removeprefix("Basic ") not in text
    lines = [line for line in text.splitlines() if line.startswith("peerd_consents")]
    assert not any("sha256" in line or "private" in line for line in lines)


@pytest.mark.usefixtures("contents")
def test_what_upstream_sent_is_told_by_registry_and_host_alone(
    nodes: list[Node], private: PrivateRegistry, registry: Registry
) -> None:
    with events_of(nodes[0]) as events:
        told = next(document for name, document in events if name == "images" and document["members"] == NODES)
    names = {image["name"] for image in told["images"]}
    assert names >= {"private.test", "public.test", private.registry.netloc, registry.netloc}
    assert not any("/" in name for name in names)
