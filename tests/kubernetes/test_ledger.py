"""What is told when, on virtual time, against a server that fails in every way: nothing lost, nothing doubled."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kubernetes.ledger import (
    WRITE_SECONDS,
    WRITES_BURST,
    Answer,
    Changed,
    Exists,
    Gone,
    Invalid,
    Ledger,
    Post,
    Refused,
    Told,
    Unavailable,
)
from app.kubernetes.lifecycle import Occurrence, Reason

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
LOST = Unavailable("no answer")


@dataclass
class Server:
    """Events by name, with a version each, as the API server keeps them."""

    events: dict[str, Post] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    writes: list[float] = field(default_factory=list)
    clock: int = 0

    def carry_out(self, post: Post, now: float) -> Answer:
        there = post.name in self.events
        if not post.exists and there:
            return Exists()
        if post.exists and not there:
            return Gone()
        if post.exists and post.version is not None and post.version != str(self.versions[post.name]):
            return Changed()
        self.clock += 1
        self.events[post.name] = post
        self.versions[post.name] = self.clock
        self.writes.append(now)
        return Told(str(self.clock))

    def counts(self) -> Counter[Reason]:
        """How often each was said to have happened; fails where a reason has two events."""
        reasons = [post.occurrence.reason for post in self.events.values()]
        assert len(reasons) == len(set(reasons)), f"doubled: {reasons}"
        return Counter({post.occurrence.reason: post.count for post in self.events.values()})


class Run:
    """A ledger and a server on virtual time."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        self.ledger = Ledger(rng=random.Random(seed), now=self.now)
        self.server = Server()
        self.happened: Counter[Reason] = Counter()
        self.attempts = 0
        self.late: list[Post] = []

    def happens(self, *reasons: Reason) -> None:
        for reason in reasons:
            detail = f"number {self.happened[reason] + 1}"
            self.ledger.happened(Occurrence(reason, "Normal", detail), wall=MONDAY + timedelta(seconds=self.now))
            self.happened[reason] += 1

    def pass_seconds(self, seconds: float, fault: str = "none") -> None:
        """Let time pass, in which each attempt meets this fault."""
        end = self.now + seconds
        for _ in range(10_000):
            due = self.ledger.next_deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            post = self.ledger.next_post(now=self.now)
            assert post is not None, "its deadline has come and it has nothing"
            self.attempts += 1
            self.ledger.answered(post, self._answer(post, fault), now=self.now)
        else:
            pytest.fail("it never rests")
        self.now = end

    def _answer(self, post: Post, fault: str) -> Answer:
        match fault:
            case "none":
                return self.server.carry_out(post, self.now)
            case "away":
                return LOST
            case "answer lost":
                self.server.carry_out(post, self.now)
                return LOST
            case "held up":
                self.late.append(post)
                return LOST
            case "forbidden":
                return Refused("403")
            case "busy":
                return Unavailable("429", after=3.0)
            case "forgets":
                self.server.events.clear()
                return self.server.carry_out(post, self.now)
        raise AssertionError(fault)

    def settle(self) -> None:
        """The server is well, and time enough passes."""
        self.pass_seconds(3600.0)
        assert self.ledger.untold == frozenset()
        assert self.server.counts() == self.happened


def test_what_recurs_is_one_event_with_a_count() -> None:
    run = Run()
    for _ in range(3):
        run.happens(Reason.CONNECTED, Reason.DISCONNECTED)
        run.pass_seconds(5.0)
    (connected,) = (one for one in run.server.events.values() if one.occurrence.reason is Reason.CONNECTED)
    assert (connected.count, connected.occurrence.detail) == (3, "number 3")
    assert (connected.first, connected.last) == (MONDAY, MONDAY + timedelta(seconds=10))
    run.settle()


@pytest.mark.parametrize("fault", ["away", "answer lost", "busy"])
def test_a_minute_away_loses_nothing_and_doubles_nothing(fault: str) -> None:
    run = Run()
    run.happens(Reason.INITIALIZING)
    run.pass_seconds(1.0)
    run.pass_seconds(1.0, fault)
    run.happens(Reason.CONNECTED, Reason.ACTIVE)
    for _ in range(4):
        run.happens(Reason.DISCONNECTED, Reason.CONNECTED)
        run.pass_seconds(15.0, fault)
    assert 5 <= run.attempts <= 40, "neither given up nor hammered"
    run.pass_seconds(35.0)
    assert run.server.counts() == {
        Reason.INITIALIZING: 1,
        Reason.CONNECTED: 5,
        Reason.ACTIVE: 1,
        Reason.DISCONNECTED: 4,
    }
    run.settle()


def test_they_are_told_in_the_order_in_which_they_happened_last() -> None:
    run = Run()
    run.happens(Reason.INITIALIZING, Reason.CONNECTED, Reason.ACTIVE, Reason.DISCONNECTED, Reason.CONNECTED)
    run.pass_seconds(1.0)
    told = sorted(run.server.versions, key=run.server.versions.__getitem__)
    assert [run.server.events[name].occurrence.reason for name in told] == [
        Reason.INITIALIZING,
        Reason.ACTIVE,
        Reason.DISCONNECTED,
        Reason.CONNECTED,
    ]


