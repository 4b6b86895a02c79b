"""Tasks with an owner, for use inside a context manager of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class OwnedTasks:
    """Starts tasks that end with the block of `owned_tasks`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task; an exception that leaves it ends the block."""
        task = self._group.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel(self) -> None:
        """Cancel all that still run; the block waits for them."""
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def owned_tasks() -> AsyncIterator[OwnedTasks]:
    """A group of tasks, like a TaskGroup, but they are cancelled when the block ends, and what the block raises stays as it was.

    A TaskGroup wraps the block's own exception in a group, and waits for tasks that go on for ever: right for work
    that is split up, wrong for background tasks of a part that others use as a context manager.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = OwnedTasks(group)
            try:
                yield tasks
            finally:
                tasks.cancel()
    except BaseExceptionGroup as failures:
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from failures.__cause__
        raise
