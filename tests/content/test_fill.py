"""What readers of a chunk see of it while a thread brings it."""

import asyncio
import hashlib
import random
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.content.descriptor import Slice
from app.content.entry import Entry
from app.content.fill import NOTIFY_BYTES, NOTIFY_SECONDS, Fill, FillSink
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.source import SourceKind, Want
from app.errors import SourceUnavailable

SIZE = 8 * NOTIFY_BYTES + 1000
DATA = random.Random(1).randbytes(SIZE)


@pytest.fixture
async def fill() -> Fill:
    meta = Meta(key=ContentKey("url:" + 64 * "a"), size=SIZE, chunk_size=SIZE)
    return Fill(Entry(meta, None), 0, Want(awaited=True), location=None, loop=asyncio.get_running_loop())


def opened(fill: Fill, kind: SourceKind = SourceKind.UPSTREAM) -> FillSink:
    return fill.sink(cast("Any", SimpleNamespace(kind=kind, trusted=kind is SourceKind.UPSTREAM)))


async def read(fill: Fill) -> bytes:
    """As a client that takes what there is, each time that there is more."""
    got = b""
    while len(got) < SIZE:
        await fill.wait_beyond(len(got))
        got += fill.slice(len(got), fill.released).read()
    return got


async def test_every_reader_follows_a_thread_to_the_end_though_others_leave(fill: Fill) -> None:
    sink = opened(fill)

    def bring() -> None:
        rng, position = random.Random(2), 0
        while position < SIZE:
            step = rng.randrange(1, NOTIFY_BYTES)
            sink.write(DATA[position : position + step])
            position += step

    readers = [asyncio.create_task(read(fill)) for _ in range(20)]
    await asyncio.sleep(0)
    for leaver in readers[::3]:
        leaver.cancel()
    async with asyncio.timeout(30):
        await asyncio.to_thread(bring)
        for number, reader in enumerate(readers):
            if number % 3:
                assert await reader == DATA
    assert fill.waiting == 0


async def test_what_is_released_before_the_loop_has_looked_is_told_of_once_and_all_of_it_is_seen(fill: Fill) -> None:
    sink, told = opened(fill), 0
    loop = asyncio.get_running_loop()

    def counting(*_: object) -> None:
        nonlocal told
        told += 1
        loop.call_soon(fill._notify)

    fill._loop = cast("Any", SimpleNamespace(call_soon_threadsafe=counting, create_future=loop.create_future))
    reader = asyncio.create_task(fill.wait_beyond(0))
    await asyncio.sleep(0)
    sink.write(DATA[:NOTIFY_BYTES])
    sink.write(DATA[NOTIFY_BYTES : 2 * NOTIFY_BYTES])
    assert told == 1
    await reader
    assert fill.released == 2 * NOTIFY_BYTES
    follower = asyncio.create_task(fill.wait_beyond(fill.released))
    await asyncio.sleep(0)
    sink.write(DATA[2 * NOTIFY_BYTES : 3 * NOTIFY_BYTES])
    assert told == 2
    await follower


async def test_what_a_member_sends_is_seen_when_the_chunk_is_right(fill: Fill) -> None:
    sink = opened(fill, SourceKind.PEER)
    reader = asyncio.create_task(read(fill))
    await asyncio.to_thread(sink.write, DATA)
    await asyncio.sleep(0)
    assert not reader.done()
    assert fill.released == 0
    fill.finish()
    assert await reader == DATA


