"""The index answers as its filters would, one after the other, whatever came and went before."""

from __future__ import annotations

import random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from peerd_gossip._rows import FRESH_MAX, RowTable
from peerd_gossip.bloom import Bloom, probes
from peerd_gossip.index import Index
from peerd_gossip.member import MemberId

_RNG = random.Random(5)
UNIVERSE = [_RNG.getrandbits(64) for _ in range(60)]
MEMBERS = [MemberId(i) for i in range(40)]
members = st.sampled_from(MEMBERS)
keys = st.lists(st.sampled_from(UNIVERSE), unique=True, max_size=20)
sizes = st.sampled_from([10, 11, 13])


class IndexAgainstItsFilters(RuleBasedStateMachine):
    """Beside the index: a set of keys for each member, and a filter of its own."""

    @initialize()
    def start(self) -> None:
        self.index = Index()
        self.held: dict[MemberId, set[int]] = {}
        self.blooms: dict[MemberId, Bloom] = {}

    @rule(member=members, keys=keys, size=sizes)
    def a_filter_comes(self, member: MemberId, keys: list[int], size: int) -> None:
        self.held[member] = set(keys)
        self.blooms[member] = Bloom.of(keys, size)
        assert self.index.put([(member, Bloom.of(keys, size))]) == {}

    @rule(size=sizes, seed=st.integers(0, 1000), count=st.integers(1, len(MEMBERS)))
    def many_filters_come_at_once(self, size: int, seed: int, count: int) -> None:
        rng = random.Random(seed)
        filters = []
        for member in rng.sample(MEMBERS, count):
            keys = rng.sample(UNIVERSE, rng.randrange(20))
            self.held[member] = set(keys)
            self.blooms[member] = Bloom.of(keys, size)
            filters.append((member, Bloom.of(keys, size)))
        assert self.index.put(filters) == {}

    @rule(member=members, keys=keys, split=st.integers(0, 20))
    def a_delta_comes(self, member: MemberId, keys: list[int], split: int) -> None:
        if member in self.held:
            added = tuple(key for key in keys[:split] if key not in self.held[member])
            withdrawn = tuple(key for key in keys[split:] if key in self.held[member])
            self.held[member] |= set(added)
            self.held[member] -= set(withdrawn)
            self.blooms[member].apply(added, withdrawn)
            assert self.index.apply(member, added, withdrawn) is None

    @rule(member=members)
    def a_member_goes(self, member: MemberId) -> None:
        self.held.pop(member, None)
        self.blooms.pop(member, None)
        self.index.drop(member)

    @invariant()
    def it_answers_as_the_filters_do(self) -> None:
        for key in UNIVERSE[::12]:
            found = self.index.holders(key)
            assert len(found) == len(set(found))
            assert set(found) == {member for member, bloom in self.blooms.items() if bloom.may_hold(key)}
            assert set(found) >= {member for member, held in self.held.items() if key in held}

    @invariant()
    def it_counts_right(self) -> None:
        assert self.index.keys == sum(map(len, self.held.values()))
        assert len(self.index) == len(self.held)


TestIndexAgainstItsFilters = IndexAgainstItsFilters.TestCase
TestIndexAgainstItsFilters.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TableInTheMiddleOfAPass(RuleBasedStateMachine):
    """A table that makes its passes a hundred rows at a time, so that everything happens in the middle of one."""

    @initialize()
    def start(self) -> None:
        self.table = RowTable(10, rows_at_once=100)
        self.blooms: dict[MemberId, Bloom] = {}

    @rule(some=st.lists(members, unique=True, min_size=1, max_size=FRESH_MAX + 3), seed=st.integers(0, 1000))
    def filters_come(self, some: list[MemberId], seed: int) -> None:
        rng = random.Random(seed)
        new = {member: Bloom.of(rng.sample(UNIVERSE, rng.randrange(20)), 10) for member in some}
        self.blooms |= new
        self.table.put(new.items())

    @rule(member=members, keys=keys)
    def bits_come(self, member: MemberId, keys: list[int]) -> None:
        if member in self.blooms:
            self.table.add(member, self.blooms[member].apply(keys, ()))

    @rule(member=members)
    def a_member_goes(self, member: MemberId) -> None:
        self.blooms.pop(member, None)
        self.table.drop(member)

    @invariant()
    def it_answers_as_the_filters_do(self) -> None:
        for key in UNIVERSE[::12]:
            found = self.table.find(probes(key))
            assert sorted(found) == sorted(member for member, bloom in self.blooms.items() if bloom.may_hold(key))

    @invariant()
    def few_are_asked_by_themselves_unless_a_pass_is_on_its_way(self) -> None:
        assert self.table._pass is not None or len(self.table._fresh) <= FRESH_MAX


TestTableInTheMiddleOfAPass = TableInTheMiddleOfAPass.TestCase
TestTableInTheMiddleOfAPass.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_columns_are_turned_right_in_lanes_far_apart() -> None:
    """Slots that are free again lie anywhere: fresh filters of one pass then go to several lanes of eight."""
    rng = random.Random(1)
    table = RowTable(10)
    blooms = {MemberId(i): Bloom.of([rng.getrandbits(64) for _ in range(20)], 10) for i in range(300)}
    table.put(blooms.items())
    for i in (3, 4, 40, 41, 130, 260, 299):
        table.drop(MemberId(i))
        del blooms[MemberId(i)]
    for generation in range(1, 4):
        new = {MemberId(1000 * generation + i): Bloom.of([rng.getrandbits(64)], 10) for i in range(FRESH_MAX + 1)}
        table.put(new.items())
        blooms |= new
    for _ in range(2000):
        key = rng.getrandbits(64)
        assert sorted(table.find(probes(key))) == sorted(m for m, bloom in blooms.items() if bloom.may_hold(key))


def test_a_filter_that_claims_everything_is_set_aside_whole_or_by_a_delta() -> None:
    index = Index()
    liar, honest = MemberId(1), MemberId(2)
    everything = Bloom(10, bytearray(b"\xff" * 128), 10_000)
    assert index.put([(liar, everything), (honest, Bloom.of([1], 10))]) == {liar: "claims_everything"}
    assert index.holders(1) == [honest]
    rng = random.Random(3)
    reasons = [index.apply(honest, tuple(rng.getrandbits(64) for _ in range(100)), ()) for _ in range(2)]
    assert None in reasons
    while honest in index:
        reasons.append(index.apply(honest, tuple(rng.getrandbits(64) for _ in range(100)), ()))
    assert reasons[-1] == "claims_everything"
    assert index.holders(1) == []


def test_memory_is_bounded() -> None:
    index = Index(bytes_max=1 << 20)
    refused = index.put((MemberId(i), Bloom.empty(20)) for i in range(100))
    assert set(refused.values()) == {"index_full"}
    assert 0 < len(index) < 10
    assert index.bytes_used <= 1 << 20
