"""Other members, as those that hold chunks and know names. The I/O of the swarm; whom to ask is `asking` and `ranking`.

A chunk counts only when it hashes to what the member said that it does.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
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
from app.swarm.peer_client import Declined, PeerClient
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
        began = time.perf_counter()
        member = offer.member
        with self._judging(member, offer.content):
            try:
                chunks = await asyncio.get_running_loop().run_in_executor(
                    self._executor,
                    self._client.get_chunk,
                    member,
                    offer.key,
                    offer.chunk,
                    span,
                    sink,
                    offer.lease_without,
                )
            except Declined as declined:
                offer.answer, offer.alternates = declined.answer, declined.alternates
                if declined.chunks is not None:
                    self.knowledge.learn(offer.content, member.name, declined.chunks)
                raise
            except SourceError:
                self.knowledge.forget(offer.content, member.name)
                raise
        took = time.perf_counter() - began
        if offer.lease_without is None:  # A home may have had to wait for upstream.
            self.conduct.sent(member, len(offer.chunk), took)
        if chunks is not None:
            self.knowledge.learn(offer.content, member.name, chunks)
        if member.zone != self.gossip.me.zone:
            self._metrics.cross_zone_bytes.labels("received").inc(len(offer.chunk))

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
            if declined.answer is Answer.LACKS and declined.chunks is None:  # Else its bit field says what it has.
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
    """One member that may have one chunk, or the chunk's home, asked for leave: then `lease_without` says who failed.

    After a failed `fetch`, `answer` and `alternates` tell what it said.
    """

    peers: Peers
    member: Member
    key: ContentKey
    content: str
    chunk: ByteRange
    lease_without: frozenset[str] | None = None
    delay: float = 0.0
    answer: Answer = Answer.FAILED
    alternates: Sequence[str] = field(default=())

    @property
    def kind(self) -> SourceKind:
        """Bytes of a peer."""
        return SourceKind.PEER

    @property
    def name(self) -> str:
        """The member's."""
        return self.member.name

    @property
    def trusted(self) -> bool:
        """Only once the chunk's checksum is right."""
        return False

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        """See `Offer.fetch`."""
        await self.peers.fetch(self, span, sink)
