"""Where threads stand beside the event loop."""

import asyncio
import os

from app.content.threads import NICENESS, Threads


async def test_threads_stand_back_for_the_loop() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)  # Of this thread.

    before = niceness()
    async with Threads() as threads:
        loop = asyncio.get_running_loop()
        theirs = [
            await threads.disk(niceness),
            await loop.run_in_executor(threads.upstream, niceness),
            await loop.run_in_executor(threads.peers, niceness),
        ]
    assert theirs == 3 * [min(before + NICENESS, 19)]
    assert niceness() == before
