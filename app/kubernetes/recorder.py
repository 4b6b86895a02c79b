"""A thread that tells the API server what the ledger has to tell. Nothing waits for it, but for a moment at the end.

A thread of its own, that the interpreter does not wait for: neither a slow server nor a silent one keeps the node from ending.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from app.kubernetes.ledger import Answer, Invalid, Ledger, Post, Refused, Unavailable
from app.kubernetes.lifecycle import Occurrence

log = logging.getLogger(__name__)

CLOSING_SECONDS = 2.0
"""How long the end of a node waits for its last events to be told."""


class Recorder:
    """Owns the thread, from its start to `close`. `send` is called in it."""

    def __init__(
        self, ledger: Ledger, send: Callable[[Post], Answer], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._send = send
        self._clock = clock
        self._changed = threading.Condition()
        self._end_by: float | None = None
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="kubernetes", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def happened(self, occurrence: Occurrence) -> None:
        """Something is to be told. Memory only."""
        with self._changed:
            self._ledger.happened(occurrence, wall=datetime.now(UTC))
            self._changed.notify()

    def close(self) -> None:
        """Tell what is left, for CLOSING_SECONDS at most. Blocks."""
        with self._changed:
            now = self._clock()
            self._end_by = now + CLOSING_SECONDS
            self._ledger.close(now=now)
            self._changed.notify()
        self._thread.join(CLOSING_SECONDS)
        with self._changed:
            if untold := sorted(self._ledger.untold):
                log.warning("Kubernetes was not told of %s: %s", ", ".join(untold), self._said or "no answer in time")

    def _run(self) -> None:
        while (post := self._next()) is not None:
            answer = self._send(post)
            with self._changed:
                self._ledger.answered(post, answer, now=self._clock())
            self._tell(post, answer)

    def _next(self) -> Post | None:
        """Wait for something to tell; None: this is the end."""
        with self._changed:
            while True:
                now = self._clock()
                if (post := self._ledger.next_post(now=now)) is not None:
                    return post
                due = self._ledger.next_deadline()
                if self._end_by is not None and (due is None or due >= self._end_by):
                    return None
                self._changed.wait(None if due is None else due - now)

    def _tell(self, post: Post, answer: Answer) -> None:
        """Log a trouble once, and its end."""
        match answer:
            case Refused(why):
                said = f"{why}; it is tried again every few minutes"
            case Invalid(why):
                said = f"{why}; it is given up"
            case Unavailable(why, _):
                said = f"{why}; it is tried again"
            case _:
                said = ""
        if said and not self._said:
            log.warning("Kubernetes does not take the event %s: %s", post.occurrence.reason, said)
        elif self._said and not said:
            log.info("Kubernetes takes events again")
        self._said = said
