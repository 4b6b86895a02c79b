"""The short way and the whole way give the same answers: `If-Match: *` always holds, and always goes the whole way."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import made
from tests.support.nodes import Node, running_alone
from tests.support.origin import Origin, file
from tests.support.wire import Reply
from tests.upstream.conversation import Asked, Wire, response

pytestmark = [pytest.mark.xdist_group("conversations")]

SIZE = 3_000_000
DATA = made.content("shortcut", SIZE)
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}).encode()
MANIFEST_DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
OWN_TO_EACH_ANSWER = {"date", "x-ms-peerd-correlationid"}

RANGES = [
    None,
    "bytes=0-0",
    "bytes=0-",
    "bytes=2999999-2999999",
    "bytes=1048575-1048576",
    "bytes=100-99999999999999999",
    "bytes=99999999999999999999-",
    "bytes=3000000-",
    "bytes=5-4",
    "bytes=-1",
    "bytes=-0",
    "bytes=-",
    "bytes=x-y",
    "bytes =0-1",
    "bytes=0-1 ",
    "chunks=0-1",
    "",
]


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Node]:
    with running_alone(new_folder(), "--registry", f"origin.test={origin.url}") as node:
        yield node


@pytest.fixture(scope="module", params=["blob", "file", "file without a date", "manifest", "tag"])
def target(request: pytest.FixtureRequest, origin: Origin, node: Node) -> str:
    digest = made.digest_of(DATA)
    manifest = file(MANIFEST, Content_Type="application/vnd.oci.image.manifest.v1+json")
    origin.at(f"/v2/team/app/blobs/{digest}", file(DATA))
    origin.at(f"/v2/team/app/manifests/{MANIFEST_DIGEST}", manifest)
    origin.at("/v2/team/app/manifests/latest", manifest)
    found = {
        "blob": f"/v2/team/app/blobs/{digest}?ns=origin.test",
        "file": f"/blobs/{origin.at('/one', file(DATA, ETag='one', Last_Modified='Thu, 01 Jan 2026 00:00:00 GMT'))}",
        "file without a date": f"/blobs/{origin.at('/two', file(DATA, ETag='two'))}",
        "manifest": f"/v2/team/app/manifests/{MANIFEST_DIGEST}?ns=origin.test",
        "tag": "/v2/team/app/manifests/latest?ns=origin.test",
    }[request.param]
    assert node.ask(found).correct
    return found


@pytest.mark.parametrize("header", RANGES)
def test_both_ways_give_the_same_answer(node: Node, target: str, header: str | None) -> None:
    range_ = {} if header is None else {"Range": header}
    long_way = node.ask(target, headers={**range_, "If-Match": "*"})  # And leaves the short way open for a second.
    assert shown(node.ask(target, headers=range_)) == shown(long_way)


@pytest.mark.parametrize("door", ["/v2", "/blobs"])
def test_both_ways_refuse_in_the_same_words(node: Node, origin: Origin, door: str) -> None:
    data = made.content(f"refused at {door}", SIZE)
    honest = file(data, ETag="one")

    async def of_its_beginning_only(asked: Asked, wire: Wire) -> None:
        is_beginning = asked.headers.get("range", "").startswith("bytes=0-")
        await (honest(asked, wire) if is_beginning else wire.send(response(403)))

    path = f"/v2/team/app/blobs/{made.digest_of(data)}" if door == "/v2" else "/refused"
    url = origin.at(path, of_its_beginning_only)
    target = f"{path}?ns=origin.test" if door == "/v2" else f"/blobs/{url}"
    beginning, end = {"Range": "bytes=0-9"}, {"Range": "bytes=2000000-2000009"}
    assert node.ask(target, headers=beginning).status == 206  # And leaves the short way open for a second.
    short_way = node.ask(target, headers=end)
    assert short_way.status == (404 if door == "/v2" else 403)
    assert shown(node.ask(target, headers={**end, "If-Match": "*"})) == shown(short_way)
    transfers = json.loads(node.ask("/api/v1/transfers").body)["transfers"]
    assert all(transfer["state"] in ("finished", "broken") for transfer in transfers)


def test_another_namespace_is_another_question(node: Node) -> None:
    digest = made.digest_of(DATA)
    own = f"/v2/team/app/blobs/{digest}"
    assert node.ask(own, headers={"OCI-Namespace": "origin.test"}).headers["oci-namespace"] == "origin.test"
    assert node.ask(own, headers={"OCI-Namespace": "127.0.0.1:9"}).headers["oci-namespace"] == "127.0.0.1:9"


def shown(reply: Reply) -> tuple[object, ...]:
    headers = {name: value for name, value in reply.headers.items() if name not in OWN_TO_EACH_ANSWER}
    return reply.status, headers, reply.body, reply.end
