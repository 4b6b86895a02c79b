"""Waiting until one more chunk may be asked of upstream; what a client waits for goes first. Whether it may is `window`'s to say."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.content.source import Want
from app.swarm.window import Window


@dataclass(slots=True, eq=False)
class _Waiting:
    want: Want
    others: Callable[[], int]
    called: "asyncio.Future[None]"


class Turns:
    """Those of one upstream."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._window = Window()
        self._waiting: list[_Waiting] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._window.is_idle

    @asynccontextmanager
    async def turn(self, want: Want, others: Callable[[], int]) -> AsyncIterator[None]:
        """One chunk is fetched within this block, which is left with an error where it did not come.

        `others` tells how many other members are known to fetch the same content.
        """
        if want.awaited or (not self._waiting and self._window.has_room(others())):
            self._window.begin(self._clock())
        else:
            await self._wait(_Waiting(want, others, asyncio.get_running_loop().create_future()))
        came = False
        try:
            yield
            came = True
        finally:
            self._end(came=came)

    async def _wait(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        try:
            await waiting.called
        except asyncio.CancelledError:
            if not waiting.called.cancelled():  # Its turn had come.
                self._end(came=False)
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def _end(self, *, came: bool) -> None:
        self._window.end(self._clock(), came=came)
        while self._waiting:
            chosen = next((one for one in self._waiting if one.want.awaited), self._waiting[0])
            if not chosen.want.awaited and not self._window.has_room(chosen.others()):
                return
            self._waiting.remove(chosen)
            if chosen.called.cancelled():  # It does not wait any more, and has not been told yet.
                continue
            self._window.begin(self._clock())
            chosen.called.set_result(None)
