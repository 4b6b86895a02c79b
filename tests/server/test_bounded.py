"""How large a request's head may be, and how long a request may take to come."""

import asyncio

import pytest

from app.server import bounded
from app.server.bounded import HEAD_BYTES_MAX
from app.server.doors import bind, open_door
from app.settings import Address

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"
SECONDS_MAX = 20


async def app(scope, receive, send):
    body = b""
    while scope["method"] == "POST":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    if scope["path"] == "/slow":
        await asyncio.sleep(bounded.REQUEST_SECONDS * 3)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (5 + len(body)))]}
    )
    await send({"type": "http.response.body", "body": b"bytes" + body})


@pytest.fixture
async def door():
    async with open_door("door", bind("door", Address("127.0.0.1", 0)), app, drain_seconds=1) as opened:
        yield opened.address


@pytest.fixture
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(bounded, "REQUEST_SECONDS", 0.3)


async def said(door, *pieces):
    """Everything that the door says to who sends these pieces and then nothing, until it hangs up or has answered once."""
    reader, writer = await asyncio.open_connection(door.host, door.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(SECONDS_MAX):
            got = b""
            while not got.endswith(b"bytes") and (piece := await reader.read(65536)):
                got += piece
            return got
    except ConnectionError:
        return b"(reset)"
    finally:
        writer.close()


def head_of(size):
    """A request whose request line and headers have so many bytes, as they are counted."""
    fixed = len("/") + len("HostxA") + 2 * len(": \r\n")
    return REQUEST + b"A: " + b"a" * (size - fixed) + b"\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 1000, 40_000], ids=["at once", "in pieces", "in two"])
async def test_the_largest_head_is_taken(door, cut):
    data = head_of(HEAD_BYTES_MAX - 200)
    pieces = [data] if cut == 1 else [data[at : at + cut] for at in range(0, len(data), cut)]
    assert (await said(door, *pieces)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head_of(HEAD_BYTES_MAX + 1), id="one header"),
        pytest.param(REQUEST + b"A: b\r\n" * 20_000 + b"\r\n", id="many headers"),
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="a long target"),
        pytest.param(REQUEST + b"A: " + b"a" * (4 << 20), id="without an end"),
    ],
)
async def test_a_head_that_is_too_large_is_431_and_the_connection_ends(door, data):
    answer = await said(door, data)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b"(reset)"
    answer = await said(door, *(data[at : at + 8000] for at in range(0, min(len(data), 160_000), 8000)))
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b"(reset)"


async def test_a_body_counts_for_no_head(door):
    body = b"b" * (1 << 20)
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection(door.host, door.port)
    for _ in range(3):
        writer.write(request + body)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(await reader.readexactly(5 + len(body))) == 5 + len(body)
    writer.close()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"GET"], id="the beginning of a request line"),
        pytest.param([REQUEST, b"A: b\r\n", b"C: d\r\n"], id="headers without an end"),
        pytest.param([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"some"], id="a body without an end"),
    ],
)
async def test_a_request_that_does_not_come_is_hung_up_on_without_a_word(door, in_a_hurry, pieces):
    assert await said(door, *pieces) == b""


async def test_a_next_request_that_does_not_come_whole_likewise(door, in_a_hurry):
    answer = await said(door, REQUEST + b"\r\n", b"GET / HT")
    assert answer.startswith(b"HTTP/1.1 200 ")
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(REQUEST + b"\r\n")
    await reader.readuntil(b"bytes")
    writer.write(b"GET / HT")
    async with asyncio.timeout(SECONDS_MAX):
        assert await reader.read() == b""
    writer.close()


async def test_an_answer_may_take_longer_than_a_request_also_where_another_was_sent_ahead(door, in_a_hurry):
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await said(door, slow)).endswith(b"bytes")
    assert (await said(door, slow + b"GET / HT")).endswith(b"bytes")
    assert (await said(door, slow + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nb")).endswith(b"bytes")


async def test_a_body_counts_for_no_head_of_the_next_request_either(door):
    """Both in one piece, which ends in the middle of the second head."""
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (HEAD_BYTES_MAX + 1)
    body = b"x" * (HEAD_BYTES_MAX + 1)
    got = await said(door, post, body + REQUEST, b"Connection: close\r\n\r\n")
    assert b" 431 " not in got
    assert got.count(b"HTTP/1.1 200") == 2
