"""Whatever is added, withdrawn, rebuilt, lost, doubled and reordered: no key that is held and settled is ever denied,
and replicas that have exchanged everything are equal.
"""

from __future__ import annotations

import random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from peerd_gossip.index import Index
from peerd_gossip.member import MemberId
from peerd_gossip.messages import Message, decode_frame, encode_frame
from peerd_gossip.replication import Replica
from peerd_gossip.store import FilterStore

REPLICAS = 4
_RNG = random.Random(11)
UNIVERSE = [_RNG.getrandbits(64) for _ in range(300)]
who = st.integers(0, REPLICAS - 1)
many = st.lists(st.sampled_from(UNIVERSE), unique=True, min_size=30, max_size=150)
few = st.lists(st.sampled_from(UNIVERSE), unique=True, max_size=6)


A_WHILE_S = 0.6
"""More than between two rounds of so few members."""


class Replicas(RuleBasedStateMachine):
    """Four replicas and a network that hypothesis makes as bad as it likes."""

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.now = 0.0
        self.life = 0
        self.rng = random.Random(seed)
        self.in_flight: list[tuple[MemberId, MemberId, Message]] = []
        self.replicas: list[Replica] = []
        self.indexes: list[Index] = []
        self.held: list[set[int]] = []
        for _ in range(REPLICAS):
            replica, index = self._born()
            self.replicas.append(replica)
            self.indexes.append(index)
            self.held.append(set())
        self._everybody_is_alive()

    def _born(self) -> tuple[Replica, Index]:
        self.life += 1
        me, index = MemberId(1000 + self.life), Index()
        rng = random.Random(self.rng.random())
        return Replica(me, store=FilterStore(me, index), now=self.now, rng=rng), index

    def _everybody_is_alive(self) -> None:
        live = {replica.me for replica in self.replicas}
        for replica in self.replicas:
            replica.members_changed(live, now=self.now)

    def _send(self) -> None:
        for replica in self.replicas:
            for target, message in replica.messages_to_send(now=self.now):
                assert decode_frame(encode_frame(message)) == message, "every message can be sent"
                self.in_flight.append((replica.me, target, message))

    def _deliver(self, sender: MemberId, target: MemberId, message: Message) -> None:
        for replica in self.replicas:
            if replica.me == target:
                replica.receive(message, sender, now=self.now)

    @rule(one=who, keys=many)
    def a_member_adds_so_many_keys_that_it_builds_anew(self, one: int, keys: list[int]) -> None:
        self._add(one, keys)

    @rule(one=who, keys=few)
    def a_member_adds_a_few_keys(self, one: int, keys: list[int]) -> None:
        self._add(one, keys)

    @rule(one=who, count=st.integers(1, 60), seed=st.integers(0, 99))
    def a_member_withdraws_keys(self, one: int, count: int, seed: int) -> None:
        self._withdraw(one, count, seed)

    @rule(one=who, count=st.integers(1, 3), seed=st.integers(0, 99))
    def a_member_withdraws_a_few_keys(self, one: int, count: int, seed: int) -> None:
        self._withdraw(one, count, seed)

    @rule(one=who, count=st.integers(1, 3), seed=st.integers(0, 99))
    def a_member_withdraws_a_few_keys_tells_it_and_adds_them_again(self, one: int, count: int, seed: int) -> None:
        keys = self._withdraw(one, count, seed)
        self.now += A_WHILE_S
        self._send()
        self._add(one, keys)

    def _add(self, one: int, keys: list[int]) -> None:
        self.held[one] |= set(keys)
        self.replicas[one].advertise(keys)

    def _withdraw(self, one: int, count: int, seed: int) -> list[int]:
        held = sorted(self.held[one])
        keys = random.Random(seed).sample(held, min(count, len(held)))
        self.held[one] -= set(keys)
        self.replicas[one].withdraw(keys)
        return keys

    @rule(seconds=st.floats(0.01, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._send()

    @precondition(lambda self: self.in_flight)
    @rule(seed=st.integers(0, 99), loss=st.sampled_from([0, 0.1, 0.5]), twice=st.sampled_from([0, 0.3]))
    def messages_arrive_in_any_order(self, seed: int, loss: float, twice: float) -> None:
        """Of all that is in flight about half: some are lost, some arrive and will again."""
        rng = random.Random(seed)
        rng.shuffle(self.in_flight)
        for _ in range(len(self.in_flight) // 2 + 1):
            message = self.in_flight.pop()
            if rng.random() < twice:
                self.in_flight.insert(0, message)
            if rng.random() >= loss:
                self._deliver(*message)

    @rule(one=who)
    def a_member_is_born_again(self, one: int) -> None:
        self.replicas[one], self.indexes[one] = self._born()
        self.held[one] = set()
        self._everybody_is_alive()

    @rule(one=who, other=who)
    def a_member_is_away_for_another_and_back(self, one: int, other: int) -> None:
        if one != other:
            everybody = {replica.me for replica in self.replicas}
            self.replicas[one].members_changed(everybody - {self.replicas[other].me}, now=self.now)
            self.replicas[one].members_changed(everybody, now=self.now)

    @rule()
    def everything_is_exchanged(self) -> None:
        for _ in range(200):
            self.now += A_WHILE_S
            self._send()
            while self.in_flight:
                self._deliver(*self.in_flight.pop(0))
                self._send()
            if all(replica.versions() == self.replicas[0].versions() for replica in self.replicas) and not any(
                replica.missing for replica in self.replicas
            ):
                break
        else:
            raise AssertionError(f"not equal after a minute without faults: {self.replicas}")
        self._nobody_denies_what_is_held()
        self._equal_versions_are_equal_filters()

    def _nobody_denies_what_is_held(self) -> None:
        for one in range(REPLICAS):
            for other in range(REPLICAS):
                if one != other:
                    for key in self.held[other]:
                        assert self.replicas[other].me in self.indexes[one].holders(key)

    def _equal_versions_are_equal_filters(self) -> None:
        for replica in self.replicas:
            copies = [bloom for index in self.indexes if (bloom := index.bloom(replica.me)) is not None]
            assert len(copies) == REPLICAS - 1
            assert all(bloom == copies[0] for bloom in copies)

    def teardown(self) -> None:
        if hasattr(self, "replicas"):
            self.everything_is_exchanged()


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
