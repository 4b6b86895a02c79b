"""The reader's way to everybody outside this node: containerd's store, other members, and upstream for those whose turn it is.

Owns: putting the pure decisions (`asking`, `home`, `knowledge`, `ranking`) on what gossip knows, and turning them into offers.
"""

import random
import time
from collections.abc import Iterator, Sequence

from app.content import advertised
from app.content.byte_range import chunk_range
from app.content.key import ContentKey
from app.content.source import Content, Offer, Source, Want
from app.errors import NotNow
from app.observability.metrics import Metrics
from app.swarm.asking import HOPS, Ask, PutBack, Question, Role
from app.swarm.fetch_request import FetchRequest
from app.swarm.home import Roster, chunk_hash
from app.swarm.knowledge import random_bit
from app.swarm.peers import PeerOffer, Peers
from peerd_gossip import Member, MemberState, key_hash

ROSTER_SECONDS = 0.5
"""How old the list of members may be that homes are worked out from."""


class Swarm:
    """Who is asked for chunks, in a cluster. See `Asker`."""

    def __init__(
        self,
        peers: Peers,
        local: Sequence[Source],
        upstream: Source,
        *,
        chunk_size: int,
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self._peers = peers
        self._local = local
        self._upstream = upstream
        self._chunk_size = chunk_size
        self._rng = rng
        self._metrics = metrics
        self._roster: Roster | None = None
        self._roster_until = 0.0

    def offers(self, content: Content, chunk: int, want: Want) -> Iterator[Offer]:
        """See `Asker.offers`."""
        for source in self._local:
            yield from source.offers(content, chunk)
        around = _Around(self, self._peers, content, self._chunk_size)
        hops = HOPS if want.hops is None else want.hops
        question = Question(
            around,
            chunk,
            chunk_hash(_common_name(content), chunk),
            self._rng,
            awaited=lambda: want.awaited,
            hops=hops if content.location is not None else 0,
        )
        while True:
            began = time.perf_counter()
            step = question.next()
            self._metrics.discovery_duration.labels(self._peers.gossip.me.name).observe(time.perf_counter() - began)
            if isinstance(step, PutBack):
                raise NotNow(f"chunk {chunk} of {content.key}: whoever has it is busy")
            if not isinstance(step, Ask):
                break
            offer = self._offer(content, chunk, step, around, hops)
            if offer is None:
                question.failed(step.member)
                continue
            yield offer
            question.answered(step.member, offer.answer, offer.alternates)
        yield from self._upstream.offers(content, chunk)

    def _offer(self, content: Content, chunk: int, step: Ask, around: "_Around", hops: int) -> PeerOffer | None:
        member = self._peers.gossip.member(step.member)
        if member is None:
            return None
        span = chunk_range(chunk, content.size, self._chunk_size)
        request = None
        if step.role is Role.HOME:
            has_credential = content.location is not None and content.location.authorization is not None
            request = FetchRequest(content, span, hops - 1, has_credential)
        key = around.held_as(step.member)
        return PeerOffer(self._peers, member, key, _common_name(content), span, request, step.delay)

    def choose(self, content: Content, wanted: int, first: int) -> int:  # noqa: ARG002 -- chance spreads a crowd, places do not
        """See `Asker.choose`: a chunk that a remembered member has, else any, by chance."""
        known = self._peers.knowledge.pick(_common_name(content), wanted)
        return random_bit(wanted, self._rng) if known is None else known

    def roster(self) -> Roster:
        """Live members; looked up a few times a second at most."""
        now = time.monotonic()
        if self._roster is None or now >= self._roster_until:
            me, *others = self._peers.gossip.members()
            alive = [member for member, state in others if state is MemberState.ALIVE and member.peer_addr]
            self._roster = Roster.of(me[0], alive)
            self._roster_until = now + ROSTER_SECONDS
        return self._roster


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

    def known_holders(self, chunk: int) -> list[str]:
        return self._peers.knowledge.holders(self._name, chunk)

    def whole_holders(self, chunk: int) -> list[str]:
        return self._holders(chunk, [(key, advertised.whole(key)) for key in _keys(self._content)])

    def stretch_holders(self, chunk: int) -> list[str]:
        offset = chunk * self._chunk_size
        return self._holders(chunk, [(key, advertised.stretch(key, offset)) for key in _keys(self._content)])

    def in_order(self, members: Sequence[str]) -> list[str]:
        found = [member for name in members if (member := self._peers.gossip.member(name)) is not None]
        me: Member = self._peers.gossip.me
        return [member.name for member in self._peers.conduct.order(found, self._name, zone=me.zone)]

    def held_as(self, member: str) -> ContentKey:
        """Under which key a member said that it holds the content."""
        return self._keys.get(member, self._content.key)

    def _holders(self, chunk: int, texts: Sequence[tuple[ContentKey, str]]) -> list[str]:
        found: list[str] = []
        for key, text in texts:
            for member in self._peers.gossip.holders(key_hash(text)):
                # What a member said itself, and lately, is worth more than its filter.
                if self._peers.knowledge.has(self._name, member.name, chunk) is not False:
                    self._keys.setdefault(member.name, key)
                    found.append(member.name)
        return found


def _keys(content: Content) -> Iterator[ContentKey]:
    """Under which keys members may hold this content, the proved one first."""
    if content.digest is not None:
        yield ContentKey.of_digest(content.digest)
    if content.digest is None or content.key != ContentKey.of_digest(content.digest):
        yield content.key


def _common_name(content: Content) -> str:
    """What all members call a content among themselves, proved or not: bit fields and homes go by it."""
    return str(content.digest) if content.digest is not None else content.key.text
