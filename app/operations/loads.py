"""How loaded the members are: asked of each, but only as long as somebody looks.

A thousand nodes that told each other such numbers all the time would talk of nothing else, so they are no part of gossip.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.content.cache import ChunkCache
from app.content.source import SourceKind
from app.content.tasks import Tasks
from app.errors import SourceError
from app.observability.copies import CONTENTS_TOLD, Copies, Received, together
from app.observability.metrics import Metrics
from app.operations.documents import Load
from app.operations.others import Others

log = logging.getLogger(__name__)

ASK_SECONDS = 2.0
QUESTIONS_A_SECOND = 50
"""To all members together; of more than a hundred each is asked less often."""


def load_of(cache: ChunkCache, metrics: Metrics) -> Load:
    """This node's own."""
    served = {kind: int(counter._value.get()) for kind, counter in metrics.served.items()}  # noqa: SLF001 -- no public way
    received = {kind: int(counter._value.get()) for kind, counter in metrics.received.items()}  # noqa: SLF001
    return Load(
        cache_used=cache.used_bytes,
        cache_quota=cache.quota,
        served_cache=served[SourceKind.CACHE],
        served_containerd=served[SourceKind.CONTAINERD],
        served_peer=served[SourceKind.PEER],
        served_upstream=served[SourceKind.UPSTREAM],
        received_peer=received[SourceKind.PEER],
        received_upstream=received[SourceKind.UPSTREAM],
        uploaded=int(metrics.uploaded._value.get()),  # noqa: SLF001
    )


def told_load_of(cache: ChunkCache, metrics: Metrics, copies: Copies) -> Load:
    """This node's own, as other members are told: with what upstream lately sent it."""
    return replace(load_of(cache, metrics), from_upstream=tuple(copies.newest_first()[:CONTENTS_TOLD]))


class Loads:
    """What other members last said."""

    def __init__(self, others: Others, *, tasks: Tasks) -> None:
        self._others = others
        self._tasks = tasks
        self._watchers = 0
        self._asking = False
        self._known: dict[str, Load] = {}
        self._from_upstream: list[Received] = []
        self._answered = 0

    def of(self, name: str) -> Load | None:
        """What a member said when it was last asked; None where it did not answer, or nobody asked."""
        return self._known.get(name)

    @property
    def from_upstream(self) -> list[Received]:
        """What upstream had sent to those others together who answered, when all had been asked."""
        return self._from_upstream

    @property
    def answered(self) -> int:
        """How many others that is of."""
        return self._answered

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody looks within this block."""
        self._watchers += 1
        if not self._asking:
            self._asking = True
            self._tasks.create_task(self._ask_on(), name="ask for loads")
        try:
            yield
        finally:
            self._watchers -= 1

    async def _ask_on(self) -> None:
        try:
            while self._watchers:
                names = [other.name for other in self._others.live()]
                self._known = {name: load for name, load in self._known.items() if name in names}
                async with asyncio.TaskGroup() as tasks:
                    for name in names:
                        tasks.create_task(self._ask(name))
                # Once a round, not at each look, and beside the loop: of a thousand members it takes a while.
                told = [one for load in self._known.values() for one in load.from_upstream]
                self._from_upstream, self._answered = await asyncio.to_thread(together, told), len(self._known)
                await asyncio.sleep(max(ASK_SECONDS, len(names) / QUESTIONS_A_SECOND))
        finally:
            self._asking = False
            self._known, self._from_upstream, self._answered = {}, [], 0

    async def _ask(self, name: str) -> None:
        try:
            self._known[name] = await self._others.load(name)
        except SourceError as error:
            log.debug("%s does not say how loaded it is: %s", name, error)
            self._known.pop(name, None)
