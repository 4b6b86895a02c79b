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
from typing import assert_never

from peerd_gossip.happened import Counters, Departed, Event, FilterLearned, FilterRefused
from peerd_gossip.limits import Limits
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
)
from peerd_gossip.partners import Partners
from peerd_gossip.publisher import Publisher
from peerd_gossip.repair import answers_to, differences
from peerd_gossip.rumours import RumourQueue
from peerd_gossip.store import Store
from peerd_gossip.versions import VersionVector


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
        self._partners = Partners(self._limits.partners, rng)
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
        self._partners.keep(self._live, self._others)
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
        self._partners.drop(member, self._others)

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
        behind, lacking = differences(stamps, self._versions, buckets)
        self._answer(sender, behind)
        if lacking:  # It may not know the members at all: it is told, and asks if it does.
            self._outbox.append((sender, Rumours(haves=lacking)))

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
        """Give what is newer than these stamps."""
        for answer in answers_to(have, self._versions, self._store, self._limits):
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
                self._partners.change(self._others)
                self._next_partner = now + self._limits.partner_s * (0.75 + self._rng.random() / 2)
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
        interval = self._limits.interval_between(len(self._others))
        partners = self._partners.sample(self._limits.fanout)
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

    def _ask_for_gaps(self, now: float) -> None:
        """Deltas that have waited long enough: ask for those before them."""
        while self._early:
            stamp, (_, sender, until) = next(iter(self._early.items()))
            if until > now:
                return
            del self._early[stamp]
            if sender in self._live:
                self._ask(sender, (stamp,), now)
