"""Conversations at `/blobs`: URLs as they were written, upstreams as they are."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import made
from tests.support.nodes import Node, running_alone
from tests.support.origin import Origin, always, file, then_close
from tests.support.ports import free_port
from tests.support.wire import Reply
from tests.upstream.conversation import Asked, Wire, part, response

pytestmark = [pytest.mark.xdist_group("conversations")]

MIB = 1 << 20


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path]) -> Iterator[Node]:
    with running_alone(new_folder()) as node:
        yield node


def problem(reply: Reply) -> dict[str, object]:
    """A problem document (RFC 9457)."""
    assert reply.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = json.loads(reply.body)
    assert document["status"] == reply.status
    assert document["title"]
    assert document["detail"]
    return document


# The URL


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/plain?b=2&a=1", id="the query's order"),
        pytest.param("//twice//slashed?x=//y", id="slashes that are doubled"),
        pytest.param("/a%2Bb+c%2fd?sig=a%2Bb%2F%3D&sv=1", id="escapes, in the case they have"),
        pytest.param("/a%252Fb?c=%2525", id="an escape of an escape"),
        pytest.param("/a%0Ab%0D?c=%0A", id="line breaks"),
        pytest.param("/empty?", id="a query without anything"),
        pytest.param("/?d=1", id="no path"),
        pytest.param("/a;b=c/d@e:f?g=h:i@j?k", id="characters that a URL may have"),
        pytest.param("/dots/../a/./b", id="dots"),
        pytest.param("/http://other/inside?u=http://other", id="a URL inside"),
    ],
)
@pytest.mark.parametrize("form", ["as it is", "escaped as a whole", "with one slash less"])
def test_a_url_reaches_upstream_byte_for_byte(node: Node, origin: Origin, target: str, form: str) -> None:
    data = made.content(f"{target} {form}", 2000)
    path = target.partition("?")[0]
    origin.at(path, file(data))
    url = f"{origin.url}{target}"
    behind = {
        "as it is": url,
        "escaped as a whole": quote(url, safe=""),
        "with one slash less": url.replace("//", "/", 1),
    }
    before = len(origin.asked_for(path))
    reply = node.ask(f"/blobs/{behind[form]}")
    assert (reply.status, reply.body) == (200, data)
    sent = {asked.target for asked in origin.asked_for(path)[before:]}
    assert sent <= ({target, target.removesuffix("?")} if target.endswith("?") else {target})
    assert sent


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        pytest.param("", 400, id="nothing"),
        pytest.param("nonsense", 400, id="no URL"),
        pytest.param("ftp://127.0.0.1/file", 400, id="another scheme"),
        pytest.param("file:///etc/passwd", 400, id="a file"),
        pytest.param("http://", 400, id="no host"),
        pytest.param("http:///path", 400, id="a path and no host"),
        pytest.param("http://[::1/x", 400, id="a bracket that is not closed"),
        pytest.param("http://127.0.0.1:99999/x", 400, id="no port"),
        pytest.param("http://127.0.0.1:port/x", 400, id="a port that is no number"),
        pytest.param("http%3A%2F%2F127.0.0.1%2Fa%20b", 400, id="a blank that was escaped once only"),
        pytest.param("http%3A%2F%2F127.0.0.1%2F%C3%A4", 400, id="a letter that no URL has"),
        pytest.param("https://127.0.0.1/" + "a" * 20_000, 400, id="a URL that is too long"),
        pytest.param("http://user:word@127.0.0.1/x", 403, id="a password inside"),
        pytest.param("http://127.0.0.5/x", 403, id="an address that may not be asked"),
        pytest.param("http://169.254.169.254/latest/meta-data", 403, id="the metadata of a cloud"),
        pytest.param("http://[::ffff:127.0.0.5]/x", 403, id="the same in another clothing"),
        pytest.param("http://localhost:1/x", 403, id="a name of this machine"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_400_and_what_may_not_be_asked_is_403(node: Node, behind: str, status: int) -> None:
    reply = node.ask(f"/blobs/{behind}")
    assert reply.status == status
    assert problem(reply)
    assert node.ask(f"/blobs/{behind}", method="HEAD").status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writes_are_405(node: Node, method: str) -> None:
    reply = node.ask("/blobs/http://127.0.0.1/x", method=method)
    assert reply.status == 405
    assert {"GET", "HEAD"} == set(reply.headers["allow"].replace(" ", "").split(","))


def test_an_unknown_route_is_a_problem_document(node: Node) -> None:
    for path in ("/nowhere", "/blob", "/v1/x", "/api/v1/nothing"):
        assert problem(node.ask(path))["status"] == 404


@pytest.mark.parametrize(
    "target",
    [
        *("/v2/%00/blobs/x", "/v2/%ff%fe/manifests/latest", "/v2/a/manifests/", "/v2/a/blobs/", "/v2/a/manifests/%0a"),
        *("/v2/..%2f..%2fetc/manifests/x", "/v2/a/blobs/sha256:%00", "/v2/a/manifests/x?ns=%ff", "/v2/a/manifests/x?ns=[::"),
        *("/blobs", "/blobs/", "/blobs/%ff", "/blobs/%00", "/blobs/http%3A%2F%2F%00", "/blobs/http://%31%32%37.0.0.1/x"),
        *("/blobs/http://127.0.0.1:0/", "/blobs/http://[::1%25lo]/x", "/blobs/http://[v1.x]/", "/blobs/http://xn--/x"),
        *("/blobs/http://a..b/x", "/blobs/http://" + "a" * 300 + "/x", "/blobs/http://0x7f.1/x", "/blobs/http://127.1/x"),
        *("/api/v1/contents?limit=abc", "/api/v1/contents?limit=-1", "/api/v1/preheat/nothing", "/%00", "/%ff", "//", "/."),
    ],
)  # fmt: skip
def test_nothing_that_is_asked_is_a_mistake_of_ours(node: Node, target: str) -> None:
    for method in ("GET", "HEAD"):
        reply = node.ask(target, method=method, headers={"Range": "bytes=0-0"})
        assert 400 <= reply.status < 500 or reply.status == 502, (reply.status, reply.body)


# Upstream's own word


@pytest.mark.parametrize("status", [401, 403, 404])
def test_upstreams_refusal_is_passed_on(node: Node, origin: Origin, status: int) -> None:
    url = origin.at(f"/status/{status}", always(response(status, WWW_Authenticate='Basic realm="files"')))
    reply = node.ask(f"/blobs/{url}")
    assert problem(reply)["status"] == status
    assert reply.headers.get("www-authenticate") == ('Basic realm="files"' if status == 401 else None)
    assert node.ask(f"/blobs/{url}", method="HEAD").status == status


@pytest.mark.parametrize("status", [429, 503])
def test_an_upstream_that_is_busy_for_long_is_503_with_its_word_when(node: Node, origin: Origin, status: int) -> None:
    url = origin.at(f"/busy/{status}", always(response(status, Retry_After="100")))
    reply = node.ask(f"/blobs/{url}")
    assert problem(reply)["status"] == 503
    assert reply.headers["retry-after"] == "100"


@pytest.mark.parametrize("status", [429, 503])
def test_an_upstream_that_is_busy_for_a_moment_is_waited_for(node: Node, origin: Origin, status: int) -> None:
    data = made.content(f"busy {status}", 3000)
    turned_away: list[Asked] = []

    async def script(asked: Asked, wire: Wire) -> None:
        if len(turned_away) < 2:
            turned_away.append(asked)
            await wire.send(response(status, Retry_After="0"))
        else:
            await wire.send(part(data, asked, ETag='"1"'))

    reply = node.ask(f"/blobs/{origin.at(f'/moment/{status}', script)}")
    assert (reply.status, reply.body, len(turned_away)) == (200, data, 2)


@pytest.mark.parametrize("status", [500, 502, 504, 400, 418])
def test_any_other_failure_of_upstream_is_502(node: Node, origin: Origin, status: int) -> None:
    assert problem(node.ask(f"/blobs/{origin.at(f'/status/{status}', always(response(status)))}"))["status"] == 502


def test_an_unreachable_upstream_is_502(node: Node) -> None:
    assert problem(node.ask(f"/blobs/http://127.0.0.1:{free_port()}/x"))["status"] == 502


# Upstreams as they are


def ask_range(node: Node, url: str, first: int, last: int) -> Reply:
    return node.ask(f"/blobs/{url}", headers={"Range": f"bytes={first}-{last}"})


def assert_read(node: Node, url: str, data: bytes) -> None:
    """Whole and in parts, in any order."""
    for first, last in ((len(data) // 2, len(data) // 2 + 99), (0, 0), (len(data) - 10, len(data) - 1)):
        reply = ask_range(node, url, first, last)
        assert (reply.status, reply.headers["content-range"]) == (206, f"bytes {first}-{last}/{len(data)}")
        assert reply.body == data[first : last + 1]
    whole = node.ask(f"/blobs/{url}")
    assert whole.correct
    assert whole.body == data
    suffix = node.ask(f"/blobs/{url}", headers={"Range": "bytes=-5"})
    assert (suffix.status, suffix.body) == (206, data[-5:])


@pytest.mark.parametrize("version", [{"ETag": '"1"'}, {"Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, {}])
@pytest.mark.parametrize("size", [1000, 3 * MIB + 17])
def test_a_file_with_a_version_of_this_or_that_kind_or_none(
    node: Node, origin: Origin, version: dict[str, str], size: int
) -> None:
    data = made.content(f"{version} {size}", size)
    url = origin.at(f"/version/{'-'.join(version)}/{size}", file(data, **version))
    assert_read(node, url, data)
    asked = len(origin.asked_for(url.removeprefix(origin.url)))
    received = node.metric("peerd_received_bytes_total", source="upstream")
    assert node.ask(f"/blobs/{url}").body == data
    again = len(origin.asked_for(url.removeprefix(origin.url))) - asked
    assert (again == 0) == bool(version), "what has no version is not kept"
    came = 0 if version else size
    node.program.wait_until(
        lambda: node.metric("peerd_received_bytes_total", source="upstream") - received == came, "told of what came"
    )


@pytest.mark.parametrize("version", [{"ETag": '"1"'}, {}])
def test_an_upstream_that_ignores_range(node: Node, origin: Origin, version: dict[str, str]) -> None:
    data = made.content(f"ignores {version}", 3 * MIB + 17)
    assert_read(node, origin.at(f"/ignores{len(version)}", always(response(200, data, **version))), data)


@pytest.mark.parametrize("version", ["", 'ETag: "1"\r\n'])
@pytest.mark.parametrize("framing", ["chunked", "until it closes"])
def test_an_upstream_that_says_no_length(node: Node, origin: Origin, framing: str, version: str) -> None:
    data = made.content(f"no length {framing} {version}", 2 * MIB + 17)
    if framing == "chunked":
        pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n%s" % (version.encode(), body)
    else:
        answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n%s\r\n%s" % (version.encode(), data)
    url = origin.at(f"/no-length/{framing.replace(' ', '-')}{len(version)}", then_close(answer))
    assert_read(node, url, data)
    assert node.ask(f"/blobs/{url}", headers={"Range": f"bytes={len(data)}-"}).status == 416
    head = node.ask(f"/blobs/{url}", method="HEAD")
    assert (head.status, "content-length" in head.headers) == (200, False)


def test_an_empty_file(node: Node, origin: Origin) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(
            response(416, Content_Range="bytes */0") if "range" in asked.headers else response(200, ETag='"1"')
        )

    url = origin.at("/empty-file", script)
    reply = node.ask(f"/blobs/{url}")
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, "0", b"")
    part_of_it = node.ask(f"/blobs/{url}", headers={"Range": "bytes=0-"})
    assert (part_of_it.status, part_of_it.headers["content-range"]) == (416, "bytes */0")


def test_a_slow_client_gets_what_is_not_kept(node: Node, origin: Origin) -> None:
    """What was sent leaves the disk again; bytes that are still on their way to the client must not."""
    data = made.content("a slow client", 2 * MIB + 99)
    url = origin.at("/slow-client", file(data))
    with node.connect() as wire:
        head = wire.begin(f"/blobs/{url}")
        # All of it fits the sockets' queues, so the node is done with it before the client reads its first byte.
        node.program.wait_until(lambda: ended(node), "done sending")
        body, _ = wire.read(len(data))
    assert head.status == 200
    assert body == data


def ended(node: Node) -> bool:
    transfers = json.loads(node.ask("/api/v1/transfers").body)["transfers"]
    return all(one["state"] != "running" and one["done_bytes"] == one["total_bytes"] for one in transfers[-1:])


@pytest.mark.parametrize("when", ["between two clients", "within one body"])
def test_two_versions_are_never_mixed(node: Node, origin: Origin, when: str) -> None:
    versions = [made.content(f"version {number} {when}", 6 * MIB) for number in range(2)]
    current = [0]

    async def script(asked: Asked, wire: Wire) -> None:
        if when == "within one body" and asked.headers.get("range", "").startswith("bytes=3"):
            current[0] = 1
        # RFC 9110, section 13.1.5: a part of a version that is gone is not sent, the whole of the new one is.
        tag = f'"{current[0]}"'
        if asked.headers.get("if-range", tag) != tag:
            await wire.send(response(200, versions[current[0]], ETag=tag))
        else:
            await wire.send(part(versions[current[0]], asked, ETag=tag))

    url = origin.at(f"/changing/{when.replace(' ', '-')}", script)
    first = node.ask(f"/blobs/{url}")
    if when == "between two clients":
        assert first.body == versions[0]
        current[0] = 1
    elif first.status == 200:
        assert any(version.startswith(first.body) for version in versions)
    else:
        assert first.status == 503, "it changed before the first byte was sent"
    for asked_at in (0, 3 * MIB, 5 * MIB):
        reply = ask_range(node, url, asked_at, asked_at + 99)
        if reply.status == 206:
            version = versions[int(reply.headers["etag"].strip('"'))]
            assert reply.body == version[asked_at : asked_at + 100]
        else:
            assert reply.status == 503
    last = node.ask(f"/blobs/{url}")
    assert last.correct
    assert last.body in versions
