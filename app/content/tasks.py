"""The owner of work in the background.

Not asyncio's TaskGroup, because there a child that fails takes all others and the node with it; here a fetch that meets a defect
is logged and the node serves on. What both have in common: no task outlives its owner.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Self

log = logging.getLogger(__name__)


class Tasks:
    """Tasks that end with the `async with` that they were made in."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def create_task(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Begin `work`; its end is nobody's business but that it is logged when it fails."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
