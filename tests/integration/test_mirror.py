"""Conversations at `/v2`: what containerd and its kin ask, and what a mirror must never answer."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node, running_alone, wait_until_agreed
from tests.support.origin import Origin, always, file
from tests.support.ports import free_port
from tests.support.wire import Reply
from tests.upstream.conversation import Asked, Script, Wire, part, response

pytestmark = [pytest.mark.xdist_group("conversations")]

MANIFEST = b'{"schemaVersion": 2, "config": {}}'
MANIFEST_DIGEST = made.digest_of(MANIFEST)
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ABSENT = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Node]:
    options = [
        *("--registry", f"origin.test={origin.url}"),
        *("--registry", f"away.test=http://127.0.0.1:{free_port()}"),
        *("--default-registry", "origin.test"),
        *("--mirror-timeout", "1s"),
    ]
    headers = {"Content_Type": MANIFEST_TYPE, "Docker_Content_Digest": MANIFEST_DIGEST}
    for reference in ("latest", MANIFEST_DIGEST):
        origin.at(f"/v2/team/app/manifests/{reference}", file(MANIFEST, **headers))
    with running_alone(new_folder(), *options) as node:
        yield node


def blob_at(origin: Origin, name: str, size: int = 1000) -> tuple[str, bytes]:
    """A blob that nobody asked for yet: its path and its bytes."""
    data = made.content(name, size)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"
    origin.at(path, file(data))
    return path, data


def code_of(reply: Reply) -> str:
    """The code in an OCI error document (distribution-spec, Error Codes)."""
    assert reply.headers["content-type"] == "application/json"
    (error,) = json.loads(reply.body)["errors"]
    assert error["message"]
    return str(error["code"])


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_says_that_it_is_a_registry(node: Node, path: str, method: str) -> None:
    reply = node.ask(path, method=method)
    assert (reply.status, reply.headers["docker-distribution-api-version"]) == (200, "registry/2.0")


@pytest.mark.parametrize("reference", ["latest", MANIFEST_DIGEST])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_manifest_by_tag_or_digest(node: Node, reference: str, method: str) -> None:
    reply = node.ask(f"/v2/team/app/manifests/{reference}?ns=origin.test", method=method)
    assert reply.status == 200
    assert reply.headers["content-type"] == MANIFEST_TYPE
    assert reply.headers["docker-content-digest"] == MANIFEST_DIGEST
    assert reply.headers["content-length"] == str(len(MANIFEST))
    assert reply.headers["oci-namespace"] == "origin.test"
    assert reply.body == (MANIFEST if method == "GET" else b"")


def test_a_manifest_that_the_client_has_is_304(node: Node) -> None:
    reply = node.ask("/v2/team/app/manifests/latest", headers={"If-None-Match": f'"{MANIFEST_DIGEST}"'})
    assert (reply.status, reply.headers["docker-content-digest"]) == (304, MANIFEST_DIGEST)


def test_a_blobs_headers(node: Node, origin: Origin) -> None:
    path, data = blob_at(origin, "headers")
    digest = path.rpartition("/")[2]
    for cache_status in ("peerd; fwd=miss; detail=upstream", "peerd; hit"):
        reply = node.ask(f"{path}?ns=origin.test")
        assert (reply.status, reply.body) == (200, data)
        assert reply.headers["accept-ranges"] == "bytes"
        assert reply.headers["docker-content-digest"] == digest
        assert reply.headers["etag"] == f'"{digest}"'
        assert reply.headers["oci-namespace"] == "origin.test"
        assert reply.headers["x-ms-peerd-node"] == "node-1"
        assert reply.headers["cache-status"] == cache_status


@pytest.mark.parametrize(
    ("query", "headers", "registry"),
    [
        pytest.param("", {}, "origin.test", id="none: the default"),
        pytest.param("?ns=", {}, "origin.test", id="empty: the default"),
        pytest.param("", {"OCI-Namespace": "origin.test"}, "origin.test", id="the header stands in for ns"),
        pytest.param("?ns=origin.test", {"OCI-Namespace": "away.test"}, "origin.test", id="ns before the header"),
        pytest.param("?ns=ORIGIN.test", {}, "origin.test", id="hosts are case-insensitive"),
    ],
)
def test_which_registry_is_meant(
    node: Node, origin: Origin, query: str, headers: dict[str, str], registry: str
) -> None:
    path, data = blob_at(origin, f"{query} {headers}")
    reply = node.ask(path + query, headers=headers)
    assert (reply.status, reply.body, reply.headers["oci-namespace"]) == (200, data, registry)


def test_a_correlation_id_is_kept_or_made(node: Node) -> None:
    kept = node.ask("/v2/", headers={"X-MS-Peerd-CorrelationId": "pull-42"})
    assert kept.headers["x-ms-peerd-correlationid"] == "pull-42"
    made_up = {node.ask(path).headers["x-ms-peerd-correlationid"] for path in ("/v2/", "/v2/x", "/nowhere")}
    assert len(made_up) == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "/v2/a%0Ab",
        "/v2/team/app/blobs/uploads/",
        f"/v2/team/app/blobs/{ABSENT}",
        "/v2/team/app/manifests/latest",
    ],
)
def test_writes_are_405(node: Node, method: str, path: str) -> None:
    reply = node.ask(path, method=method)
    assert (reply.status, reply.headers["allow"], code_of(reply)) == (405, "GET, HEAD", "UNSUPPORTED")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param("/v2/team/app/blobs/sha256:abc", 400, "DIGEST_INVALID", id="a digest that is too short"),
        pytest.param(f"/v2/team/app/blobs/sha256:{'G' * 64}", 400, "DIGEST_INVALID", id="a digest that is not hexadecimal"),
        pytest.param(f"/v2/team/app/blobs/md5:{'0' * 32}", 400, "DIGEST_INVALID", id="a digest of an unknown kind"),
        pytest.param("/v2/team/app/blobs/latest", 400, "DIGEST_INVALID", id="a tag where a digest belongs"),
        pytest.param("/v2/team/app/manifests/sha256:abc", 400, "DIGEST_INVALID", id="a manifest's digest that is too short"),
        pytest.param("/v2/team/app/manifests/.tag", 400, "MANIFEST_INVALID", id="no tag"),
        pytest.param(f"/v2/TEAM/app/blobs/{ABSENT}", 400, "NAME_INVALID", id="a name in capitals"),
        pytest.param(f"/v2/team/../app/blobs/{ABSENT}", 400, "NAME_INVALID", id="a name that climbs"),
        pytest.param(f"/v2/{'a' * 300}/blobs/{ABSENT}", 400, "NAME_INVALID", id="a name that is too long"),
        pytest.param(f"/v2/team/app/blobs/{ABSENT}?ns=a%2Fb", 400, "NAME_INVALID", id="ns with a path"),
        pytest.param(f"/v2/team/app/blobs/{ABSENT}?ns=user@host", 400, "NAME_INVALID", id="ns with a user"),
        pytest.param(f"/v2/team/app/blobs/{ABSENT}?ns=%00", 400, "NAME_INVALID", id="ns of a control character"),
        pytest.param(f"/v2/team/app/blobs/{ABSENT}", 404, "BLOB_UNKNOWN", id="a blob that upstream does not have"),
        pytest.param("/v2/team/app/manifests/absent", 404, "MANIFEST_UNKNOWN", id="a tag that upstream does not have"),
        pytest.param(f"/v2/team/app/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN", id="a manifest that it does not have"),
        pytest.param(f"/v2/team/app/blobs/{ABSENT}?ns=away.test", 404, "UNAVAILABLE", id="a blob of an unreachable registry"),
        pytest.param("/v2/team/app/manifests/latest?ns=away.test", 404, "UNAVAILABLE", id="a tag of an unreachable registry"),
        pytest.param(f"/v2/team/app/blobs/{ABSENT}?ns=127.0.0.5", 404, "DENIED", id="a registry that may not be asked"),
        pytest.param("/v2/_catalog", 404, "UNSUPPORTED", id="the catalogue"),
        pytest.param("/v2/team/app/tags/list", 404, "UNSUPPORTED", id="the list of tags"),
        pytest.param("/v2/team/app/referrers/x", 404, "UNSUPPORTED", id="referrers"),
        pytest.param("/v2/team/app", 404, "UNSUPPORTED", id="no route"),
        pytest.param("/v2//blobs/", 404, "UNSUPPORTED", id="no name and no digest"),
    ],
)  # fmt: skip
def test_errors_are_oci_documents(node: Node, path: str, status: int, code: str) -> None:
    reply = node.ask(path)
    assert (reply.status, code_of(reply)) == (status, code)
    assert reply.headers["docker-distribution-api-version"] == "registry/2.0"
    assert node.ask(path, method="HEAD").status == status


async def silent(_asked: Asked, wire: Wire) -> None:
    """Take the request, and say nothing until the client hangs up."""
    await wire.gone()


@pytest.mark.parametrize(
    "script",
    [
        *(
            pytest.param(always(response(status)), id=str(status))
            for status in (400, 401, 402, 403, 404, 405, 408, 410, 418, 451, 500, 501, 502, 504)
        ),
        pytest.param(always(response(401, WWW_Authenticate='Basic realm="r"')), id="401 with a challenge"),
        pytest.param(always(response(429, Retry_After="100")), id="429 for long"),
        pytest.param(always(response(429)), id="429 again and again"),
        pytest.param(always(response(503, Retry_After="100")), id="503 for long"),
        pytest.param(always(response(302, Location="/v2/team/app/blobs/elsewhere")), id="a redirect to nowhere"),
        pytest.param(always(response(307)), id="a redirect without a place"),
        pytest.param(always(response(302, Location="file:///etc/passwd")), id="a redirect to a file"),
        pytest.param(always(b"nonsense\r\n\r\n"), id="not HTTP"),
        pytest.param(silent, id="silence"),
    ],
)
@pytest.mark.parametrize("kind", ["blob", "manifest", "tag"])
def test_whatever_upstream_answers_is_a_404_that_sends_the_client_there_by_itself(
    node: Node, origin: Origin, script: Script, kind: str, request: pytest.FixtureRequest
) -> None:
    digest = made.digest_of(request.node.name.encode())
    path = {
        "blob": f"/v2/team/odd/blobs/{digest}",
        "manifest": f"/v2/team/odd/manifests/{digest}",
        "tag": f"/v2/team/odd/manifests/{digest[7:47]}",
    }[kind]
    origin.at(path, script)
    reply = node.ask(path)
    assert reply.status == 404
    assert code_of(reply) in {"BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "DENIED", "UNAVAILABLE"}
    assert node.ask(path, method="HEAD").status == 404


def test_a_blob_whose_first_byte_does_not_come_is_404_in_time(node: Node, origin: Origin) -> None:
    data = made.content("no first byte", 100_000)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"

    async def script(asked: Asked, wire: Wire) -> None:
        await (wire.send(part(data, asked)) if asked.headers.get("range") == "bytes=0-0" else wire.gone())

    origin.at(path, script)
    assert node.ask(path).status == 404
    assert node.ask(path, method="HEAD").headers["content-length"] == "100000", "upstream does say what it has"


def test_a_manifest_that_is_not_what_its_digest_says_is_404(node: Node, origin: Origin) -> None:
    origin.at(f"/v2/team/app/manifests/{ABSENT}", file(MANIFEST, Content_Type=MANIFEST_TYPE))
    assert node.ask(f"/v2/team/app/manifests/{ABSENT}").status == 404


def test_members_give_each_other_what_they_have(cluster: Cluster, origin: Origin) -> None:
    nodes = cluster(2, "--default-registry", "origin.test", "--registry", f"origin.test={origin.url}")
    blobs = [blob_at(origin, f"shared {number}") for number in range(8)]
    for path, data in blobs:
        assert nodes[0].ask(path).body == data
    wait_until_agreed(nodes)
    seen = set()
    for path, data in blobs:
        asked = len(origin.asked_for(path))
        reply = nodes[1].ask(path)
        assert (reply.status, reply.body, reply.headers["x-ms-peerd-node"]) == (200, data, "node-2")
        assert len(origin.asked_for(path)) == asked
        seen.add(reply.headers["cache-status"])
    # Of some it is the home, and fetched them for the first; the others came from there.
    assert "peerd; fwd=miss; detail=peer" in seen
