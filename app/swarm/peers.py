"""Other members as a source of chunks, and as a catalogue of what is held in the cluster.

Finding is memory only: the index of `peerd_gossip` names who may hold a key. A chunk counts only when it hashes to what the
member said that it does.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from app.content import advertised
from app.content.byte_range import ByteRange, chunk_range
from app.content.key import ContentKey
from app.content.names import Name, Resolution
from app.content.source import Content, Offer, Sink, SourceKind, Stat
from app.errors import SourceError, SourceLied
from app.observability.metrics import Metrics
from app.swarm import protocol
from app.swarm.peer_client import Busy, Denied, PeerClient
from app.swarm.ranking import Conduct
from peerd_gossip import Member, key_hash

log = logging.getLogger(__name__)

ASKED_MAX = 4
"""How many members are asked for one chunk, or one document, before upstream is."""


class Holders(Protocol):
    """What is needed of gossip."""

    @property
    def me(self) -> Member:
        """This node."""

    def holders(self, key: int) -> list[Member]:
        """Other live members that may hold a key."""


class PeerSource:
    """Chunks, sizes and names from other members."""

    def __init__(
        self,
        gossip: Holders,
        client: PeerClient,
        conduct: Conduct,
        *,
        chunk_size: int,
        executor: Executor,
        metrics: Metrics,
    ) -> None:
        self._gossip = gossip
        self._client = client
        self._conduct = conduct
        self._chunk_size = chunk_size
        self._executor = executor
        self._metrics = metrics

    def offers(self, content: Content, chunk: int) -> Iterator[Offer]:
        """Members that may have the chunk. See `Source.offers`."""
        began = time.perf_counter()
        span = chunk_range(chunk, content.size, self._chunk_size)
        held_as: dict[str, tuple[Member, ContentKey]] = {}
        for key in _keys(content):
            for text in (advertised.whole(key), advertised.stretch(key, span.start)):
                for member in self._gossip.holders(key_hash(text)):
                    held_as.setdefault(member.name, (member, key))
        what = f"{content.key} {chunk}"
        members = self._conduct.order((member for member, _ in held_as.values()), what, zone=self._gossip.me.zone)
        self._metrics.discovery_duration.labels(self._gossip.me.name).observe(time.perf_counter() - began)
        for member in members[:ASKED_MAX]:
            yield _PeerOffer(self, member, held_as[member.name][1], span, what)

    async def fetch(self, offer: "_PeerOffer", span: ByteRange, sink: Sink) -> None:
        """See `Offer.fetch`."""
        began = time.perf_counter()
        with self._judging(offer.member, offer.what):
            await asyncio.get_running_loop().run_in_executor(
                self._executor, self._client.get_chunk, offer.member, offer.key, offer.chunk, span, sink
            )
        self._metrics.answered(SourceKind.PEER, len(offer.chunk), time.perf_counter() - began)
        if offer.member.zone != self._gossip.me.zone:
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
        holders = {member.name: member for text in texts for member in self._gossip.holders(key_hash(text))}
        for member in self._conduct.order(holders.values(), path, zone=self._gossip.me.zone)[:ASKED_MAX]:
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
        self._conduct.begin(member)
        try:
            yield
            self._conduct.served(member)
        except Denied:
            self._conduct.denied(member, what)
            self._metrics.false_positives.inc()
            raise
        except Busy:
            raise
        except SourceLied:
            self._conduct.lied(member)
            raise
        except SourceError:
            self._conduct.failed(member)
            raise
        finally:
            self._conduct.end(member)


@dataclass(frozen=True, slots=True)
class _PeerOffer:
    """One member that may have one chunk."""

    source: PeerSource
    member: Member
    key: ContentKey
    chunk: ByteRange
    what: str

    @property
    def kind(self) -> SourceKind:
        return SourceKind.PEER

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def trusted(self) -> bool:
        return False

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        await self.source.fetch(self, span, sink)


def _keys(content: Content) -> Iterator[ContentKey]:
    """Under which keys members may hold this content, the proved one first."""
    if content.digest is not None:
        yield ContentKey.of_digest(content.digest)
    if content.digest is None or content.key != ContentKey.of_digest(content.digest):
        yield content.key
