"""An event loop whose clock jumps: what sleeps for an hour sleeps for no time, and nothing depends on how busy the machine is.

For code that neither opens a socket nor starts a thread: those take real time, which this clock does not show.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing; what it would have waited has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is under way and nobody sleeps: it would wait for ever"
        self.now += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_virtual_time(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """The test runs in a loop of its own, whose `time()` starts at 0 and is the test's clock."""

    @functools.wraps(test)
    def run(*args, **kwargs) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test(*args, **kwargs))

    return run
