"""Answers that are sent from where the request is read: right bytes, in their order, and an end that is told of once."""

import asyncio
import contextlib
import os
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.content.descriptor import Descriptor, nameless
from app.server import at_once, bounded, doors, repeated
from app.server.doors import Door, bind, open_door
from app.server.sendfile import OUTLET
from app.settings import Address

DATA = os.urandom(9 << 20)
SECONDS_MAX = 20


@dataclass
class Answer:
    """`count` bytes from `offset`; what was told of them."""

    file: Descriptor
    offset: int
    count: int
    status: int = 206
    went: list[int] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)

    @property
    def headers(self) -> bytes:
        return b"Content-Length: %d\r\nX-Way: at once\r\n" % self.count

    def sent(self, count: int) -> None:
        self.went.append(count)

    def ended(self, *, whole: bool) -> None:
        self.ends.append(whole)


@dataclass
class Asked:
    """A request for a target."""

    target: bytes
    range: bytes | None

    def with_range(self, value: bytes) -> "Asked":
        return Asked(self.target, value)


class Answerer:
    """Has `/<offset>-<count>` of one file at hand, and of `/ranges` what a Range says."""

    def __init__(self) -> None:
        self.file = nameless(Path(tempfile.gettempdir()))
        os.pwrite(self.file.fileno(), DATA, 0)
        self.answers: list[Answer] = []
        self.reads = 0

    def read(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Asked:
        self.reads += 1
        return Asked(target, dict(headers).get(b"range"))

    def answer(self, asked: Asked) -> Answer | None:
        if asked.target == b"/ranges":
            found = re.fullmatch(rb"bytes=(\d+)-(\d+)", asked.range or b"bytes=0-0")
        else:
            found = re.fullmatch(rb"/(\d+)-(\d+)", asked.target)
        if found is None:
            return None
        first, second = int(found[1]), int(found[2])
        self.answers.append(Answer(self.file, first, second if asked.target != b"/ranges" else second + 1 - first))
        return self.answers[-1]

    @property
    def ends(self) -> list[list[bool]]:
        return [answer.ends for answer in self.answers]


asked: list[str] = []
"""Paths that the application was asked for."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """What is not at hand."""
    while (await receive())["type"] == "http.request":
        if scope["path"] == "/promised":
            scope["extensions"][OUTLET].promise(200, lambda _kind: b"content-length: 1\r\n", 1)
        if scope["path"] in ("/slow", "/promised"):
            await asyncio.sleep(0.3)
        asked.append(scope["path"])
        body = f"the application's, for {scope['path']}".encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"x-way", b"the whole")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return


@pytest.fixture
def answerer() -> Answerer:
    return Answerer()


@pytest.fixture
async def door(answerer: Answerer) -> AsyncIterator[Door]:
    listener = bind("door", Address("127.0.0.1", 0))
    async with open_door("door", listener, app, answerer=answerer, drain_seconds=2) as opened:
        yield opened


@contextlib.asynccontextmanager
async def connected(door: Door) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(SECONDS_MAX):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)  # So that not all fits in between.
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (door.address.host, door.address.port))
        reader, writer = await asyncio.open_connection(sock=client)
        try:
            yield reader, writer
        finally:
            writer.close()


def get(target: str, *more: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: x", *more, "", ""]).encode()


async def reply(reader: asyncio.StreamReader, *, head_only: bool = False) -> tuple[str, bytes]:
    """Which way an answer came, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    [length], [way] = re.findall(r"content-length: (\d+)", head), re.findall(r"x-way: ([a-z ]+)", head)
    return way, b"" if head_only else await reader.readexactly(int(length))


async def until(what: Any) -> None:
    while not what():
        await asyncio.sleep(0.01)


async def test_what_is_at_hand_is_sent_whole_however_slowly_it_is_read(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get(f"/0-{len(DATA)}"))
        await asyncio.sleep(0.2)  # More than all buffers hold.
        assert await reply(reader) == ("at once", DATA)
        await until(lambda: answerer.ends == [[True]])
    assert sum(answerer.answers[0].went) == len(DATA)
    assert len(answerer.answers[0].went) > 1


async def test_a_connection_serves_both_ways_by_turns(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        for target, way, body in (
            ("/5-10", "at once", DATA[5:15]),
            ("/app", "the whole", b"the application's, for /app"),
            ("/7-1", "at once", DATA[7:8]),
            ("/0-3000000", "at once", DATA[:3000000]),
        ):
            writer.write(get(target))
            assert await reply(reader) == (way, body)
    assert answerer.ends == [[True]] * 3


async def test_a_request_that_comes_again_for_another_range_is_not_read_again(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        for first, last in ((5, 14), (0, 0), (100, 8000000), (7, 7)):
            writer.write(get("/ranges", f"Range: bytes={first}-{last}"))
            assert await reply(reader) == ("at once", DATA[first : last + 1])
    assert answerer.ends == [[True]] * 4
    assert answerer.reads == 1


async def test_but_it_is_where_something_else_came_between(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        for target, way in (("/ranges", "at once"), ("/app", "the whole"), ("/ranges", "at once"), ("/3-3", "at once")):
            writer.write(get(target, "Range: bytes=1-5"))
            assert (await reply(reader))[0] == way
    assert answerer.reads == 4


async def test_or_where_it_comes_in_two_parts(door: Door, answerer: Answerer) -> None:
    request = get("/ranges", "Range: bytes=1-5")
    async with connected(door) as (reader, writer):
        for cut in (9, 4, len(request) - 1, len(request) - 9):
            writer.write(request[:cut])
            await asyncio.sleep(0.05)
            writer.write(request[cut:])
            assert await reply(reader) == ("at once", DATA[1:6])
    assert answerer.reads == 4


async def test_or_where_two_come_together(door: Door, answerer: Answerer) -> None:
    two = get("/ranges", "Range: bytes=1-5") + get("/ranges", "Range: bytes=10-19")
    async with connected(door) as (reader, writer):
        for _ in range(2):
            writer.write(two)
            assert await reply(reader) == ("at once", DATA[1:6])
            assert await reply(reader) == ("at once", DATA[10:20])
    assert answerer.reads == 4


async def test_what_the_application_answers_is_not_remembered_as_what_came_before(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get("/ranges", "Range: bytes=1-5"))
        assert await reply(reader) == ("at once", DATA[1:6])
        for _ in range(2):
            writer.write(get("/app", "Range: bytes=1-5"))
            assert await reply(reader) == ("the whole", b"the application's, for /app")


async def test_what_looks_like_it_in_a_body_is_a_body(door: Door, answerer: Answerer) -> None:
    request = get("/ranges", "Range: bytes=1-5")
    async with connected(door) as (reader, writer):
        writer.write(request)
        assert await reply(reader) == ("at once", DATA[1:6])
        writer.write(f"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        writer.write(request)
        assert (await reply(reader))[0] == "the whole"
        writer.write(request)
        assert await reply(reader) == ("at once", DATA[1:6])
    assert len(answerer.answers) == 2


async def test_what_came_behind_a_body_is_not_remembered_with_the_bodys_end(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(b"POST /app HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        assert (await reply(reader))[0] == "the whole"
        writer.write(b"cd" + get("/ranges", "Range: bytes=1-5"))
        assert await reply(reader) == ("at once", DATA[1:6])
        writer.write(b"cd" + get("/ranges", "Range: bytes=1-5"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")


async def test_what_comes_again_within_an_answer_waits_for_its_end(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        for _ in range(3):
            writer.write(get("/ranges", f"Range: bytes=0-{len(DATA) - 1}"))
            await asyncio.sleep(0.2)  # More than all buffers hold: it is still being sent.
        assert await reply(reader) == ("at once", DATA)
        for _ in range(2):
            assert await reply(reader) == ("the whole", b"the application's, for /ranges")


async def test_one_that_is_known_is_the_last_answer_where_the_door_closes_meanwhile(answerer: Answerer) -> None:
    listener = bind("door", Address("127.0.0.1", 0))
    async with (
        open_door("door", listener, app, answerer=answerer, drain_seconds=SECONDS_MAX) as door,
        connected(door) as (reader, writer),
    ):
        writer.write(get("/ranges", "Range: bytes=1-5"))
        assert await reply(reader) == ("at once", DATA[1:6])
        writer.write(get("/ranges", f"Range: bytes=0-{len(DATA) - 1}"))
        await asyncio.sleep(0.2)
        door.close()
        await asyncio.sleep(0.2)
        assert await reply(reader) == ("at once", DATA)
        assert await reader.read() == b"", "and hangs up then"
    assert answerer.reads == 1


async def test_no_long_request_is_kept(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        for _ in range(2):
            writer.write(get("/ranges", "Range: bytes=1-5", "X: " + "x" * repeated.BYTES_MAX))
            assert await reply(reader) == ("at once", DATA[1:6])
    assert answerer.reads == 2


async def test_a_connection_is_not_idle_while_such_an_answer_is_sent(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "KEEP_ALIVE_SECONDS", 1)
    async with (
        open_door("door", bind("door", Address("127.0.0.1", 0)), app, answerer=answerer, drain_seconds=1) as door,
        connected(door) as (reader, writer),
    ):
        writer.write(get("/ranges", "Range: bytes=1-5"))
        assert await reply(reader) == ("at once", DATA[1:6])
        await asyncio.sleep(0.5)
        writer.write(get("/ranges", f"Range: bytes=0-{len(DATA) - 1}"))
        await asyncio.sleep(1.5)
        assert await reply(reader) == ("at once", DATA)


@pytest.mark.parametrize(
    "targets",
    [
        ["/0-9000000", "/app", "/5-5", "/other"],
        ["/slow", "/5-5", "/0-9000000", "/app"],
        ["/1-1", "/2-2", "/3-3"],
        ["/0-9000000", "/1-9000000", "/5-5"],
    ],
)
async def test_requests_that_come_at_once_are_answered_in_their_order(
    door: Door, targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_once, "PIECE_BYTES", 64 << 10)  # So that the others get their turn in between.
    async with connected(door) as (reader, writer):
        writer.write(b"".join(map(get, targets)))
        await asyncio.sleep(0.1)
        for number, target in enumerate(targets):
            way, body = await reply(reader)
            if number == 0:
                assert way == ("the whole" if target == "/slow" else "at once")
            if way == "at once":
                offset, count = map(int, target[1:].split("-"))
                assert body == DATA[offset : offset + count]
            else:
                assert body == f"the application's, for {target}".encode()


@pytest.mark.parametrize(
    "request_",
    [
        get("/0-5", method="HEAD"),
        get("/0-5", method="POST"),
        get("/0-5", version="1.0"),
        get("/0-5", "Connection: close"),
        get("/0-5", "Connection: upgrade", "Upgrade: h2c"),
    ],
)
async def test_whatever_is_no_plain_request_is_the_applications(
    door: Door, answerer: Answerer, request_: bytes
) -> None:
    async with connected(door) as (reader, writer):
        writer.write(request_)
        assert (await reply(reader, head_only=True))[0] == "the whole"
    assert not answerer.answers


async def test_a_client_that_leaves_ends_it(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get(f"/0-{len(DATA)}"))
        await reader.readexactly(1000)
    async with asyncio.timeout(SECONDS_MAX):
        await until(lambda: answerer.ends == [[False]])


async def test_a_client_that_takes_no_byte_is_cut_off(
    door: Door, answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_once, "STALLED_SECONDS", 0.2)
    async with connected(door) as (reader, writer):
        writer.write(get(f"/0-{len(DATA)}"))
        await until(lambda: answerer.ends == [[False]])
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reply(reader)


async def test_a_file_that_is_too_short_breaks_the_answer_off(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get(f"/10-{len(DATA)}"))
        with pytest.raises(asyncio.IncompleteReadError):
            await reply(reader)
    assert answerer.ends == [[False]]


async def test_what_is_being_sent_is_sent_to_its_end_when_the_door_closes(answerer: Answerer) -> None:
    listener = bind("door", Address("127.0.0.1", 0))
    async with (
        open_door("door", listener, app, answerer=answerer, drain_seconds=SECONDS_MAX) as door,
        connected(door) as (reader, writer),
    ):
        writer.write(get(f"/0-{len(DATA)}"))
        await until(lambda: answerer.answers)
        door.close()
        await asyncio.sleep(0.3)
        assert await reply(reader) == ("at once", DATA)
        assert await reader.read() == b"", "and hangs up then"
    assert answerer.ends == [[True]]


async def test_who_is_not_done_when_the_time_to_drain_is_over_is_cut_off(answerer: Answerer) -> None:
    listener = bind("door", Address("127.0.0.1", 0))
    async with connected_after(listener, answerer) as (reader, _):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reply(reader)
    assert answerer.ends == [[False]]


@contextlib.asynccontextmanager
async def connected_after(
    listener: Any, answerer: Answerer
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that reads nothing until the door is closed."""
    async with contextlib.AsyncExitStack() as stack:
        async with open_door("door", listener, app, answerer=answerer, drain_seconds=1) as door:
            reader, writer = await stack.enter_async_context(connected(door))
            writer.write(get(f"/0-{len(DATA)}"))
            await until(lambda: answerer.answers)
        yield reader, writer


async def test_an_idle_connection_is_closed_and_one_whose_request_arrives_is_not(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "KEEP_ALIVE_SECONDS", 2)
    async with (
        open_door("door", bind("door", Address("127.0.0.1", 0)), app, answerer=answerer, drain_seconds=1) as door,
        connected(door) as (reader, writer),
    ):
        writer.write(get("/0-5"))
        assert await reply(reader) == ("at once", DATA[:5])
        head = get("/5-5")
        writer.write(head[:10])
        await asyncio.sleep(2.5)
        writer.write(head[10:])
        assert await reply(reader) == ("at once", DATA[5:10])
        await asyncio.sleep(1.1)
        writer.write(get("/app"))
        assert await reply(reader) == ("the whole", b"the application's, for /app")
        await asyncio.sleep(1.1)
        writer.write(get("/5-5"))
        assert await reply(reader) == ("at once", DATA[5:10])
        assert await reader.read() == b"", "hangs up at last"


@pytest.mark.parametrize("target", ["/long", "/1-9000000"])
async def test_a_request_that_began_within_an_answer_is_no_idle_connection(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(doors, "KEEP_ALIVE_SECONDS", 1)
    async with (
        open_door("door", bind("door", Address("127.0.0.1", 0)), app, answerer=answerer, drain_seconds=1) as door,
        connected(door) as (reader, writer),
    ):
        writer.write(get(f"/0-{len(DATA)}"))
        await until(lambda: answerer.answers)
        head = get(target)
        writer.write(head[:10])
        await asyncio.sleep(0.1)
        assert await reply(reader) == ("at once", DATA)
        writer.write(head[10:])
        await asyncio.sleep(1.5)
        way, body = await reply(reader)
    assert (way, len(body)) in {("the whole", len(b"the application's, for /long")), ("at once", 9000000)}


async def test_what_can_not_be_read_is_not_answered_within_another_answer(door: Door, answerer: Answerer) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get(f"/0-{len(DATA)}"))
        await until(lambda: answerer.answers)
        writer.write(b"\0 what is this\r\n\r\n")
        await asyncio.sleep(0.1)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206")
    assert len(body) < len(DATA)
    assert body == DATA[: len(body)]
    assert answerer.ends == [[False]]


async def test_nor_where_other_requests_wait(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get("/slow") + get("/app") + b"\0 what is this\r\n\r\n")
        assert b"400" not in (await reader.read())


async def test_nor_where_a_thread_may_have_begun_one(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get("/promised"))
        await asyncio.sleep(0.1)
        writer.write(b"\0 what is this\r\n\r\n")
        assert b"400" not in (await reader.read())


async def test_a_body_behind_an_answer_does_not_cut_it_off(
    door: Door, answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REQUEST_SECONDS", 1.0)
    async with connected(door) as (reader, writer):
        writer.write(get(f"/0-{len(DATA)}"))
        await until(lambda: answerer.answers)
        writer.write(b"POST /app HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(300000))
        await asyncio.sleep(2)
        assert await reply(reader) == ("at once", DATA)


async def test_whoever_asks_behind_the_last_answer_is_told_that_the_connection_ends(answerer: Answerer) -> None:
    listener = bind("door", Address("127.0.0.1", 0))
    async with (
        open_door("door", listener, app, answerer=answerer, drain_seconds=SECONDS_MAX) as door,
        connected(door) as (reader, writer),
    ):
        writer.write(get(f"/0-{len(DATA)}"))
        await until(lambda: answerer.answers)
        door.close()
        await asyncio.sleep(0.3)
        writer.write(get("/app"))
        assert await reply(reader) == ("at once", DATA)
        assert (await reader.read()).endswith(b"the application's, for /app")


async def test_what_waits_behind_an_answer_is_not_asked_for_a_client_that_has_left(
    door: Door, answerer: Answerer
) -> None:
    async with connected(door) as (reader, writer):
        writer.write(get(f"/0-{len(DATA)}") + get("/for-nobody"))
        await reader.readexactly(1000)
    async with asyncio.timeout(SECONDS_MAX):
        await until(lambda: answerer.ends == [[False]])
    await asyncio.sleep(0.1)
    assert "/for-nobody" not in asked


async def test_an_answerer_that_fails_leaves_it_to_the_application(
    door: Door, answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(answerer, "answer", fails)
    async with connected(door) as (reader, writer):
        writer.write(get("/0-5"))
        assert await reply(reader) == ("the whole", b"the application's, for /0-5")
