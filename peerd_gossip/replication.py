"""One member's part in replicating filters: who is sent what, and when. No I/O, no clock, no randomness of its own.

The intuition: news travels as gossip does, and what gossip misses is found by comparing notes.

* **Rumours.** What is new here is told to a few partners, a few times; to whom it is new, it is news in turn. After
  a handful of steps nearly everybody knows ("rumor mongering", Demers et al., "Epidemic algorithms for replicated
  database maintenance", 1987, section 1.4). A quiet member tells at once, a busy one once an interval.
* **Push/pull.** Every so often a member compares versions with another at random (anti-entropy, section 1.3 there):
  a Digest, the Versions where digests differ, then each side asks for or is given what it lacks. This finds what
  rumours missed, and is how one who joins learns everything.

A filter at one epoch and version is the same filter everywhere, so versions alone tell what is missing: deltas are
applied in order, one that comes early waits for those before it, and what does not come is asked for. The versions are
here; what filters contain is the store's business (store.py).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import assert_never

from peerd_gossip.member import MemberId
from peerd_gossip.messages import (
    Answer,
    Delta,
    Digest,
    FilterImage,
    Message,
    Rumours,
    Stamp,
    Versions,
    Want,
    keys_of,
)
from peerd_gossip.publisher import Publisher
from peerd_gossip.rumours import RumourQueue
from peerd_gossip.store import Store
from peerd_gossip.versions import VersionVector


@dataclass(frozen=True, slots=True)
class Limits:
    """How eager, and how much at most."""

    interval_s: float = 0.2
    """Between two rounds of telling. Shorter spreads faster and sends more, smaller messages; 5 to 6 rounds reach 1,000."""
    fanout: int = 4
    rounds: int = 2
    """Each piece of news is told to fanout * rounds members. Of all members about e^-(fanout * rounds) miss it, whatever
    their number (0.03 % at 8); bytes grow in proportion."""
    partners: int = 16
    """Members that rumours are told to; one is changed every partner_s. More means more open connections."""
    partner_s: float = 20.0
    exchange_s: float = 2.0
    """Between two push/pulls that this member opens. What rumours missed is found within two or three of them."""
    exchange_soon_s: float = 0.25
    """The same, while whole filters are known to be missing."""
    want_s: float = 1.0
    """How long an answer is waited for before somebody else may be asked for the same filter."""
    want_filters: int = 128
    """Filters asked of one member at once: one who joins spreads its asking over several."""
    early_s: float = 0.3
    """How long a delta waits for the one before it, before that is asked for."""
    early_deltas: int = 4096
    away_s: float = 300.0
    """How long the filter of a member that failed is kept, out of the index, in case it comes back in the same life."""
    departed: int = 4096
    """Lives of which it is remembered that they said farewell."""
    message_bytes: int = 64 << 10
    answer_bytes: int = 256 << 10
    answers: int = 4
    """Messages of answer_bytes that one Want may be answered with; the asker asks again for the rest."""


@dataclass(frozen=True, slots=True)
class FilterLearned:
    """A whole filter of this member was taken in."""

    member: MemberId


@dataclass(frozen=True, slots=True)
class FilterRefused:
    """This member's filter was set aside: why."""

    member: MemberId
    reason: str


@dataclass(frozen=True, slots=True)
class Departed:
    """This member said farewell."""

    member: MemberId


Event = FilterLearned | FilterRefused | Departed


@dataclass(slots=True)
class Counters:
    """What was sent and received, in deltas and filters."""

    deltas_sent: int = 0
    deltas_received: int = 0
    filters_sent: int = 0
    filters_received: int = 0
    keys_received: int = 0
    from_strangers: int = 0


