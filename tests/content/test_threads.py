"""Where threads stand beside the event loop."""

import asyncio
import os

from app.content.threads import NICENESS, Threads


async def test_those_that_fetch_from_upstream_stand_back_for_the_loop() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)  # Of this thread.

    before = niceness()
    async with Threads() as threads:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(threads.upstream, niceness) == min(before + NICENESS, 19)
        assert await loop.run_in_executor(threads.peers, niceness) == before
        assert await threads.disk(niceness) == before
    assert niceness() == before
