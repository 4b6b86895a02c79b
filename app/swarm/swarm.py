"""The reader's way to everybody outside this node: containerd's store, other members, and upstream for those whose turn it is.

Owns: putting the pure decisions (`asking`, `home`, `knowledge`, `ranking`) on what gossip knows, and turning them into offers.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.content import advertised
from app.content.byte_range import ByteRange, chunk_count, chunk_range
from app.content.key import ContentKey
from app.content.source import Content, Offer, Sink, Source, SourceKind, Want
from app.errors import NotNow
from app.observability.metrics import Metrics
from app.swarm.asking import Ask, PutBack, Question, Role
from app.swarm.home import Roster, chunk_hash, roster_of
from app.swarm.leases import Leases
from app.swarm.peers import PeerOffer, Peers
from app.swarm.race import ChunkRequest
from app.swarm.turns import Turns
from peerd_gossip import MemberState, key_hash

ROSTER_SECONDS = 0.5
"""How old the list of members may be that homes are worked out from."""

ONCE_MORE_SECONDS = (0.1, 0.5, 1.0)
"""Rounds in which members are asked again for what upstream does not give, and how long is waited before each request."""

ONCE_MORE_MEMBERS = 4
"""In each round."""


class Swarm:
    """Who is asked for chunks, in a cluster. See `Asker`."""

    def __init__(
        self,
        peers: Peers,
        local: Sequence[Source],
        upstream: Source,
        leases: Leases,
        *,
        chunk_size: int,
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self._peers = peers
        self._local = local
        self._upstream = upstream
        self._leases = leases
        self._chunk_size = chunk_size
        self._rng = rng
        self._metrics = metrics
        self._roster: Roster | None = None
        self._roster_until = 0.0
        self._turns: dict[str, Turns] = {}

    def offers(self, content: Content, chunk: int, want: Want) -> Iterator[Offer]:
        """See `Asker.offers`."""
        for source in self._local:
            yield from source.offers(content, chunk)
        around = _Around(self, self._peers, content, self._chunk_size)
        question = Question(
            around,
            chunk,
            chunk_hash(_common_name(content), chunk),
            self._rng,
            awaited=lambda: want.awaited,
            upstream_allowed=content.location is not None,
        )
        while True:
            began = time.perf_counter()
            step = question.next()
            self._metrics.discovery_duration.labels(self._peers.gossip.me.name).observe(time.perf_counter() - began)
            if isinstance(step, PutBack):
                raise NotNow(f"chunk {chunk} of {content.key}: whoever has it is busy")
            if not isinstance(step, Ask):
                break
            offer = self._offer(content, step, around, question)
            if offer is None:
                question.failed(step.member)
                continue
            yield offer
            if offer.arrived:  # And yet another is asked: what it sent was not what the chunk must be.
                self._peers.lied(offer.request)
            question.answered(step.member, offer.answer, offer.alternates, offer.received)
        yield from self._upstream_offers(content, chunk, want)
        yield from self._once_more(content, chunk, around)

    def _upstream_offers(self, content: Content, chunk: int, want: Want) -> Iterator[Offer]:
        """Upstream's own, each waiting for its turn; none where it is not known where upstream has the content."""
        if content.location is None:
            return
        host = content.location.host
        self._turns = {name: turns for name, turns in self._turns.items() if name == host or not turns.is_idle}
        turns = self._turns.setdefault(host, Turns())
        name, every = _common_name(content), (1 << chunk_count(content.size, self._chunk_size)) - 1
        for offer in self._upstream.offers(content, chunk):
            yield _InTurn(offer, turns, want, lambda: self._peers.knowledge.fetching(name, every), self._chunk_size)

    def _once_more(self, content: Content, chunk: int, around: "_Around") -> Iterator[Offer]:
        """Upstream did not give it either: whoever has it, and was only too slow or too busy, is all that is left."""
        for delay in ONCE_MORE_SECONDS:
            held = sorted({*around.known_holders(chunk), *around.whole_holders(chunk), *around.near_holders(chunk)})
            # By chance, not by conduct: those that are let alone for a while are those that are left.
            for name in self._rng.sample(held, min(len(held), ONCE_MORE_MEMBERS)):
                request = self._request(content, chunk, name, around)
                if request is None:
                    continue
                offer = PeerOffer(self._peers, request, lambda: None, delay)
                yield offer
                if offer.arrived:
                    self._peers.lied(offer.request)

    def _offer(self, content: Content, step: Ask, around: "_Around", question: Question) -> PeerOffer | None:
        without = question.without() if step.role is Role.HOME else None
        request = self._request(content, question.chunk, step.member, around, without)

        def another() -> ChunkRequest | None:
            member = question.hedge()
            return None if member is None else self._request(content, question.chunk, member, around)

        return None if request is None else PeerOffer(self._peers, request, another, step.delay)

    def _request(
        self, content: Content, chunk: int, name: str, around: "_Around", without: frozenset[str] | None = None
    ) -> ChunkRequest | None:
        member = self._peers.gossip.member(name)
        if member is None:
            return None
        span = chunk_range(chunk, content.size, self._chunk_size)
        return ChunkRequest(member, around.held_as(name), _common_name(content), span, without)

    def choose(self, content: Content, wanted: int, first: int) -> int:  # noqa: ARG002 -- chance spreads a crowd, places do not
        """See `Asker.choose`."""
        return self._peers.knowledge.choose(_common_name(content), wanted)

    def lessee(self, content: str, start: int) -> str | None:
        """Whom this node gave leave to fetch a chunk; None: nobody who is there."""
        name = self._leases.lessee(content, start)
        return None if name is None or self._peers.gossip.member(name) is None else name

    def roster(self) -> Roster:
        """Live members; looked up a few times a second at most."""
        now = time.monotonic()
        if self._roster is None or now >= self._roster_until:
            (me, _), *others = self._peers.gossip.members()
            alive = [member for member, state in others if state is MemberState.ALIVE and member.peer_addr]
            self._roster = roster_of(me, alive, self._roster)
            self._roster_until = now + ROSTER_SECONDS
        return self._roster


