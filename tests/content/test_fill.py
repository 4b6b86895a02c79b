"""What readers of a chunk see of it while a thread brings it."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.content.entry import Entry
from app.content.fill import NOTIFY_BYTES, Fill, FillSink
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.source import SourceKind, Want

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
