"""Content onto many nodes from one upstream copy.

One node after the other is tried until one has all that can be had: it goes to upstream. Only then do the rest begin, all at
the same time; each waits until gossip has told it who has what, and takes it from there. A reference that the first nodes can
not bring is not asked for by the rest, so that a registry that refuses is not asked by a thousand nodes.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from app.content.tasks import Tasks
from app.errors import SourceError
from app.operations.bring import Bringer, Bringing, shown
from app.operations.documents import BringOrder, BringProgress
from app.operations.others import OtherNode, Others
from app.operations.shelf import Shelf
from app.operations.targets import parse_reference

log = logging.getLogger(__name__)

FIRST_MAX = 3
"""How many nodes are tried, one after the other, to be the first that has something."""

ASK_SECONDS = 0.5
"""Between two questions to a node how far it is."""

QUESTIONS_A_SECOND = 100
"""To all nodes of a preheat together."""

SILENT_MAX = 10
"""How many such questions in a row may stay without an answer before the node counts as failed."""


@dataclass(slots=True)
class NodePart:
    """A preheat on one node."""

    name: str
    progress: BringProgress = field(default_factory=BringProgress)
    here: Bringing | None = None

    @property
    def now(self) -> BringProgress:
        """How far it is."""
        return self.here.progress if self.here is not None and not self.progress.ended else self.progress

    def fail(self, reason: str) -> None:
        """It ends without its content."""
        error = f"{self.now.error}; {reason}" if self.now.error else reason
        self.progress = replace(self.now, state="failed", error=error)


@dataclass(slots=True)
class Preheat:
    """One preheat over several nodes. Times in seconds since the epoch."""

    id: str
    references: tuple[str, ...]
    nodes: Sequence[NodePart]
    started_at: float
    finished_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether no node is at work any more."""
        return self.finished_at is not None

    @property
    def shown(self) -> list[str]:
        """The references, as they may be written down."""
        return [shown(reference) for reference in self.references]


class Preheats:
    """Preheats that this node started, and orders that it got from nodes that did."""

    def __init__(
        self,
        me: OtherNode,
        bringer: Bringer,
        others: Others,
        *,
        tasks: Tasks,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._me = me
        self._bringer = bringer
        self._others = others
        self._tasks = tasks
        self._rng = rng
        self._clock = clock
        self._preheats: Shelf[Preheat] = Shelf(clock)
        self._orders: Shelf[Bringing] = Shelf(clock)

    # Of this node's clients

    def start(self, references: Sequence[str], count: int | None) -> Preheat:
        """Begin to bring `references` onto `count` nodes, this one first; None: onto all.

        Raises:
            BadRequest: one of them is neither an image reference nor a URL.
            Full: too many run.
        """
        for text in references:
            parse_reference(text)
        names = [self._me.name, *choose(self._me.zone, self._others.live(), count, self._rng)]
        nodes = [NodePart(name) for name in names]
        preheat = Preheat(secrets.token_hex(8), tuple(references), nodes, self._clock())
        self._preheats.put(preheat.id, preheat)
        self._tasks.create_task(self._drive(preheat), name=f"preheat {preheat.id}")
        return preheat

    def get(self, identity: str) -> Preheat | None:
        """One that runs, or ended lately."""
        return self._preheats.get(identity)

    async def _drive(self, preheat: Preheat) -> None:
        wanted = range(len(preheat.references))
        had: set[int] = set()
        try:
            for first in preheat.nodes[:FIRST_MAX]:
                await self._on(first, BringOrder(preheat.id, preheat.references))
                had |= first.progress.brought
                if had.issuperset(wanted):
                    break
            async with asyncio.TaskGroup() as tasks:
                for node in preheat.nodes:
                    # One of the first that could not get it from upstream may get it from a member.
                    if not node.progress.brought.issuperset(had) or not node.progress.ended:
                        tasks.create_task(self._follow(node, preheat, sorted(had)), name=f"preheat {node.name}")
        finally:
            for node in preheat.nodes:
                if not node.now.ended:
                    node.fail("the node that started the preheat was stopped")
            preheat.finished_at = self._clock()

    async def _follow(self, node: NodePart, preheat: Preheat, had: Sequence[int]) -> None:
        """Bring onto a node what another has by now."""
        if had:
            references = tuple(preheat.references[place] for place in had)
            every_seconds = max(ASK_SECONDS, len(preheat.nodes) / QUESTIONS_A_SECOND)
            await self._on(node, BringOrder(f"{preheat.id}.rest", references, from_members=True), every_seconds)
        missing = [text for place, text in enumerate(preheat.shown) if place not in had]
        if missing:
            node.fail(f"not asked for, since the first nodes could not bring it: {', '.join(missing)}")

    async def _on(self, node: NodePart, order: BringOrder, every_seconds: float = ASK_SECONDS) -> None:
        """Have one node carry an order out, this one or another; returns when that has ended."""
        node.progress = BringProgress()
        if node.name == self._me.name:
            node.here = Bringing(order)
            await self._bringer.bring(node.here)
            node.progress = node.here.progress
            return
        try:
            await self._others.bring(node.name, order)
            await self._watch(node, order, every_seconds)
        except SourceError as error:
            node.fail(str(error))

    async def _watch(self, node: NodePart, order: BringOrder, every_seconds: float) -> None:
        silent = 0
        while not node.progress.ended:
            await asyncio.sleep(every_seconds)
            try:
                node.progress = await self._others.progress(node.name, order.id)
                silent = 0
            except SourceError:
                silent += 1
                if silent >= SILENT_MAX or all(other.name != node.name for other in self._others.live()):
                    raise

    # Of other members

    def accept(self, order: BringOrder) -> None:
        """Begin what another member asks for; the same order twice is one. Raises BadRequest, Full."""
        for text in order.references:
            parse_reference(text)
        if self._orders.get(order.id) is not None:
            return
        bringing = Bringing(order)
        self._orders.put(order.id, bringing)
        self._tasks.create_task(self._bringer.bring(bringing), name=f"bring {order.id}")

    def progress(self, identity: str) -> BringProgress | None:
        """How far an order of another member is."""
        bringing = self._orders.get(identity)
        return None if bringing is None else bringing.progress


def choose(zone: str, others: Sequence[OtherNode], count: int | None, rng: random.Random) -> list[str]:
    """Names of the nodes that a preheat goes to beside the one in `zone` that starts it: in turns from all zones. Pure.

    Other zones first, so that of two nodes each is in a zone of its own.
    """
    by_zone: dict[str, list[str]] = {}
    for other in rng.sample(others, len(others)):
        by_zone.setdefault(other.zone, []).append(other.name)
    by_zone[zone] = by_zone.pop(zone, [])
    chosen: list[str] = []
    while any(by_zone.values()):
        chosen += [names.pop() for names in by_zone.values() if names]
    return chosen if count is None else chosen[: count - 1]
