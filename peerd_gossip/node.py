"""One running node: drives replication with clock and transport, and keeps the roster by what membership reports."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from peerd_gossip._tasks import owned_tasks
from peerd_gossip.grpc_transport import GrpcTransport
from peerd_gossip.happened import Departed, FilterLearned, FilterRefused
from peerd_gossip.index import Index
from peerd_gossip.limits import Limits
from peerd_gossip.member import Member, MemberId, MembershipEvent, MemberState, join_address, split_address
from peerd_gossip.membership.interface import Membership
from peerd_gossip.messages import Greeting, Message
from peerd_gossip.messages import Roster as RosterMessage
from peerd_gossip.replication import Replica
from peerd_gossip.roster import Roster
from peerd_gossip.store import FilterStore
from peerd_gossip.tls import TlsFiles

log = logging.getLogger(__name__)

WATCH_QUEUE_MAX = 10_000
LEAVE_S_MAX = 1.5  # for farewells to be sent
PURGE_S = 60.0


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """What one node is told.

    `bind` is where the gossip door listens, `host:port`; port 0 takes a free one. A port of 0 in `me.gossip_addr` is
    filled in with the port that was bound. Without `tls` members are not authenticated: for loopback.
    """

    me: Member
    bind: str
    tls: TlsFiles | None = None
    fp_rate: float = 0.01
    """False-positive rate that this member's filter is sized for, 0.0001 to 0.1: a tenth costs 1.7 times the bits."""
    interval_s: float = 0.2
    """Between two rounds of rumours; see Limits.interval_s."""
    members_max: int = 5000
    index_bytes_max: int = 512 << 20
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class GossipStatistics:
    """Counters since the start, and how things stand."""

    bytes_sent: int
    bytes_received: int
    deltas_sent: int
    deltas_received: int
    filters_sent: int
    filters_received: int
    frames_dropped: int
    """Messages to members that were too far behind or not reachable; replication repairs it."""
    refused: dict[str, int]
    """Filters and messages from outside that were refused, by reason."""
    index_keys: int
    """Keys of all members, this one included, by their filters' own counts."""
    index_bytes: int
    members: dict[MemberState, int]
    """This one included."""
    missing: int
    """Live members whose filter is not here yet."""
    exchanged_with: frozenset[str]
    """Names of live members whose filter is here."""


