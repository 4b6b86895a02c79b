"""Conversations between replicas, message by message, on a clock that the test turns."""

from __future__ import annotations

import random

import pytest

from peerd_gossip.bloom import Bloom
from peerd_gossip.happened import Departed, FilterLearned, FilterRefused
from peerd_gossip.index import Index
from peerd_gossip.limits import Limits
from peerd_gossip.member import MemberId
from peerd_gossip.messages import (
    BUCKETS,
    EPOCH_MAX,
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
from peerd_gossip.replication import Replica
from peerd_gossip.store import FilterStore, image_of

ME, A, B, C = (MemberId(i) for i in (1, 2, 3, 4))
KEY = 0x0123456789ABCDEF
QUIET = Limits(exchange_s=1e6, partner_s=1e6)
"""No push/pull of its own: what is sent, is sent for a reason that the test gives."""


class One:
    """A replica with its index, and a clock."""

    def __init__(self, *live: MemberId, me: MemberId = ME, limits: Limits = QUIET) -> None:
        self.now = 0.0
        self.index = Index()
        self.replica = Replica(me, store=FilterStore(me, self.index), now=0.0, rng=random.Random(1), limits=limits)
        self.replica.members_changed(set(live), now=0.0)
        for seconds in (1, 2, 3):  # the news of the start is told, and old
            self.now = seconds
            self.replica.messages_to_send(now=self.now)
        self.replica._next_exchange += 1e6

    def hears(self, sender: MemberId, message: Message) -> list[tuple[MemberId, Message]]:
        self.replica.receive(message, sender, now=self.now)
        return self.says()

    def says(self, *, after: float = 0.0) -> list[tuple[MemberId, Message]]:
        self.now += after
        return self.replica.messages_to_send(now=self.now)


def whole(member: MemberId, *keys: int, epoch: int = 1, version: int = 0) -> FilterImage:
    return image_of(Stamp(member, epoch, version), keys, 10)


def test_news_that_is_told_is_asked_for_and_taken_in() -> None:
    one = One(A)
    assert one.hears(A, Rumours(haves=(Stamp(A, 1, 0),))) == [(A, Want((Stamp(A, 0, 0),)))]
    one.hears(A, Answer(filters=(whole(A, KEY),)))
    assert one.index.holders(KEY) == [A]
    assert one.replica.events() == [FilterLearned(A)]


def test_what_was_asked_of_one_is_not_asked_of_another_until_time_is_up() -> None:
    one = One(A, B)
    news = Rumours(haves=(Stamp(A, 1, 0),))
    assert (A, Want((Stamp(A, 0, 0),))) in one.hears(A, news)
    assert one.hears(B, news) == []
    one.now += QUIET.want_s
    assert one.hears(B, news) == [(B, Want((Stamp(A, 0, 0),)))]


def test_who_asks_gets_the_steps_it_lacks_or_the_whole_filter() -> None:
    one = One(A)
    for key in range(3):
        one.replica.advertise([key])
        one.says(after=1)
    steps = tuple(Delta(Stamp(ME, 1, version), (version - 1,)) for version in (2, 3))
    assert one.hears(A, Want((Stamp(ME, 1, 1),))) == [(A, Answer(deltas=steps))]
    assert one.hears(A, Want((Stamp(ME, 0, 0),))) == [(A, Answer(filters=(whole(ME, 0, 1, 2, version=3),)))]
    assert one.hears(A, Want((Stamp(ME, 1, 3),))) == []
    assert one.hears(A, Want((Stamp(B, 0, 0),))) == []


def test_a_new_key_is_told_at_once_when_it_is_quiet_and_to_each_a_few_times() -> None:
    one = One(A)
    one.replica.advertise([KEY])
    told = (A, Rumours(deltas=(Delta(Stamp(ME, 1, 1), (KEY,)),)))
    assert one.says(after=10) == [told]
    assert one.says() == []
    between = QUIET.interval_between(1)
    assert one.replica.next_deadline() == pytest.approx(one.now + between)
    assert one.says(after=between) == [told]
    assert one.says(after=between) == []


@pytest.mark.parametrize(("others", "rounds"), [(1, 2), (7, 2), (24, 2), (25, 3), (199, 4), (999, 5), (2999, 5)])
def test_news_is_everywhere_after_the_same_second_in_any_cluster(others: int, rounds: int) -> None:
    """One that has told 4 others is one of 5 that tell it in the next round."""
    assert 5**rounds > others or others > 1000
    assert rounds * Limits().interval_between(others) == pytest.approx(1.0)


def test_what_is_new_is_passed_on_and_what_is_old_is_not() -> None:
    one = One(A, B)
    one.hears(A, Answer(filters=(whole(A),)))
    one.says(after=1), one.says(after=1)
    delta = Delta(Stamp(A, 1, 1), (KEY,))
    said = one.hears(A, Rumours(deltas=(delta,)))
    assert (B, Rumours(deltas=(delta,))) in said
    one.says(after=1)
    assert one.says(after=1) == []
    assert one.hears(B, Rumours(deltas=(delta,))) == []


def test_a_long_delta_is_told_by_its_stamp() -> None:
    one = One(A)
    one.replica.advertise(range(10))
    assert one.says(after=1) == [(A, Rumours(haves=(Stamp(ME, 1, 1),)))]


def test_deltas_that_come_out_of_order_are_applied_in_order() -> None:
    one = One(A)
    one.hears(A, Answer(filters=(whole(A),)))
    first, second = Delta(Stamp(A, 1, 1), (KEY,)), Delta(Stamp(A, 1, 2), (), (KEY,))
    one.hears(A, Rumours(deltas=(second,)))
    assert one.replica.versions().get(A) == Stamp(A, 1, 0)
    one.hears(A, Rumours(deltas=(first,)))
    assert one.replica.versions().get(A) == Stamp(A, 1, 2)
    assert one.index.holders(KEY) == []


def test_a_delta_whose_forerunner_does_not_come_has_it_asked_for() -> None:
    one = One(A)
    one.hears(A, Answer(filters=(whole(A),)))
    one.says(after=1), one.says(after=1)
    assert one.hears(A, Rumours(deltas=(Delta(Stamp(A, 1, 2), (KEY,)),))) == []
    assert one.replica.next_deadline() == pytest.approx(one.now + QUIET.early_s)
    assert one.says(after=QUIET.early_s) == [(A, Want((Stamp(A, 1, 0),)))]


def test_a_delta_of_a_later_epoch_has_the_filter_asked_for() -> None:
    one = One(A)
    one.hears(A, Answer(filters=(whole(A),)))
    one.says(after=1), one.says(after=1)
    assert one.hears(A, Rumours(deltas=(Delta(Stamp(A, 2, 5), (KEY,)),))) == [(A, Want((Stamp(A, 1, 0),)))]


def test_a_filter_of_an_older_version_changes_nothing() -> None:
    one = One(A)
    one.hears(A, Answer(filters=(whole(A, KEY, epoch=3, version=7),)))
    one.hears(A, Answer(filters=(whole(A, epoch=3, version=6), whole(A, epoch=2, version=9))))
    assert one.index.holders(KEY) == [A]
    assert one.replica.versions().get(A) == Stamp(A, 3, 7)


def test_push_and_pull_brings_two_members_to_the_same_versions() -> None:
    """Digest, Versions, then each gives and asks."""
    one, other = One(A, B, C), One(ME, B, C, me=A)
    one.hears(B, Answer(filters=(whole(B, KEY, version=4),)))
    other.hears(C, Answer(filters=(whole(C, KEY),)))
    other.hears(B, Answer(filters=(whole(B, version=1),)))
    for either in (one, other):
        either.says(after=1), either.says(after=1)
    digest = Digest(one.replica.versions().sums())
    [(to, versions)] = other.hears(ME, digest)
    assert to == ME
    assert isinstance(versions, Versions)
    assert set(versions.stamps) == {Stamp(A, 1, 0), Stamp(B, 1, 1), Stamp(C, 1, 0)}
    pending = [(A, message) for to, message in one.hears(A, versions) if to == A]
    kinds = set()
    while pending:
        to, message = pending.pop(0)
        kinds.add(type(message))
        speaker, hearer = (A, one) if to == ME else (ME, other)
        pending += [(t, m) for t, m in hearer.hears(speaker, message) if t in (ME, A)]
    assert kinds >= {Want, Answer}
    assert one.replica.versions() == other.replica.versions()
    assert set(one.index.holders(KEY)) == set(other.index.holders(KEY)) == {B, C}


def test_equal_members_have_nothing_to_say_to_a_digest() -> None:
    one, other = One(A), One(ME, me=A)
    one.hears(A, Answer(filters=(whole(A),)))
    other.hears(ME, Answer(filters=(whole(ME),)))
    one.says(after=1), one.says(after=1)
    assert one.hears(A, Digest(other.replica.versions().sums())) == []


def test_one_who_joins_asks_only_so_many_filters_of_one_member() -> None:
    others = [MemberId(i) for i in range(10, 10 + 300)]
    one = One(*others)
    one.says()
    stamps = tuple(Stamp(member, 1, 0) for member in others)
    [(to, want)] = [(to, m) for to, m in one.hears(others[0], Versions(2**64 - 1, stamps)) if isinstance(m, Want)]
    assert to == others[0]
    assert len(want.have) == QUIET.want_filters
    [(to, more)] = [(to, m) for to, m in one.hears(others[1], Versions(2**64 - 1, stamps)) if isinstance(m, Want)]
    assert {s.member for s in more.have}.isdisjoint(s.member for s in want.have), "others are asked of the next"


def test_an_answer_is_cut_into_messages_and_never_more_than_a_few() -> None:
    limits = Limits(exchange_s=1e6, partner_s=1e6, answer_bytes=1000, answers=3)
    members = [MemberId(i) for i in range(10, 60)]
    one = One(A, *members, limits=limits)
    one.hears(A, Answer(filters=tuple(whole(member, KEY) for member in members)))
    one.says(after=1)
    answers = [m for _, m in one.hears(A, Want(tuple(Stamp(m, 0, 0) for m in members))) if isinstance(m, Answer)]
    assert [len(answer.filters) for answer in answers] == [8, 8, 8], "128 bytes each"


def test_a_member_that_fails_is_out_of_the_index_and_in_again_when_it_comes_back() -> None:
    one = One(A, B)
    one.hears(A, Answer(filters=(whole(A, KEY),)))
    one.replica.members_changed({B}, now=10)
    assert (one.index.holders(KEY), one.replica.versions().get(A)) == ([], None)
    one.replica.members_changed({A, B}, now=20)
    assert (one.index.holders(KEY), one.replica.versions().get(A)) == ([A], Stamp(A, 1, 0))


def test_the_filter_of_a_member_that_stays_away_is_forgotten() -> None:
    one = One(A, B, limits=Limits())
    one.hears(A, Answer(filters=(whole(A, KEY),)))
    one.replica.members_changed({B}, now=10)
    one.replica._next_exchange = 0
    one.replica.messages_to_send(now=11 + Limits().away_s)
    one.replica.members_changed({A, B}, now=12 + Limits().away_s)
    assert one.index.holders(KEY) == []
    assert one.replica.missing == 2


def test_a_farewell_ends_a_life_for_good_and_is_passed_on() -> None:
    one = One(A, B)
    one.hears(A, Answer(filters=(whole(A, KEY),)))
    one.says(after=1), one.says(after=1)
    farewell = Delta(Stamp(A, 1, 1), farewell=True)
    assert one.hears(A, Rumours(deltas=(farewell,))) == [(B, Rumours(deltas=(farewell,)))]
    assert Departed(A) in one.replica.events()
    assert one.index.holders(KEY) == []
    one.replica.members_changed({A, B}, now=one.now)  # an engine that has not noticed yet
    one.hears(B, Answer(filters=(whole(A, KEY),)))
    assert one.index.holders(KEY) == []


def test_who_leaves_says_so_to_its_partners_and_then_nothing() -> None:
    one = One(A, B)
    one.replica.leave()
    assert sorted(one.says()) == [(to, Rumours(deltas=(Delta(Stamp(ME, 1, 1), farewell=True),))) for to in (A, B)]
    assert one.hears(A, Want((Stamp(ME, 0, 0),))) == []


def test_one_who_is_no_live_member_is_not_listened_to() -> None:
    one = One(A)
    assert one.hears(B, Answer(filters=(whole(A, KEY),))) == []
    assert one.index.holders(KEY) == []
    assert one.replica.counters.from_strangers == 1


def test_nobody_else_makes_this_members_versions() -> None:
    one = One(A)
    one.replica.advertise([KEY])
    one.says(after=1), one.says(after=1)
    said = one.hears(A, Rumours(haves=(Stamp(ME, 700, 3),))) + one.says(after=1)
    assert said == [(A, Rumours(haves=(Stamp(ME, 701, 0),)))]
    assert one.hears(A, Rumours(haves=(Stamp(ME, EPOCH_MAX, 3),))) + one.says(after=1) == [
        (A, Rumours(haves=(Stamp(ME, 701, 0),)))
    ], "an epoch that nothing can follow is ignored; the second telling of the one before is all"


def test_a_filter_that_claims_everything_is_set_aside_until_there_is_a_new_one() -> None:
    one = One(A, B)
    liar = FilterImage(Stamp(A, 1, 0), 10, 10**6, b"\xff" * 128)
    one.hears(A, Answer(filters=(liar,)))
    assert one.replica.events() == [FilterRefused(A, "claims_everything")]
    assert one.index.holders(KEY) == []
    one.says(after=1), one.says(after=1)
    assert one.hears(B, Rumours(haves=(Stamp(A, 1, 0),))) == [], "it is not asked for again"
    one.hears(A, Rumours(deltas=(Delta(Stamp(A, 1, 1), (KEY,)),)))
    assert one.index.holders(KEY) == [], "nor mended by what follows it"
    one.hears(A, Answer(filters=(whole(A, KEY, epoch=2),)))
    assert one.index.holders(KEY) == [A]


def test_filters_grow_and_shrink_and_still_know_their_keys() -> None:
    one, other = One(A), One(ME, me=A)
    rng = random.Random(4)
    keys = [rng.getrandbits(64) for _ in range(3000)]
    for step in range(0, 3000, 500):
        one.replica.advertise(keys[step : step + 500])
        for to, message in one.says(after=1):
            for _, want in other.hears(ME, message):
                for _, found in one.hears(to, want):
                    other.hears(ME, found)
    assert all(other.index.holders(key) == [ME] for key in keys)
    one.replica.withdraw(keys[100:])
    for _, message in one.says(after=1):
        for _, want in other.hears(ME, message):
            for _, found in one.hears(A, want):
                other.hears(ME, found)
    bloom = other.index.bloom(ME)
    assert isinstance(bloom, Bloom)
    assert (bloom.size_log2, bloom.keys) == (11, 100)


def test_sums_have_a_bucket_for_every_member() -> None:
    one = One(A)
    before = one.replica.versions().sums()
    one.hears(A, Answer(filters=(whole(A),)))
    after = one.replica.versions().sums()
    assert [place for place in range(BUCKETS) if before[place] != after[place]] == [A % BUCKETS]