class Client:
    """An outlet that takes what a seed says, and counts who sends to it."""

    def __init__(self, seed: int | None = None) -> None:
        self.got = bytearray()
        self.by_loop = self.by_thread = 0
        self.has_left = False
        self._loops = threading.get_ident()
        self._rng = None if seed is None else random.Random(seed)

    is_open = True

    def take(self, part: Slice) -> int:
        assert not self.has_left
        data = part.read()
        if self._rng is not None:
            data = data[: self._rng.choice((0, len(data) // 3, len(data)))]
        self.got += data
        if threading.get_ident() == self._loops:
            self.by_loop += len(data)
        else:
            self.by_thread += len(data)
        return len(data)

    def went_out(self, kind: SourceKind, count: int) -> None:
        assert kind is SourceKind.UPSTREAM
        assert threading.get_ident() == self._loops

    async def read(self, fill: Fill, start: int = 0, stop: int = SIZE) -> None:
        """As a reader of a content does."""
        position = start
        while position < stop:
            position = await fill.follow(position, stop, self)
            until = min(stop, fill.released)
            if position < until:
                self.got += fill.slice(position, until).read()
                position = until
            elif position < stop:
                assert fill.error is None


def brought(sink: FillSink, stop: int = SIZE) -> None:
    """By a thread, in pieces."""
    for position in range(0, stop, NOTIFY_BYTES):
        sink.write(DATA[position : min(position + NOTIFY_BYTES, stop)])


async def test_the_thread_that_brings_bytes_sends_them_and_wakes_the_loop_at_the_chunks_end_only(fill: Fill) -> None:
    sink, client, told = opened(fill), Client(), 0
    loop = asyncio.get_running_loop()

    def counting(*_: object) -> None:
        nonlocal told
        told += 1

    fill._loop = cast("Any", SimpleNamespace(call_soon_threadsafe=counting, create_future=loop.create_future))
    reading = asyncio.create_task(client.read(fill))
    await asyncio.sleep(0)
    await asyncio.to_thread(brought, sink)
    assert client.got == DATA
    assert client.by_thread == SIZE
    assert told == 0
    assert not reading.done()
    fill.finish()
    await reading


async def test_who_wants_a_part_of_a_chunk_does_not_wait_for_the_rest(fill: Fill) -> None:
    sink, client = opened(fill), Client()
    reading = asyncio.create_task(client.read(fill, 100, NOTIFY_BYTES + 7))
    await asyncio.sleep(0)
    await asyncio.to_thread(brought, sink, 2 * NOTIFY_BYTES)
    await reading
    assert client.got == DATA[100 : NOTIFY_BYTES + 7]


async def test_what_came_before_the_client_goes_out_at_once(fill: Fill) -> None:
    sink, client = opened(fill), Client()
    await asyncio.to_thread(brought, sink, NOTIFY_BYTES)
    reading = asyncio.create_task(client.read(fill, 0, NOTIFY_BYTES))
    await asyncio.wait_for(reading, 30)
    assert client.by_loop == NOTIFY_BYTES


async def test_the_thread_sends_to_one_client_and_others_follow(fill: Fill) -> None:
    sink, clients = opened(fill), [Client() for _ in range(5)]
    readers = [asyncio.create_task(client.read(fill)) for client in clients]
    await asyncio.sleep(0)
    await asyncio.to_thread(brought, sink)
    fill.finish()
    await asyncio.wait_for(asyncio.gather(*readers), 30)
    assert [client.got == DATA for client in clients] == 5 * [True]
    assert [client.by_thread for client in clients] == [SIZE, 0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(20))
async def test_slow_clients_get_every_byte_once_and_nobody_sends_to_one_that_has_left(fill: Fill, seed: int) -> None:
    sink, rng, clients = opened(fill), random.Random(seed), [Client(seed * 100 + number) for number in range(6)]
    readers = [asyncio.create_task(client.read(fill)) for client in clients]
    bringing = asyncio.create_task(asyncio.to_thread(brought, sink))
    for client, reader in zip(clients, readers, strict=True):
        if rng.random() < 0.4:
            await asyncio.sleep(rng.random() * 0.003)
            reader.cancel()
            await asyncio.wait([reader])
            client.has_left = True
    await bringing
    fill.finish()
    async with asyncio.timeout(30):
        await asyncio.wait(readers)
    for client, reader in zip(clients, readers, strict=True):
        if not reader.cancelled():
            await reader
            assert client.got == DATA
        else:
            assert DATA.startswith(client.got)
    assert fill.waiting == 0


async def test_a_client_whose_source_fails_learns_of_it(fill: Fill) -> None:
    sink, client = opened(fill), Client()
    following = asyncio.create_task(fill.follow(0, SIZE, client))
    await asyncio.sleep(0)
    await asyncio.to_thread(brought, sink, NOTIFY_BYTES)
    fill.fail(SourceUnavailable("gone"))
    assert await following == NOTIFY_BYTES
    assert client.got == DATA[:NOTIFY_BYTES]


async def test_what_is_not_released_is_forgotten_with_its_part_of_the_sum(fill: Fill) -> None:
    """Upstream's rest of less than a piece is released when its sink is closed; a member's is not."""
    half, more = 3 * NOTIFY_BYTES, 3 * NOTIFY_BYTES + 1234
    upstream = FillSink(fill, trusted=True, expected=[], clock=lambda: 0.0)
    upstream.write(DATA[:half])
    upstream.write(DATA[half:more])
    assert fill.released == half
    upstream.close()
    assert fill.released == fill.position == more

    member = opened(fill, SourceKind.PEER)
    member.write(b"\0" * (SIZE - more))
    assert fill.released == more
    member.close()
    assert fill.position == more

    again = opened(fill)
    again.write(DATA[more:])
    assert fill.complete(again) == hashlib.sha256(DATA).digest()


async def test_what_comes_slowly_is_shown_however_little_it_is(fill: Fill) -> None:
    now = 0.0
    sink = FillSink(fill, trusted=True, expected=[], clock=lambda: now)
    sink.write(DATA[:1000])
    assert fill.released == 0
    now += NOTIFY_SECONDS
    sink.write(DATA[1000:2000])
    assert fill.released == 2000
    sink.write(DATA[2000:3000])
    assert fill.released == 2000
    now += NOTIFY_SECONDS
    sink.write(DATA[3000:4000])
    assert fill.released == 4000
    assert fill.slice(0, 4000).read() == DATA[:4000]
