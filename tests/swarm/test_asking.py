"""Asking for one chunk, as conversations: who is asked next, given what the last ones answered."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from app.swarm.asking import Answer, Ask, AskUpstream, PutBack, Question, Role
from app.swarm.home import Roster, chunk_hash, homes, roster_of
from peerd_gossip import Member
from tests.swarm.members import members

CHUNK = 3
HASH = chunk_hash("content", CHUNK)


@dataclass
class Around:
    """What the question looks at, said by the test."""

    who: Roster
    known: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    failed: frozenset[str] = frozenset()
    gave_leave_to: str | None = None

    def roster(self) -> Roster:
        return self.who

    def failing(self) -> frozenset[str]:
        return self.failed

    def known_holders(self, _chunk):
        return self.known

    def whole_holders(self, _chunk):
        return self.whole

    def near_holders(self, _chunk):
        return self.near

    def lessee(self, _chunk):
        return self.gave_leave_to

    def in_order(self, asked, *, across):
        zones = {one.name: one.zone for one in self.who.members.members}
        return [name for name in asked if across or zones.get(name) == self.who.me.zone]


def seen_from(me: Member, everybody: list[Member]) -> Roster:
    return roster_of(me, [one for one in everybody if one != me])


def home_of(everybody: list[Member]) -> Member:
    return homes(seen_from(everybody[0], everybody), HASH)[-1]


def a_member(everybody: list[Member], *, home: bool = False) -> Member:
    """One that is, or is not, the chunk's home."""
    return next(one for one in everybody if (one == home_of(everybody)) == home)


def question(around: Around, *, awaited: bool = True, upstream: bool = True) -> Question:
    return Question(around, CHUNK, HASH, random.Random(1), lambda: awaited, upstream_allowed=upstream)


FIVE = members(5)
HOME = home_of(FIVE)
ME = a_member(FIVE)


def test_the_first_in_the_cluster_asks_the_home_has_leave_and_asks_upstream() -> None:
    asking = question(Around(seen_from(ME, FIVE)))
    assert asking.next() == Ask(HOME.name, Role.HOME)
    asking.answered(HOME.name, Answer.LEASE)
    while isinstance(step := asking.next(), Ask):
        assert step.role is Role.HOLDER, "it looks once more for somebody who has it"
        asking.answered(step.member, Answer.LACKS)
    assert step == AskUpstream()


def test_who_comes_second_is_sent_to_the_first() -> None:
    asking = question(Around(seen_from(ME, FIVE)))
    assert asking.next() == Ask(HOME.name, Role.HOME)
    first = next(one.name for one in FIVE if one not in (ME, HOME))
    asking.answered(HOME.name, Answer.TAKEN, [first])
    assert asking.next() == Ask(first, Role.HOLDER)


def test_when_the_first_dies_the_home_is_asked_again_and_told_who_failed() -> None:
    asking = question(Around(seen_from(ME, FIVE)))
    asking.next()
    first = next(one.name for one in FIVE if one not in (ME, HOME))
    asking.answered(HOME.name, Answer.TAKEN, [first])
    asking.next()
    asking.answered(first, Answer.FAILED)
    assert asking.next() == Ask(HOME.name, Role.HOME)
    assert asking.without() == {first}


def test_who_is_known_to_have_it_is_asked_before_the_home() -> None:
    asking = question(Around(seen_from(ME, FIVE), known=["node-4"], whole=["node-1"]))
    assert [asking.next(), asking.next()] == [Ask("node-4", role("node-4")), Ask("node-1", role("node-1"))]


def role(name: str) -> Role:
    """The home is asked as such, even where it is known to have the chunk."""
    return Role.HOME if name == HOME.name else Role.HOLDER


def test_a_busy_members_alternates_are_followed_and_then_the_chunk_is_put_back() -> None:
    others = [one.name for one in members(12) if one.name not in (ME.name, HOME.name)]
    everybody = members(12)
    me, home = a_member(everybody), home_of(everybody)
    others = [one.name for one in everybody if one not in (me, home)]
    asking = question(Around(seen_from(me, everybody), known=[others[0]]), awaited=False)
    step = asking.next()
    asked = []
    while isinstance(step, Ask):
        asked.append(step.member)
        asking.answered(step.member, Answer.BUSY, others[1:])
        step = asking.next()
    assert step == PutBack()
    assert len(asked) == len(set(asked)) <= 8


def test_what_a_client_waits_for_is_asked_for_again_after_a_moment() -> None:
    asking = question(Around(seen_from(ME, FIVE)))
    assert asking.next() == Ask(HOME.name, Role.HOME)
    asking.answered(HOME.name, Answer.COMING)
    again = asking.next()
    assert isinstance(again, Ask)
    assert again.member == HOME.name
    assert again.delay > 0


def test_a_home_that_gave_leave_does_not_go_upstream_itself() -> None:
    home = a_member(FIVE, home=True)
    asking = question(Around(seen_from(home, FIVE), gave_leave_to=ME.name))
    assert asking.next() == Ask(ME.name, Role.HOLDER)


