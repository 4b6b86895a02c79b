"""How much a node sends at once, and whom a busy one names."""

from app.swarm.admission import ALTERNATES_MAX, QUEUE_SECONDS_MAX, UNDER_WAY_MIN, Admission
from tests.swarm.members import Clock


def test_as_many_as_may_are_admitted_and_no_more() -> None:
    admission = Admission(uploads_max=6, rate_max=None, clock=Clock())
    assert [admission.admit(1) for _ in range(7)] == [True] * 6 + [False]
    admission.ended()
    assert admission.admit(1)


def paced(seconds: float) -> Admission:
    """One of whose uploads one ends each so many seconds."""
    clock = Clock()
    admission = Admission(uploads_max=100, rate_max=None, clock=clock)
    for _ in range(30):
        assert admission.admit(1)
        clock.now += seconds
        admission.ended()
    return admission


def test_no_more_is_admitted_than_is_sent_within_a_moment() -> None:
    admission = paced(QUEUE_SECONDS_MAX / 10)
    assert [admission.admit(1) for _ in range(12)].count(True) in (9, 10)


def test_a_slow_line_is_promised_to_few_but_not_to_nobody() -> None:
    admission = paced(10 * QUEUE_SECONDS_MAX)
    assert [admission.admit(1) for _ in range(UNDER_WAY_MIN + 1)] == [True] * UNDER_WAY_MIN + [False]


def test_a_limit_in_bytes_a_second_is_kept_over_time() -> None:
    clock = Clock()
    admission = Admission(uploads_max=100, rate_max=1000, clock=clock)
    sent = 0
    for _ in range(1000):
        clock.now += 0.01
        if admission.admit(100):
            sent += 100
            admission.ended()
    assert 9_500 <= sent <= 11_500, "10 s at 1,000 bytes a second, and a bucket of one second"


def test_a_busy_member_names_who_lately_got_the_chunk() -> None:
    admission = Admission(uploads_max=1, rate_max=None, clock=Clock())
    for name in "abcdefgh":
        admission.gave("c", 3, name)
    admission.gave("c", 3, "b")
    assert admission.alternates("c", 3, "x") == ["b", "h", "g", "f"][:ALTERNATES_MAX]
    assert "h" not in admission.alternates("c", 3, "h"), "nobody is sent to itself"
    assert admission.alternates("c", 4, "x") == []