@dataclass(frozen=True, slots=True)
class _InTurn:
    """Upstream, asked for a chunk when it has room for it. See `Offer`; `others` is what `Turns` wants to know."""

    offer: Offer
    turns: Turns
    want: Want
    others: Callable[[], int]
    chunk_size: int

    @property
    def kind(self) -> SourceKind:
        return self.offer.kind

    @property
    def name(self) -> str:
        return self.offer.name

    @property
    def trusted(self) -> bool:
        return self.offer.trusted

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        # A pass through all of it takes as long as clients read: nobody is to wait for its end.
        if len(span) > self.chunk_size:
            await self.offer.fetch(span, sink)
            return
        async with self.turns.turn(self.want, self.others):
            await self.offer.fetch(span, sink)


class _Around:
    """What one question looks at. See `Surroundings`."""

    def __init__(self, swarm: Swarm, peers: Peers, content: Content, chunk_size: int) -> None:
        self._swarm = swarm
        self._peers = peers
        self._content = content
        self._name = _common_name(content)
        self._chunk_size = chunk_size
        self._keys: dict[str, ContentKey] = {}

    def roster(self) -> Roster:
        return self._swarm.roster()

    def failing(self) -> frozenset[str]:
        return self._peers.conduct.failing()

    def known_holders(self, chunk: int) -> list[str]:
        return self._peers.knowledge.holders(self._name, chunk)

    def whole_holders(self, chunk: int) -> Iterator[str]:
        return self._holders(chunk, [(key, advertised.whole(key)) for key in _keys(self._content)])

    def near_holders(self, chunk: int) -> Iterator[str]:
        offset = chunk * self._chunk_size
        return self._holders(chunk, [(key, advertised.stretch(key, offset)) for key in _keys(self._content)])

    def lessee(self, chunk: int) -> str | None:
        return self._swarm.lessee(self._name, chunk * self._chunk_size)

    def in_order(self, members: Iterable[str], *, across: bool) -> list[str]:
        gossip = self._peers.gossip
        found = [member for name in members if (member := gossip.member(name)) is not None]
        order = self._peers.conduct.order(found, self._name, zone=gossip.me.zone, across=across)
        return [member.name for member in order]

    def held_as(self, member: str) -> ContentKey:
        """Under which key a member said that it holds the content."""
        return self._keys.get(member, self._content.key)

    def _holders(self, chunk: int, texts: Sequence[tuple[ContentKey, str]]) -> Iterator[str]:
        knowledge = self._peers.knowledge
        for key, text in texts:
            for member in self._peers.gossip.holders(key_hash(text)):
                # What a member said itself, and lately, is worth more than its filter.
                if knowledge.has(self._name, member.name, chunk) is not False:
                    self._keys.setdefault(member.name, key)
                    yield member.name


def _keys(content: Content) -> Iterator[ContentKey]:
    """Under which keys members may hold this content, the proved one first."""
    if content.digest is not None:
        yield ContentKey.of_digest(content.digest)
    if content.digest is None or content.key != ContentKey.of_digest(content.digest):
        yield content.key


def _common_name(content: Content) -> str:
    """What all members call a content among themselves, proved or not: bit fields and homes go by it."""
    return str(content.digest) if content.digest is not None else content.key.text
