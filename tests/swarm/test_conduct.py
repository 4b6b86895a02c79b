"""In which order members are asked, and what is held against them, for how long."""

import random

import pytest

from app.swarm.ranking import (
    DENIAL_SECONDS,
    FAILURE_SECONDS,
    FAILURE_SECONDS_MAX,
    LIE_SECONDS,
    LOAD_SECONDS,
    Conduct,
)
from tests.swarm.members import Clock, member

A, B, FAR = member("a", "here"), member("b", "here"), member("far", "there")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def conduct(clock: Clock) -> Conduct:
    return Conduct(clock, random.Random(1))


def names(conduct: Conduct, *asked, what="chunk", across=True) -> list[str]:
    return [one.name for one in conduct.order(asked, what, zone="here", across=across)]


def test_members_of_the_same_zone_come_first_and_others_only_across_the_border(conduct: Conduct) -> None:
    assert names(conduct, FAR, A) == ["a", "far"]
    assert names(conduct, FAR, A, across=False) == ["a"]


def test_who_serves_us_least_right_now_comes_first(conduct: Conduct) -> None:
    conduct.begin(A)
    assert names(conduct, A, B) == ["b", "a"]
    conduct.end(A)
    assert {tuple(names(conduct, A, B)) for _ in range(50)} == {("a", "b"), ("b", "a")}, (
        "what is equal is left to chance"
    )


def test_a_failure_is_forgiven_and_failures_in_a_row_count_double(conduct: Conduct, clock: Clock) -> None:
    pause = FAILURE_SECONDS
    for _ in range(10):
        conduct.failed(A)
        assert names(conduct, A) == []
        assert conduct.failing() == {"a"}
        clock.now += pause - 0.01
        assert names(conduct, A) == []
        clock.now += 0.02
        assert names(conduct, A) == ["a"]
        pause = min(2 * pause, FAILURE_SECONDS_MAX)
    conduct.served(A)
    conduct.failed(A)
    clock.now += FAILURE_SECONDS + 0.01
    assert names(conduct, A) == ["a"], "who has served since begins anew"


def test_a_lie_is_remembered_longer(conduct: Conduct, clock: Clock) -> None:
    conduct.lied(A)
    clock.now += LIE_SECONDS - 1
    assert names(conduct, A) == []
    clock.now += 2
    assert names(conduct, A) == ["a"]


def test_who_does_not_have_something_is_still_asked_for_other_things(conduct: Conduct, clock: Clock) -> None:
    conduct.denied(A, "chunk")
    assert names(conduct, A) == []
    assert names(conduct, A, what="another") == ["a"]
    clock.now += DENIAL_SECONDS + 0.1
    assert names(conduct, A) == ["a"]


def test_a_slow_member_is_asked_after_the_others(conduct: Conduct) -> None:
    for _ in range(20):
        conduct.sent(B, 1 << 20, 0.01)
    conduct.sent(A, 1 << 20, 1.0)
    conduct.begin(B)
    assert names(conduct, A, B) == ["b", "a"]


def test_who_has_least_to_do_comes_first_as_long_as_its_word_is_fresh(conduct: Conduct, clock: Clock) -> None:
    for _ in range(20):
        conduct.has_to_do(A, 9)
        conduct.has_to_do(B, 1)
    assert {tuple(names(conduct, A, B)) for _ in range(20)} == {("b", "a")}
    clock.now += LOAD_SECONDS
    assert {tuple(names(conduct, A, B)) for _ in range(50)} == {("a", "b"), ("b", "a")}


def test_a_member_that_lags_comes_after_the_others_before_it_is_done(conduct: Conduct) -> None:
    conduct.sent(A, 1 << 20, 0.01)
    conduct.sent(B, 1 << 20, 0.01)
    assert conduct.usual_seconds(1 << 20) == pytest.approx(0.01)
    conduct.lags(A, 0, 0.3)
    assert names(conduct, A, B) == ["b", "a"]
