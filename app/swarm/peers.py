"""Other members, as those that hold chunks and know names. The I/O of the swarm; whom to ask is `asking` and `ranking`.

A chunk counts only when it hashes to what the member said that it does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from app.content import advertised
from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.names import Name, Resolution
from app.content.source import Sink, SourceKind, Stat
from app.errors import SourceError, SourceLied
from app.observability.metrics import Metrics
from app.swarm import protocol
from app.swarm.asking import Answer
from app.swarm.knowledge import Knowledge
from app.swarm.peer_client import Declined, PeerClient, Told
from app.swarm.race import ChunkRequest, Lane, Race
from app.swarm.ranking import Conduct
from peerd_gossip import Member, MemberState, key_hash

log = logging.getLogger(__name__)

ASKED_MAX = 4
"""How many members are asked for one document before upstream is."""


class Members(Protocol):
    """What is needed of gossip. All of it memory."""

    @property
    def me(self) -> Member:
        """This node."""

    def holders(self, key: int) -> list[Member]:
        """Other live members that may hold a key."""

    def members(self) -> list[tuple[Member, MemberState]]:
        """Everybody, this node first."""

    def member(self, name: str) -> Member | None:
        """The member of that name."""


class Peers:
    """Requests to other members, and what is learnt from their answers."""

    def __init__(
        self,
        gossip: Members,
        client: PeerClient,
        conduct: Conduct,
        knowledge: Knowledge,
        *,
        executor: Executor,
        metrics: Metrics,
    ) -> None:
        self.gossip = gossip
        self.conduct = conduct
        self.knowledge = knowledge
        self._client = client
        self._executor = executor
        self._metrics = metrics

    async def fetch(self, offer: "PeerOffer", span: ByteRange, sink: Sink) -> None:
        """See `Offer.fetch`."""
        if offer.delay:
            await asyncio.sleep(offer.delay)
        await Race(self, offer, span, sink).run()

    async def ask(self, request: ChunkRequest, span: ByteRange, lane: Lane) -> None:
        """Have one member send a chunk into `lane`, and learn from how it answers. Raises Declined, SourceError."""
        member, content = request.member, request.content
        with self._judging(member, content):
            try:
                told = await asyncio.get_running_loop().run_in_executor(
                    self._executor, self._get_chunk, request, span, lane
                )
            except Declined as declined:
                self._learn(request, declined.told)
                raise
            except SourceError:
                self.knowledge.forget(content, member.name)
                raise
            finally:
                if member.zone != self.gossip.me.zone:
                    self._metrics.cross_zone_bytes.labels("received").inc(lane.received)
        if request.lease_without is None:  # A home may have had to wait for others.
            self.conduct.sent(member, len(request.chunk), time.perf_counter() - lane.began)
        self._learn(request, told)

    def _learn(self, request: ChunkRequest, told: Told) -> None:
        if told.chunks is not None:
            self.knowledge.learn(request.content, request.member.name, told.chunks)
        if told.uploads is not None:
            self.conduct.has_to_do(request.member, told.uploads)

    def _get_chunk(self, request: ChunkRequest, span: ByteRange, lane: Lane) -> Told:
        """In a thread, when there is one: that it had to wait for one is no member's fault."""
        lane.begin()
        return self._client.get_chunk(request.member, request.key, request.chunk, span, lane, request.lease_without)

    def usual_seconds(self, size: int) -> float | None:
        """How long members usually take for so many bytes."""
        return self.conduct.usual_seconds(size)

    def lags(self, request: ChunkRequest, size: int, seconds: float) -> None:
        """The member has sent no more than `size` bytes in so many seconds."""
        self.conduct.lags(request.member, size, seconds)

    def lied(self, request: ChunkRequest) -> None:
        """What the member sent is not what it said, or not what the chunk must be."""
        self.conduct.lied(request.member)
        self.knowledge.forget(request.content, request.member.name)

    def stalled(self, request: ChunkRequest) -> None:
        """The member sends nothing, and is left alone for a while."""
        self.conduct.failed(request.member)
        self.knowledge.forget(request.content, request.member.name)

    def hedged(self) -> None:
        """Another member is asked beside one that is slow."""
        self._metrics.hedged.inc()

    async def find(self, keys: Sequence[ContentKey]) -> Stat | None:
        """What a member knows of a content that it holds under one of `keys`. See `Catalogue.find`."""
        for key in keys:
            # Whoever has any of a content knows its size; most of those who read it have read its beginning.
            texts = (advertised.whole(key), advertised.stretch(key, 0))
            document = await self._ask(texts, protocol.stat_path(key))
            if document is not None:
                try:
                    return protocol.read_stat(document)
                except ValueError as error:
                    log.warning("a member's word on %s can not be read: %s", key, error)
        return None

    async def resolve(self, name: Name) -> Resolution | None:
        """What a member remembers of a name. See `Catalogue.resolve`."""
        document = await self._ask([advertised.name(name.identity)], protocol.name_path(name))
        try:
            return None if document is None else Resolution.from_json(document.decode())
        except ValueError as error:
            log.warning("a member's word on a name can not be read: %s", error)
            return None

    async def _ask(self, texts: Sequence[str], path: str) -> bytes | None:
        holders = {member.name: member for text in texts for member in self.gossip.holders(key_hash(text))}
        for member in self.conduct.order(holders.values(), path, zone=self.gossip.me.zone)[:ASKED_MAX]:
            try:
                with self._judging(member, path):
                    return await asyncio.get_running_loop().run_in_executor(
                        self._executor, self._client.get_document, member, path
                    )
            except SourceError as error:
                log.debug("%s: %s", member.name, error)
        return None

    @contextmanager
    def _judging(self, member: Member, what: str) -> Iterator[None]:
        """Remember how a member answered."""
        self.conduct.begin(member)
        try:
            yield
            self.conduct.served(member)
        except Declined as declined:
            self.conduct.served(member)
            if declined.answer is Answer.LACKS and declined.told.chunks is None:  # Else its bit field says what it has.
                self.conduct.denied(member, what)
                self._metrics.false_positives.inc()
            raise
        except SourceLied:
            self.conduct.lied(member)
            raise
        except SourceError:
            self.conduct.failed(member)
            raise
        finally:
            self.conduct.end(member)


@dataclass(slots=True)
class PeerOffer:
    """One member that may have one chunk, or the chunk's home, asked for leave.

    `another` names a member that may be asked beside this one. After a failed `fetch`, `answer`, `alternates` and `received` tell what
    it said; `arrived` tells that it sent all.
    """

    peers: Peers
    request: ChunkRequest
    another: Callable[[], ChunkRequest | None]
    delay: float = 0.0
    answer: Answer = Answer.FAILED
    alternates: Sequence[str] = field(default=())
    received: int = 0
    arrived: bool = False

    @property
    def kind(self) -> SourceKind:
        """Bytes of a peer."""
        return SourceKind.PEER

    @property
    def name(self) -> str:
        """The member's."""
        return self.request.member.name

    @property
    def trusted(self) -> bool:
        """Only once the chunk's checksum is right."""
        return False

    def beside(self) -> ChunkRequest | None:
        """See `race.Offering`."""
        return self.another()

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        """See `Offer.fetch`."""
        try:
            await self.peers.fetch(self, span, sink)
        except Declined as declined:
            self.answer, self.alternates, self.received = declined.answer, declined.alternates, declined.told.received
            raise
        self.arrived = True