class Gossip:
    """A running node; `running` makes one."""

    def __init__(
        self, config: GossipConfig, membership: Membership, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._config = config
        self._membership = membership
        self._clock = clock
        self._rng = rng
        self._transport = GrpcTransport(self, config.tls)
        self._index = Index(bytes_max=config.index_bytes_max)
        self._me = config.me
        self._roster = Roster(config.me, members_max=config.members_max)
        self._replica = self._new_replica()
        self._refused: dict[str, int] = {}
        self._watchers: set[asyncio.Queue[MembershipEvent]] = set()
        self._wake = asyncio.Event()
        self._left = False

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        config: GossipConfig,
        membership: Membership,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> AsyncIterator[Gossip]:
        """A node that runs for as long as the context lasts. Leaving the context stops it without a goodbye.

        Raises GossipUnavailable when the gossip door can not be opened, MembershipError when the engine can not start.
        """
        gossip = cls(config, membership, clock, rng or random.Random())  # noqa: S311  no secret depends on it
        async with gossip._transport.running(config.bind, gossip._bound), owned_tasks() as tasks:
            tasks.start(gossip._drive(), name="gossip")
            async with membership.running(gossip.me, gossip._transport, gossip._report):
                yield gossip

    @property
    def me(self) -> Member:
        """This member, with the port that its gossip door is bound to."""
        return self._me

    def advertise(self, keys: Iterable[int]) -> None:
        """This member holds these keys from now on. Memory only; other members hear of it within the interval."""
        self._replica.advertise(keys)
        self._wake.set()

    def withdraw(self, keys: Iterable[int]) -> None:
        """This member does not hold these keys any more. Memory only."""
        self._replica.withdraw(keys)
        self._wake.set()

    def holders(self, key: int) -> list[Member]:
        """Other live members that may hold the key, in no order. Memory only, microseconds."""
        found = (self._roster.by_id(member) for member in self._index.holders(key))
        return [member for member in found if member is not None]

    def members(self) -> list[tuple[Member, MemberState]]:
        """Everybody who is known, this member included, with those who failed or left of late."""
        return self._roster.members()

    def keys_held_by(self, member: Member) -> int:
        """How many keys the member can serve, by its filter's own count; 0 while its filter is not here."""
        if member.id == self._me.id:
            return len(self._replica.keys)
        bloom = self._index.bloom(member.id)
        return bloom.keys if bloom is not None else 0

    def member(self, name: str) -> Member | None:
        """The latest life of the member of this name, alive or not."""
        return self._roster.get(name)

    def round_trip_estimate(self, member: Member) -> float | None:
        """Seconds to the member and back by the engine's network coordinates, where it has any."""
        return self._membership.round_trip_estimate(member.name)

    async def watch(self) -> AsyncIterator[MembershipEvent]:
        """What happens to members from now on; who is alive already comes first, as if joined.

        A watcher that falls 10,000 events behind loses the oldest: `members` tells how things stand.
        """
        queue: asyncio.Queue[MembershipEvent] = asyncio.Queue(WATCH_QUEUE_MAX)
        for member, state in self._roster.members()[1:]:
            if state is MemberState.ALIVE and not queue.full():
                queue.put_nowait(MembershipEvent(member, state))
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    def statistics(self) -> GossipStatistics:
        """How things stand."""
        replication, transport = self._replica.counters, self._transport.counters
        states = [state for _, state in self._roster.members()]
        refused = dict(self._refused)
        for reason, count in transport.refused.items():
            refused[reason] = refused.get(reason, 0) + count
        if self._roster.refused:
            refused["member"] = self._roster.refused
        exchanged = (self._roster.by_id(stamp.member) for stamp in self._replica.versions())
        return GossipStatistics(
            bytes_sent=transport.bytes_sent,
            bytes_received=transport.bytes_received,
            deltas_sent=replication.deltas_sent,
            deltas_received=replication.deltas_received,
            filters_sent=replication.filters_sent,
            filters_received=replication.filters_received,
            frames_dropped=transport.frames_dropped,
            refused=refused,
            index_keys=self._index.keys + len(self._replica.keys),
            index_bytes=self._index.bytes_used,
            members={state: states.count(state) for state in MemberState},
            missing=self._replica.missing,
            exchanged_with=frozenset(member.name for member in exchanged if member is not None),
        )

    async def leave(self) -> None:
        """Say farewell: other members take this one out of their index at once. Nothing is advertised any more.

        Takes two or three seconds at most. Requests of members that have not heard it yet may still come.
        """
        if self._left:
            return
        self._left = True
        self._replica.leave()
        self._wake.set()
        await self._membership.leave()
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await asyncio.sleep(0)  # the driver queues the farewells
                await self._transport.finish()
        except TimeoutError:
            log.info("some members were not told that this one leaves; they will notice")

    # What the transport says (grpc_transport.Listener)

    def on_message(self, message: Message, sender: MemberId) -> None:
        """A message of another member."""
        if (member := self._roster.by_id(sender)) is not None:
            self._membership.is_still_here(member)
        self._replica.receive(message, sender, now=self._clock())
        self._wake.set()

    def on_greeting(self, greeting: Greeting) -> RosterMessage:
        """Somebody greets, or says goodbye."""
        if greeting.leaving:
            self._report(greeting.member, MemberState.LEFT, final=True)
        else:
            self._membership.heard_from(greeting.member)
        members = self._roster.members()
        return tuple(members if not self._left else [(self._me, MemberState.LEFT), *members[1:]])

    def on_hello(self, member: Member) -> None:
        """A member has opened a conversation."""
        self._membership.heard_from(member)

    # What moves it

    def _new_replica(self) -> Replica:
        limits = dataclasses.replace(self._config.limits, interval_s=self._config.interval_s)
        return Replica(
            self._me.id,
            store=FilterStore(self._me.id, self._index),
            now=self._clock(),
            rng=self._rng,
            limits=limits,
            fp_rate=self._config.fp_rate,
        )

    def _bound(self, port: int) -> Member:
        host, meant = split_address(self._me.gossip_addr)
        if meant == 0:
            self._me = dataclasses.replace(self._me, gossip_addr=join_address(host, port))
            self._roster.me = self._me
        return self._me

    async def _drive(self) -> None:
        """Send what is to be sent, tell what has happened, and wait until there is something to do again."""
        purge_at = self._clock() + PURGE_S
        while True:
            self._wake.clear()
            now = self._clock()
            for target, message in self._replica.messages_to_send(now=now):
                member = self._roster.by_id(target)
                if member is not None:
                    self._transport.send(member, message)
            self._tell_events()
            if now >= purge_at:
                self._roster.purge(now=now)
                purge_at = now + PURGE_S
            try:
                async with asyncio.timeout(max(self._replica.next_deadline() - self._clock(), 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _tell_events(self) -> None:
        for event in self._replica.events():
            member = self._roster.by_id(event.member)
            name = member.name if member else f"{event.member:016x}"
            match event:
                case Departed():
                    if member is not None:
                        self._report(member, MemberState.LEFT, final=True)
                case FilterRefused(reason=reason):
                    self._refused[reason] = self._refused.get(reason, 0) + 1
                    log.warning(
                        "the filter of %s is set aside (%s): nothing is asked of it until it has a new one",
                        name,
                        reason,
                    )
                case FilterLearned():
                    log.debug("the filter of %s is here", name)

    def _report(self, member: Member, state: MemberState, *, final: bool = False) -> None:
        """Membership, or the member itself, says how it is."""
        before = self._roster.live()
        events = self._roster.report(member, state, now=self._clock(), final=final)
        if not events:
            return
        now_live = self._roster.live()
        for gone in before - now_live:
            self._transport.hang_up(gone)
        for event in events:
            log.info("member %s at %s: %s", event.member.name, event.member.gossip_addr, event.state.value)
            if final or self._roster.get(event.member.name) != event.member:
                self._replica.forget(event.member.id)  # this life is over
            for queue in self._watchers:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(event)
        self._replica.members_changed(now_live, now=self._clock())
        self._wake.set()