class Replica:
    """The state machine of one member. It is told what happens, and asked what is to be sent and when to ask again."""

    def __init__(
        self,
        me: MemberId,
        *,
        store: Store,
        now: float,
        rng: random.Random,
        limits: Limits | None = None,
        fp_rate: float = 0.01,
    ) -> None:
        self.me = me
        self.counters = Counters()
        self._limits = limits or Limits()
        self._store = store
        self._rng = rng
        self._publisher = Publisher(me, fp_rate)
        self._versions = VersionVector()
        self._live: dict[MemberId, int] = {}  # others, with their place in the list below
        self._others: list[MemberId] = []
        self._missing: set[MemberId] = set()  # live, and no filter of theirs is here
        self._aside: set[MemberId] = set()  # live, and their filter is not believed; its versions are followed
        self._away: dict[MemberId, tuple[Stamp, float]] = {}  # not live: where they stood, kept until
        self._departed: dict[MemberId, None] = {}
        self._partners: list[MemberId] = []
        self._rumours = RumourQueue(self._limits.rounds)
        self._early: dict[Stamp, tuple[Delta, MemberId, float]] = {}  # with who sent it, and until when it waits
        self._wanted: dict[MemberId, float] = {}  # asked for, until
        self._outbox: list[tuple[MemberId, Message]] = []
        self._events: list[Event] = []
        self._next_round = now
        self._next_exchange = now + rng.random() * self._limits.exchange_s
        self._exchange_soon_s = self._limits.exchange_soon_s
        self._next_partner = now + self._limits.partner_s
        self._leaving = False
        self._publish()

    def __repr__(self) -> str:
        return (
            f"<Replica {self.me:016x} at {self._publisher.stamp.epoch}.{self._publisher.stamp.version} "
            f"live={len(self._live)} missing={len(self._missing)} news={len(self._rumours)} early={len(self._early)}>"
        )

    # What the application says

    def advertise(self, keys: Iterable[int]) -> None:
        """These keys are held from now on; told with the next `messages_to_send`."""
        self._publisher.advertise(keys)

    def withdraw(self, keys: Iterable[int]) -> None:
        """These keys are not held any more."""
        self._publisher.withdraw(keys)

    def leave(self) -> None:
        """Say farewell to all partners with the next `messages_to_send`. Nothing is advertised any more."""
        self._leaving = True
        stamp = self._publisher.stamp
        farewell = Delta(Stamp(self.me, stamp.epoch, stamp.version + 1), farewell=True)
        self._outbox += [(member, Rumours(deltas=(farewell,))) for member in self._partners]

    # What membership says

    def members_changed(self, live: Collection[MemberId], *, now: float) -> None:
        """These are the live members (this one may be among them); all others are gone or away."""
        members = set(live) - {self.me} - self._departed.keys()
        gone = self._live.keys() - members
        come = members - self._live.keys()
        if not gone and not come:
            return
        for member in sorted(gone):
            self._hide(member, now)
        for member in sorted(come):
            self._show(member)
        self._others = sorted(members)
        self._live = {member: place for place, member in enumerate(self._others)}
        self._partners = [member for member in self._partners if member in self._live]
        self._fill_partners()
        for member in sorted(come):
            # A few members meet the newcomer at once, and tell the others. Of a small cluster that is everybody.
            if self._rng.random() < 8 / len(self._others):
                self._outbox.append((member, Digest(self._versions.sums())))
        if come:
            self._exchange_soon_s = self._limits.exchange_soon_s
            self._next_exchange = min(self._next_exchange, now + self._exchange_soon_s * (1 + self._rng.random()))

    def forget(self, member: MemberId) -> None:
        """The member will not come back in this life: nothing of it is kept, and nothing is believed of it any more."""
        self._versions.remove(member)
        self._missing.discard(member)
        self._aside.discard(member)
        self._wanted.pop(member, None)
        self._away.pop(member, None)
        self._store.forget(member)
        self._rumours.forget(member)
        self._departed[member] = None
        if len(self._departed) > self._limits.departed:
            del self._departed[next(iter(self._departed))]
        place = self._live.pop(member, None)
        if place is None:
            return
        last = self._others.pop()
        if last != member:
            self._others[place] = last
            self._live[last] = place
        if member in self._partners:
            self._partners.remove(member)
            self._fill_partners()

    def _hide(self, member: MemberId, now: float) -> None:
        stamp = self._versions.remove(member)
        self._missing.discard(member)
        self._wanted.pop(member, None)
        self._rumours.forget(member)
        if stamp is None or member in self._aside:
            self._aside.discard(member)
            return
        self._store.hide(member)
        self._away[member] = (stamp, now + self._limits.away_s)

    def _show(self, member: MemberId) -> None:
        kept = self._away.pop(member, None)
        if kept is not None and self._store.show(member):
            self._versions.set(kept[0])
        else:
            self._missing.add(member)

    def _fill_partners(self) -> None:
        wanted = min(self._limits.partners, len(self._others))
        while len(self._partners) < wanted:
            member = self._rng.choice(self._others)
            if member not in self._partners:
                self._partners.append(member)

    # What other members say

    def receive(self, message: Message, sender: MemberId, *, now: float) -> None:
        """A message of another member. One of somebody who is not a live member is counted and dropped."""
        if sender not in self._live or self._leaving:
            self.counters.from_strangers += 1
            return
        match message:
            case Rumours(deltas, haves):
                for delta in deltas:
                    self._hear(delta, sender, now)
                self._ask(sender, haves, now)
            case Digest(buckets):
                differing = self._versions.differing(buckets)
                if differing:
                    self._outbox.append((sender, Versions(differing, tuple(self._versions.within(differing)))))
            case Versions(buckets, stamps):
                self._compare(sender, buckets, stamps, now)
            case Want(have):
                self._answer(sender, have)
            case Answer(deltas, filters):
                self._take(filters)
                for delta in deltas:
                    self._hear(delta, sender, now)
            case _:
                assert_never(message)

    def _hear(self, delta: Delta, sender: MemberId, now: float) -> None:
        """One delta: apply it if it is the next, keep it if it is early, drop it if it is old."""
        stamp = delta.stamp
        self.counters.deltas_received += 1
        if delta.farewell and stamp.member in self._live:
            self.forget(stamp.member)
            self._rumours.tell(delta)
            self._events.append(Departed(stamp.member))
            return
        if not self._is_news(stamp):
            return
        mine = self._versions.get(stamp.member)
        if mine is None or stamp.epoch != mine.epoch:
            self._ask(sender, (stamp,), now)
        elif stamp.version == mine.version + 1:
            self._apply(delta)
            self._apply_early(stamp)
        elif len(self._early) < self._limits.early_deltas:
            self._early.setdefault(stamp, (delta, sender, now + self._limits.early_s))

    def _apply(self, delta: Delta) -> None:
        member = delta.stamp.member
        self.counters.keys_received += len(delta.added) + len(delta.withdrawn)
        if member not in self._aside:
            reason = self._store.apply(delta)
            if reason is not None:
                self._set_aside(member, reason)
        self._versions.set(delta.stamp)
        self._wanted.pop(member, None)
        self._rumours.tell(delta)

    def _apply_early(self, stamp: Stamp) -> None:
        """Deltas that waited for the one at this stamp."""
        while self._early:
            stamp = stamp._replace(version=stamp.version + 1)
            early = self._early.pop(stamp, None)
            if early is None:
                return
            self._apply(early[0])

    def _take(self, filters: tuple[FilterImage, ...]) -> None:
        """Whole filters: those that are newer than what is here."""
        catching_up = len(self._missing) > self._limits.partners
        newer = {image.stamp.member: image for image in filters if self._is_news(image.stamp)}
        refused = self._store.learn(list(newer.values()))
        for member, image in newer.items():
            self.counters.filters_received += 1
            self._versions.set(image.stamp)
            self._missing.discard(member)
            self._wanted.pop(member, None)
            self._aside.discard(member)
            if member in refused:
                self._set_aside(member, refused[member])
            else:
                self._events.append(FilterLearned(member))
            if not catching_up:  # else it is news to nobody but this member
                self._rumours.tell_stamp(image.stamp)
            self._apply_early(image.stamp)
        if newer:
            self._exchange_soon_s = self._limits.exchange_soon_s

    def _set_aside(self, member: MemberId, reason: str) -> None:
        self._aside.add(member)
        self._events.append(FilterRefused(member, reason))

    def _is_news(self, stamp: Stamp) -> bool:
        """Whether this is a live member's, and newer than what is here."""
        mine = self._versions.get(stamp.member)
        if mine is not None and stamp <= mine:
            return False
        if stamp.member == self.me:  # nobody but this member makes its versions: somebody is wrong
            self._publisher.refute(stamp.epoch)
            return False
        return stamp.member in self._live

    def _compare(self, sender: MemberId, buckets: int, stamps: tuple[Stamp, ...], now: float) -> None:
        """The second step of a push/pull: ask for what is newer there, give what is newer here."""
        self._ask(sender, stamps, now)
        theirs = {stamp.member: stamp for stamp in stamps}
        behind: list[Stamp] = []
        lacking: list[Stamp] = []
        for mine in self._versions.within(buckets):
            have = theirs.get(mine.member)
            if have is None:
                lacking.append(mine)  # it may not know the member at all: it is told, and asks if it does
            elif have < mine:
                behind.append(have)
        self._answer(sender, tuple(behind))
        if lacking:
            self._outbox.append((sender, Rumours(haves=tuple(lacking))))

    def _ask(self, sender: MemberId, stamps: Iterable[Stamp], now: float) -> None:
        """Ask the sender for those of these that are news, unless they were asked for just now."""
        have: list[Stamp] = []
        filters = 0
        for stamp in stamps:
            member = stamp.member
            if not self._is_news(stamp) or self._wanted.get(member, now) > now:
                continue
            mine = self._versions.get(member)
            if mine is None or mine.epoch != stamp.epoch:
                if filters == self._limits.want_filters:
                    continue
                filters += 1
            self._wanted[member] = now + self._limits.want_s
            have.append(mine or Stamp(member, 0, 0))
        if have:
            self._outbox.append((sender, Want(tuple(have))))

    def _answer(self, sender: MemberId, have: tuple[Stamp, ...]) -> None:
        """Give what is newer than these stamps, in messages of a bounded size and number."""
        answers: list[Answer] = []
        deltas: list[Delta] = []
        filters: list[FilterImage] = []
        size = 0
        for stamp in have:
            mine = self._versions.get(stamp.member)
            if mine is None or mine <= stamp:
                continue
            steps = self._store.since(stamp, mine)
            if steps is not None and 8 * keys_of(steps) <= self._limits.answer_bytes:
                deltas += steps
                size += 8 * keys_of(steps) + 32 * len(steps)
            else:
                image = self._store.image(mine)
                if image is None:
                    continue
                filters.append(image)
                size += len(image.bits) + 8 * len(image.tombstones)
            if size >= self._limits.answer_bytes:
                answers.append(Answer(tuple(deltas), tuple(filters)))
                deltas, filters, size = [], [], 0
                if len(answers) == self._limits.answers:
                    break
        if size:
            answers.append(Answer(tuple(deltas), tuple(filters)))
        for answer in answers:
            self.counters.deltas_sent += len(answer.deltas)
            self.counters.filters_sent += len(answer.filters)
            self._outbox.append((sender, answer))

    # What is to be done

    def messages_to_send(self, *, now: float) -> list[tuple[MemberId, Message]]:
        """All that is to be sent now, to whom."""
        if not self._leaving:
            self._ask_for_gaps(now)
            if now >= self._next_round and (self._publisher.pending or self._rumours):
                self._round(now)
            if now >= self._next_exchange:
                self._exchange(now)
            if now >= self._next_partner:
                self._change_partner(now)
        out = self._outbox
        self._outbox = []
        return out

    def next_deadline(self) -> float:
        """When `messages_to_send` has something to do if nothing happens until then."""
        deadline = min(self._next_exchange, self._next_partner)
        if self._publisher.pending or self._rumours:
            deadline = min(deadline, self._next_round)
        if self._early:
            deadline = min(deadline, next(iter(self._early.values()))[2])
        return deadline

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events = self._events
        self._events = []
        return events

    def versions(self) -> VersionVector:
        """Where every filter stands here; to be read, not changed."""
        return self._versions

    @property
    def keys(self) -> frozenset[int]:
        """What this member advertises."""
        return self._publisher.keys

    @property
    def missing(self) -> int:
        """Live members whose filter is not here."""
        return len(self._missing)

    def _publish(self) -> None:
        match self._publisher.publish():
            case Delta() as delta:
                self._store.apply(delta)
                self._versions.set(delta.stamp)
                self._rumours.tell(delta)
            case FilterImage() as image:
                self._store.learn([image])
                self._versions.set(image.stamp)
                self._rumours.tell_stamp(image.stamp)
            case None:
                pass

    def _round(self, now: float) -> None:
        """Tell the news to a few partners."""
        self._publish()
        interval = self._limits.interval_s
        partners = self._rng.sample(self._partners, min(self._limits.fanout, len(self._partners)))
        rumours = self._rumours.take(self._limits.message_bytes)
        for partner in partners:
            self.counters.deltas_sent += len(rumours.deltas)
            self._outbox.append((partner, rumours))
        if self._rumours.backlog_bytes_min > self._limits.message_bytes:
            interval /= 4  # more than one message holds: under load, news goes out more often
        self._next_round = now + interval

    def _exchange(self, now: float) -> None:
        """Open a push/pull with somebody at random."""
        if self._others:
            self._outbox.append((self._rng.choice(self._others), Digest(self._versions.sums())))
        pause = self._limits.exchange_s
        if self._missing:
            pause = min(pause, self._exchange_soon_s)
            self._exchange_soon_s *= 1.5  # until a filter comes: a member may be alive and its gossip door shut
        self._next_exchange = now + pause * (0.75 + self._rng.random() / 2)
        for member in [member for member, (_, until) in self._away.items() if until <= now]:
            del self._away[member]
            self._store.forget(member)

    def _change_partner(self, now: float) -> None:
        """So that no member is cut off by the choice of others, and connections do not pile up."""
        if len(self._partners) < len(self._others):
            self._partners.pop(0)
            self._fill_partners()
        self._next_partner = now + self._limits.partner_s * (0.75 + self._rng.random() / 2)

    def _ask_for_gaps(self, now: float) -> None:
        """Deltas that have waited long enough: ask for those before them."""
        while self._early:
            stamp, (_, sender, until) = next(iter(self._early.items()))
            if until > now:
                return
            del self._early[stamp]
            if sender in self._live:
                self._ask(sender, (stamp,), now)