def test_one_that_comes_and_goes_all_day_writes_seldom_and_loses_no_count() -> None:
    run = Run()
    for _ in range(2000):
        run.happens(Reason.DISCONNECTED, Reason.CONNECTED)
        run.pass_seconds(2.0)
    assert len(run.server.writes) <= WRITES_BURST + 4000.0 / WRITE_SECONDS
    run.settle()
    assert run.happened[Reason.CONNECTED] == 2000


def test_a_patch_that_was_held_up_can_not_undo_a_later_one() -> None:
    run = Run()
    run.happens(Reason.CONNECTED)
    run.pass_seconds(1.0)
    run.happens(Reason.CONNECTED)
    run.pass_seconds(0.0, "held up")
    run.happens(Reason.CONNECTED)
    run.pass_seconds(10.0)
    (late,) = run.late
    assert isinstance(run.server.carry_out(late, run.now), Changed)
    run.settle()


def test_an_event_that_the_server_no_longer_keeps_is_created_again_with_its_count() -> None:
    run = Run()
    run.happens(Reason.CONNECTED)
    run.pass_seconds(1.0)
    run.server.events.clear()
    run.happens(Reason.CONNECTED)
    run.pass_seconds(1.0)
    run.settle()


def test_one_that_is_forbidden_is_asked_every_few_minutes() -> None:
    run = Run()
    run.happens(Reason.INITIALIZING)
    run.pass_seconds(3000.0, "forbidden")
    assert 10 <= run.attempts <= 21
    run.settle()


def test_what_the_server_will_never_take_is_given_up() -> None:
    run = Run()
    run.happens(Reason.FAILED)
    post = run.ledger.next_post(now=0.0)
    assert post is not None
    run.ledger.answered(post, Invalid("422"), now=0.0)
    assert run.ledger.next_deadline() is None


def test_a_server_that_contradicts_itself_is_not_hammered() -> None:
    run = Run()
    run.happens(Reason.INITIALIZING)
    for _ in range(20):
        due = run.ledger.next_deadline()
        assert due is not None
        run.now = due
        post = run.ledger.next_post(now=run.now)
        assert post is not None
        run.ledger.answered(post, Gone() if post.exists else Exists(), now=run.now)
    assert run.now > 100.0


def test_what_happens_during_an_attempt_is_told_after_it() -> None:
    run = Run()
    run.happens(Reason.CONNECTED)
    post = run.ledger.next_post(now=0.0)
    assert post is not None
    run.happens(Reason.CONNECTED)
    run.ledger.answered(post, run.server.carry_out(post, 0.0), now=0.0)
    assert run.ledger.untold == {Reason.CONNECTED}
    run.pass_seconds(1.0)
    assert run.server.counts() == {Reason.CONNECTED: 2}


@pytest.mark.parametrize(("after", "waits"), [(20.0, 20.0), (1e9, 300.0)])
def test_a_server_that_says_when_it_wants_to_be_asked_again_is_asked_then(after: float, waits: float) -> None:
    run = Run()
    run.happens(Reason.CONNECTED)
    post = run.ledger.next_post(now=0.0)
    assert post is not None
    run.ledger.answered(post, Unavailable("429", after=after), now=0.0)
    assert run.ledger.next_deadline() == waits


def test_an_event_does_not_end_before_it_began_where_clocks_are_set_back() -> None:
    run = Run()
    run.happens(Reason.CONNECTED)
    run.ledger.happened(Occurrence(Reason.CONNECTED, "Normal", ""), wall=MONDAY - timedelta(days=1))
    post = run.ledger.next_post(now=0.0)
    assert post is not None
    assert (post.first, post.last) == (MONDAY, MONDAY)


def test_the_end_waits_for_no_rate_and_no_backoff() -> None:
    run = Run()
    for _ in range(WRITES_BURST * 2):
        run.happens(Reason.CONNECTED)
        run.pass_seconds(0.1)
    run.happens(Reason.DISCONNECTED)
    run.pass_seconds(3000.0, "away")
    run.ledger.close(now=run.now)
    run.pass_seconds(0.5)
    assert run.ledger.untold == frozenset()
    assert run.server.counts() == run.happened


FAULTS = ("none", "away", "answer lost", "forbidden", "busy", "forgets")
steps = st.one_of(
    st.tuples(st.just("happens"), st.sampled_from(list(Reason))),
    st.tuples(st.floats(0.0, 90.0), st.sampled_from(FAULTS)),
)


@given(seed=st.integers(0, 1 << 32), life=st.lists(steps, max_size=30))
def test_whatever_fails_the_server_knows_all_in_the_end(seed: int, life: list[tuple[object, object]]) -> None:
    run = Run(seed)
    for what, of in life:
        if isinstance(of, Reason):
            run.happens(of)
        else:
            assert isinstance(what, float)
            run.pass_seconds(what, str(of))
            assert all(run.server.counts()[reason] <= count for reason, count in run.happened.items())
    if any(of == "forgets" for _, of in life):
        run.happens(*run.happened)  # what is forgotten is told again when it recurs
    run.settle()
