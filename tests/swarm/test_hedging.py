"""When a member is slow, and when it has stalled."""

import pytest

from app.swarm.hedging import LOOK_SECONDS, SLOW_SECONDS_MIN, SLOW_TIMES, STALL_SECONDS, Verdict, Watch

REPLACED_WITHIN_SECONDS = 1.5


def looked_at(watch: Watch, received: list[int], *, every: float = LOOK_SECONDS) -> list[Verdict]:
    """What was made of it at each look, `received` bytes being there by then."""
    return [watch.look(count, (number + 1) * every) for number, count in enumerate(received)]


def test_a_member_that_sends_nothing_is_left_within_a_second_and_a_half() -> None:
    verdicts = looked_at(Watch(None, 0.0), [0] * 15)
    assert STALL_SECONDS * 0.9 <= (verdicts.index(Verdict.STALLED) + 1) * LOOK_SECONDS <= REPLACED_WITHIN_SECONDS


def test_it_is_left_that_soon_as_well_when_it_stalls_in_the_middle() -> None:
    verdicts = looked_at(Watch(None, 0.0), [*range(1, 21), *[20] * 15])
    assert verdicts.index(Verdict.STALLED) - 20 < REPLACED_WITHIN_SECONDS / LOOK_SECONDS


def test_a_member_that_sends_little_but_often_is_slow_and_has_not_stalled() -> None:
    verdicts = looked_at(Watch(0.1, 0.0), list(range(1, 100)))
    assert Verdict.STALLED not in verdicts
    assert verdicts[-1] is Verdict.SLOW


@pytest.mark.parametrize(
    ("usual", "after"), [(0.001, SLOW_SECONDS_MIN), (0.2, SLOW_TIMES * 0.2), (None, STALL_SECONDS)]
)
def test_slow_is_what_takes_several_times_as_long_as_usual(usual: float | None, after: float) -> None:
    verdicts = looked_at(Watch(usual, 0.0), list(range(1, 30)))
    assert (verdicts.index(Verdict.SLOW) + 1) * LOOK_SECONDS == pytest.approx(after, abs=LOOK_SECONDS)


def test_a_loop_that_was_late_itself_holds_that_against_nobody() -> None:
    watch = Watch(0.05, 0.0)
    assert watch.look(0, 30.0) is not Verdict.STALLED, "nobody looked for half a minute"
    assert watch.waited <= 2 * LOOK_SECONDS
