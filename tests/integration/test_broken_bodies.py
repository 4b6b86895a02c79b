"""Bodies that can not be completed: broken off by an orderly close, with right bytes up to there, and never ended as if whole."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import made
from tests.support.nodes import Node, running_alone
from tests.support.origin import Origin, file, then_close
from tests.support.wire import End
from tests.upstream.conversation import Asked, Script, Wire, part, response

pytestmark = [pytest.mark.xdist_group("conversations")]

MIB = 1 << 20
SIZE = 4 * MIB + 1234
BREAK = 2 * MIB + 500
"""Upstream sends no byte from here on."""


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Node]:
    with running_alone(new_folder(), "--registry", f"origin.test={origin.url}") as node:
        yield node


def span_of(asked: Asked) -> tuple[int, int]:
    """Which bytes a request wants, half-open."""
    first, _, last = asked.headers.get("range", f"bytes=0-{SIZE - 1}").removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1


def breaking(data: bytes, how: str) -> Script:
    """An upstream whose answers break off at `BREAK`, always."""

    async def script(asked: Asked, wire: Wire) -> None:
        start, stop = span_of(asked)
        answer = part(data, asked, ETag='"1"')
        if stop <= BREAK:
            await wire.send(answer)
            return
        if start >= BREAK and how == "is refused":
            await wire.send(response(404))
            return
        await wire.send(answer[: len(answer) - (stop - max(start, BREAK))])
        if how == "ends by a reset":
            wire.reset()
        else:
            wire.close()

    return script


def lying(data: bytes, how: str) -> Script:
    """An upstream that says something else of its answers than they are, from the third chunk on."""

    async def script(asked: Asked, wire: Wire) -> None:
        start, stop = span_of(asked)
        if start < 2 * MIB and stop <= 2 * MIB:
            await wire.send(part(data, asked, ETag='"1"'))
            return
        wanted, headers = data[start:stop], {"ETag": '"1"', "Content_Range": f"bytes {start}-{stop - 1}/{SIZE}"}
        if how == "sends another place":
            headers["Content_Range"] = f"bytes {start + 1}-{stop}/{SIZE}"
        elif how == "sends another size":
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{SIZE + 1}"
        elif how == "sends an encoded body":
            headers["Content_Encoding"] = "gzip"
        elif how == "sends another version":
            headers["ETag"] = '"2"'
        elif how == "sends less than it says":
            headers["Content_Range"], wanted = f"bytes {start}-{stop - 2}/{SIZE}", wanted[:-1]
        await wire.send(response(206, wanted, **headers))

    return script


TROUBLES = [
    (breaking, "ends early"),
    (breaking, "ends by a reset"),
    (breaking, "is refused"),
    (lying, "sends another place"),
    (lying, "sends another size"),
    (lying, "sends an encoded body"),
    (lying, "sends less than it says"),
]


@pytest.mark.parametrize(
    ("door", "trouble", "how"),
    [
        pytest.param(door, trouble, how, id=f"{door}, upstream {how}")
        for door, troubles in (("/v2", TROUBLES), ("/blobs", [*TROUBLES, (lying, "sends another version")]))
        for trouble, how in troubles
    ],
)
def test_a_body_that_can_not_be_completed_ends_early_and_in_order(
    node: Node, origin: Origin, door: str, trouble: Callable[[bytes, str], Script], how: str
) -> None:
    data = made.content(f"{door} {how}", SIZE)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}" if door == "/v2" else f"/{how.replace(' ', '-')}"
    url = origin.at(path, trouble(data, how))
    target = f"{path}?ns=origin.test" if door == "/v2" else f"/blobs/{url}"

    reply = node.ask(target)
    assert (reply.status, reply.headers["content-length"]) == (200, str(SIZE))
    assert reply.end is End.EARLY
    assert 2 * MIB <= len(reply.body) <= (BREAK if trouble is breaking else SIZE)
    assert data.startswith(reply.body)

    good = node.ask(target, headers={"Range": "bytes=100-200000"})
    assert (good.status, good.body) == (206, data[100:200_001]), "what can be had is served"
    bad = node.ask(target, headers={"Range": f"bytes={3 * MIB}-{3 * MIB + 99}"})
    assert bad.status in ({404} if door == "/v2" else {404, 502, 503})


def test_a_digests_bytes_are_proved_by_hashing_whatever_version_upstream_calls_them(node: Node, origin: Origin) -> None:
    data = made.content("versions of a digest", SIZE)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"
    origin.at(path, lying(data, "sends another version"))
    reply = node.ask(f"{path}?ns=origin.test")
    assert (reply.correct, reply.body) == (True, data)


def test_containerd_goes_on_at_the_byte_where_a_body_broke_off(node: Node, origin: Origin) -> None:
    """It opens the rest again with Range after an orderly close, and the rest is there once upstream is."""
    data = made.content("goes on", SIZE)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"
    origin.at(path, breaking(data, "ends early"))
    first = node.ask(f"{path}?ns=origin.test")
    assert first.end is End.EARLY
    origin.at(path, file(data))
    rest = node.ask(f"{path}?ns=origin.test", headers={"Range": f"bytes={len(first.body)}-"})
    assert rest.status == 206
    assert first.body + rest.body == data


def test_a_body_without_a_length_that_breaks_off_has_no_last_chunk(node: Node, origin: Origin) -> None:
    data = made.content("chunked", 300_000)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n" % (len(data), data, 1000)
    reply = node.ask(f"/blobs/{origin.at('/chunked', then_close(answer))}")
    assert reply.end is not End.RESET
    assert not reply.correct
    assert data.startswith(reply.body)


def test_a_client_that_leaves_does_not_disturb_the_others(node: Node, origin: Origin) -> None:
    data = made.content("leaves", SIZE)
    url = origin.at("/leaves", file(data, ETag='"1"'))
    for count in (0, 1, 100_000):
        with node.connect() as client:
            client.begin(f"/blobs/{url}")
            assert client.read(count)[0] == data[:count]
    reply = node.ask(f"/blobs/{url}")
    assert (reply.correct, reply.body) == (True, data)
