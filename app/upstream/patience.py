"""How long upstream is waited for when it is busy.

Owns: `Retry-After` (RFC 9110, section 10.2.3) and the deadline until which it is honoured. overlaybd turns a few quick
errors into an I/O error inside a running container, and containerd repeats a 429 five times at once: so a 429 or 503 is
waited out in here, and only what lasts longer is passed on.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

from app.errors import UpstreamUnavailable

_BUSY = frozenset({429, 503})
# What a proxy or a server says when it fumbled this one request; the next often succeeds.
_FUMBLED = frozenset({500, 502, 504})
# First pause where upstream does not say how long; doubled each time, with full jitter, so that a thousand nodes that were
# turned away together do not come back together (Brooker, "Exponential Backoff and Jitter", 2015).
_PAUSE_SECONDS = 0.25
# A failure that took longer than this will not get better by trying at once: a client is waiting.
_QUICK_SECONDS = 1.0


class _HasStatus(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


Answered = TypeVar("Answered", bound=_HasStatus)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, and by what clock.

    Attributes:
        deadline_seconds: for all pauses and tries of one operation together. No client should wait longer for a byte.
        quick_retries: how often a failure that came at once (refused, reset, 500) is tried again.
    """

    deadline_seconds: float = 10.0
    quick_retries: int = 2
    rng: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    def begin(self, *, quick_retries: int | None = None) -> "Waiting":
        """The deadline of one operation starts now."""
        return Waiting(self, self.quick_retries if quick_retries is None else quick_retries)

    def pause_seconds(self, attempt: int) -> float:
        """A pause at random before try number `attempt`, counted from 0; none before the first."""
        return self.rng.uniform(0, _PAUSE_SECONDS * 2**attempt) if attempt else 0.0


class Waiting:
    """One operation's share of patience; its requests are tried one after the other."""

    def __init__(self, patience: Patience, quick_retries: int) -> None:
        self._patience = patience
        self._quick_retries_left = quick_retries
        self._deadline = patience.clock() + patience.deadline_seconds
        self._pauses = 0

    async def out(self, ask: Callable[[], Awaitable[Answered]], whom: str) -> Answered:
        """The first answer of `ask` that is not "come back later".

        Raises:
            UpstreamUnavailable: `whom` is busy until after the deadline; or `ask` raised it and trying again did not help.
        """
        while True:
            started = self._patience.clock()
            try:
                answer = await ask()
            except UpstreamUnavailable:
                if not self._may_retry(started):
                    raise
            else:
                if answer.status in _BUSY:
                    await self._pause(_retry_after_seconds(answer.headers), whom, answer.status)
                    continue
                if answer.status not in _FUMBLED or not self._may_retry(started):
                    return answer
            await self._pause(None, whom, None)

    def _may_retry(self, started: float) -> bool:
        if self._quick_retries_left == 0 or self._patience.clock() - started > _QUICK_SECONDS:
            return False
        self._quick_retries_left -= 1
        return True

    async def _pause(self, wanted_seconds: float | None, whom: str, status: int | None) -> None:
        """Sleep for as long as upstream wants, or a little at random; raises UpstreamUnavailable beyond the deadline."""
        self._pauses += 1
        seconds = self._patience.pause_seconds(self._pauses) if wanted_seconds is None else wanted_seconds
        if self._patience.clock() + seconds > self._deadline:
            state = f"goes on answering {status}" if status else "can not be reached"
            raise UpstreamUnavailable(f"{whom} {state}", retry_after_seconds=max(seconds, 1.0) if status else None)
        await self._patience.sleep(seconds)


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` says, from now on; None where it says nothing that can be read."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