def test_the_home_of_all_goes_upstream_when_nobody_has_it() -> None:
    home = a_member(FIVE, home=True)
    asking = question(Around(seen_from(home, FIVE)))
    step = asking.next()
    while isinstance(step, Ask):
        assert step.role is Role.HOLDER
        asking.answered(step.member, Answer.LACKS)
        step = asking.next()
    assert step == AskUpstream()


def test_where_upstream_may_not_be_asked_no_home_is() -> None:
    asking = question(Around(seen_from(ME, FIVE)), upstream=False)
    step = asking.next()
    while isinstance(step, Ask):
        assert step.role is Role.HOLDER
        asking.answered(step.member, Answer.LACKS)
        step = asking.next()
    assert step == AskUpstream()


def test_in_zones_leave_of_the_zones_home_leads_to_the_home_of_all() -> None:
    everybody = members(12, zones=3)
    all_home = home_of(everybody)
    me = next(
        one
        for one in everybody
        if one.zone != all_home.zone and homes(seen_from(one, everybody), HASH)[0].name != one.name
    )
    zone_home = homes(seen_from(me, everybody), HASH)[0]
    asking = question(Around(seen_from(me, everybody)))
    assert asking.next() == Ask(zone_home.name, Role.HOME)
    asking.answered(zone_home.name, Answer.LEASE)
    assert asking.next() == Ask(all_home.name, Role.HOME)


ANSWERS = [Answer.BUSY, Answer.COMING, Answer.LACKS, Answer.FAILED]
OF_A_HOME = [*ANSWERS, Answer.LEASE, Answer.TAKEN]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(1, 12),
    zones=st.integers(1, 3),
    awaited=st.booleans(),
    upstream=st.booleans(),
)
def test_every_question_ends_and_nobody_is_asked_twice_in_a_round(seed, count, zones, awaited, upstream) -> None:
    rng = random.Random(seed)
    everybody = members(count, zones=zones)
    me = rng.choice(everybody)
    others = [one.name for one in everybody if one != me]

    def some() -> list[str]:
        return rng.sample(others, min(len(others), rng.randrange(5)))

    around = Around(seen_from(me, everybody), known=some(), whole=some(), near=some())
    asking = question(around, awaited=awaited, upstream=upstream)
    asked_as_holder: set[str] = set()
    for _ in range(5_000):
        step = asking.next()
        if not isinstance(step, Ask):
            break
        assert step.member != me.name
        if step.delay:
            asked_as_holder.clear()
        if step.role is Role.HOLDER:
            assert step.member not in asked_as_holder
            asked_as_holder.add(step.member)
        answer = rng.choice(OF_A_HOME if step.role is Role.HOME else ANSWERS)
        asking.answered(step.member, answer, some())
    else:
        raise AssertionError("it goes on for ever")
    assert isinstance(step, AskUpstream | PutBack)
    if awaited:
        assert step == AskUpstream(), "what a client waits for is never put back"


def coming(asking: Question, member: str, received: list[int]) -> bool:
    """Whether `member` is still waited for after it said so often that the chunk is coming."""
    for count in received:
        step = asking.next()
        if not isinstance(step, Ask) or step.member != member:
            return False
        asking.answered(member, Answer.COMING, (), count)
    step = asking.next()
    return isinstance(step, Ask) and step.member == member


def test_a_fetch_that_gets_on_is_waited_for_however_long_it_takes() -> None:
    asking = question(Around(seen_from(ME, FIVE)))
    assert coming(asking, HOME.name, list(range(1, 500)))


def test_a_fetch_that_does_not_get_on_is_somebody_elses_turn_in_the_end() -> None:
    assert coming(question(Around(seen_from(ME, FIVE))), HOME.name, [7] * 5)
    asking = question(Around(seen_from(ME, FIVE)))
    assert not coming(asking, HOME.name, [7] * 20)
    assert HOME.name in asking.without()


def test_a_hedge_asks_another_that_has_it_once_and_does_not_move_the_question() -> None:
    others = [one.name for one in FIVE if one.name not in (ME.name, HOME.name)]
    asking = question(Around(seen_from(ME, FIVE), known=others[:2]))
    first = asking.next()
    assert isinstance(first, Ask)
    second = asking.hedge()
    assert {first.member, second} == set(others[:2])
    assert asking.hedge() is None
    asking.answered(first.member, Answer.FAILED)
    assert asking.next() == Ask(str(second), Role.HOLDER), "as if it had not been asked beside"


def test_a_hedge_stays_in_the_zone_of_who_may_not_cross_the_border() -> None:
    everybody = members(12, zones=3)
    zone_home = next(one for one in everybody if homes(seen_from(one, everybody), HASH)[0] == one)
    me = next(one for one in everybody if one.zone == zone_home.zone and one != zone_home)
    far = [one.name for one in everybody if one.zone != me.zone]
    assert question(Around(seen_from(me, everybody), known=far)).hedge() is None
