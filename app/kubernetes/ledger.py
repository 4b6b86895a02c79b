"""What the API server has been told, and what it has still to be told. Pure.

One event object a reason and life. What recurs changes its count, its last time and its message; nothing is created twice, and what
could not be told waits here, merged, so that five entries are all that ever waits.

Nothing is doubled either, though an attempt that broke off may have been carried out: the name of an event is chosen before the
first attempt and kept, so that a second creation is refused as a conflict, and a patch says what the count *is*. A patch names the
version that it changes, where that is known; so one that was held up on its way can not undo a later one.

The rate is a bucket of WRITES_BURST that gets a write back each WRITE_SECONDS, after the spam filter of client-go's recorder, which
drops what this one merges (k8s.io/client-go/tools/record, events_cache.go). Attempts that fail wait by themselves: twice as long each
time, or as long as the server says.
"""

import random
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from app.kubernetes.lifecycle import Occurrence, Reason

WRITES_BURST = 10
WRITE_SECONDS = 60.0
"""A node whose connection comes and goes all the time writes so often, which a thousand nodes may do at once."""

BACKOFF_SECONDS_FIRST = 0.5
BACKOFF_SECONDS_MAX = 30.0
BACKOFF_SECONDS_CLOSING = 0.2
RETRY_AFTER_SECONDS_MAX = 300.0
REFUSED_SECONDS = 300.0
"""Rights may be granted later, and a token may be."""


@dataclass(frozen=True, slots=True)
class Post:
    """One attempt: what the server is to know. `exists`: it is to be patched, at `version` where that is known."""

    name: str
    occurrence: Occurrence
    count: int
    first: datetime
    last: datetime
    exists: bool = False
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Carried out; the event has this version."""

    version: str | None


@dataclass(frozen=True, slots=True)
class Exists:
    """An event of this name is there already: an earlier attempt was carried out."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The event has another version than the patch named."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The event that was to be patched is not there any more; the server keeps events for an hour."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Rights are missing (403), or the namespace (404)."""

    why: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """The server will never take this."""

    why: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Not now: unreachable, too slow, overloaded. It may have been carried out. `after`: seconds that the server asked for."""

    why: str
    after: float | None = None


Answer = Told | Exists | Changed | Gone | Refused | Invalid | Unavailable


class Ledger:
    """Events of one life. `now` is monotonic, in seconds; `wall` is what clocks on walls show."""

    def __init__(self, *, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._posts: dict[Reason, Post] = {}
        self._untold: dict[Reason, None] = {}  # in the order of what happened last
        self._full_at = now  # when the bucket is full again (as the "theoretical arrival time" of ITU-T I.371's GCRA)
        self._wait_until = now
        self._failures = 0
        self._closing = False

    def __repr__(self) -> str:
        return f"Ledger(untold={[str(reason) for reason in self._untold]}, failures={self._failures})"

    @property
    def untold(self) -> frozenset[Reason]:
        """Reasons of which the server does not know the latest."""
        return frozenset(self._untold)

    def happened(self, occurrence: Occurrence, *, wall: datetime) -> None:
        """Something is to be told."""
        post = self._posts.get(occurrence.reason)
        if post is None:
            name = f"{self._rng.getrandbits(64):016x}"
            post = Post(name, occurrence, 1, wall, wall)
        else:
            # Clocks on walls may be set back; an event does not end before it began.
            post = replace(post, occurrence=occurrence, count=post.count + 1, last=max(wall, post.first))
        self._posts[occurrence.reason] = post
        self._untold.pop(occurrence.reason, None)
        self._untold[occurrence.reason] = None

    def close(self, *, now: float) -> None:
        """The life is about to end: the rest is told at once, whatever the rate."""
        self._closing = True
        if self._failures:
            self._wait_until = min(self._wait_until, now)

    def next_post(self, *, now: float) -> Post | None:
        """The next attempt, which `answered` has to follow before the next."""
        due = self.next_deadline()
        if due is None or now < due:
            return None
        return self._posts[next(iter(self._untold))]

    def next_deadline(self) -> float | None:
        """When `next_post` has something, if nothing happens until then; None: it will not."""
        if not self._untold:
            return None
        if self._closing:
            return self._wait_until
        return max(self._wait_until, self._full_at - (WRITES_BURST - 1) * WRITE_SECONDS)

    def answered(self, post: Post, answer: Answer, *, now: float) -> None:
        """What came of an attempt."""
        reason = post.occurrence.reason
        match answer:
            case Told(version):
                self._change(reason, exists=True, version=version)
                self._settled(post)
                self._full_at = max(self._full_at, now) + WRITE_SECONDS
                self._failures = 0
                self._wait_until = now
            case Exists() | Changed() | Gone():
                self._change(reason, exists=not isinstance(answer, Gone), version=None)
                self._fail(now + self._backoff(None))
            case Refused():
                self._fail(now + REFUSED_SECONDS * self._rng.uniform(0.5, 1.0))
            case Invalid():
                self._settled(post)
            case Unavailable(_, after):
                # If it was carried out all the same, the next attempt finds that out by a conflict.
                self._fail(now + self._backoff(after))
            case _:
                assert_never(answer)

    def _change(self, reason: Reason, *, exists: bool, version: str | None) -> None:
        self._posts[reason] = replace(self._posts[reason], exists=exists, version=version)

    def _settled(self, post: Post) -> None:
        """The server knows this much, unless more has happened since."""
        if self._posts[post.occurrence.reason].count == post.count:
            self._untold.pop(post.occurrence.reason, None)

    def _fail(self, wait_until: float) -> None:
        self._failures += 1
        self._wait_until = wait_until

    def _backoff(self, after: float | None) -> float:
        if self._closing:
            return BACKOFF_SECONDS_CLOSING
        doubled = BACKOFF_SECONDS_FIRST * 2.0 ** min(self._failures, 10)
        own = min(doubled, BACKOFF_SECONDS_MAX) * self._rng.uniform(0.5, 1.0)
        return max(own, min(after or 0.0, RETRY_AFTER_SECONDS_MAX))
