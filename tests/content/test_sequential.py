"""One pass through a content whose upstream knows no ranges."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.sequential import SequentialRun

CHUNK = 100


async def test_a_pass_that_was_wanted_a_moment_ago_is_not_idle_though_its_thread_sleeps_still() -> None:
    """Idle ones are stopped where a chunk behind them is wanted: whoever waits for this one would be told that it can not be had."""
    entry = Entry(Meta(key=ContentKey("url:" + 64 * "a"), size=10 * CHUNK, chunk_size=CHUNK), None)
    run = SequentialRun(
        entry,
        cast("Any", SimpleNamespace()),
        ahead=2,
        claim=lambda _run, _index: None,
        land=lambda _fill, _sink: None,
        received=lambda *_: None,
    )
    writing = asyncio.create_task(asyncio.to_thread(run.write, bytes(10 * CHUNK)))
    async with asyncio.timeout(30):
        while not run.idle:
            await asyncio.sleep(0.001)
        assert run.next_chunk == 2
        assert run.want(5)
        assert not run.idle
        while not run.idle:
            await asyncio.sleep(0.001)
        assert run.next_chunk == 7
        assert not run.want(3)
        assert run.want(9)
        await writing
    assert not run.idle
