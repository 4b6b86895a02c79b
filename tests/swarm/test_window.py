"""How many chunks a node has upstream send at once."""

from hypothesis import given
from hypothesis import strategies as st

from app.swarm.window import AT_ONCE_MAX, AT_ONCE_MIN, IDLE_SECONDS, TOGETHER, Window


def room(window: Window, others: int = 0) -> int:
    """How many more may be asked for now."""
    begun = 0
    while window.has_room(others):
        window.begin(0.0)
        begun += 1
    for _ in range(begun):
        window.end(0.0, came=False)
    return begun


def grown() -> Window:
    window = Window()
    for _ in range(AT_ONCE_MAX):
        window.begin(0.0)
        window.end(0.0, came=True)
    return window


def test_it_begins_with_two_and_has_room_for_one_more_with_each_that_came() -> None:
    window = Window()
    rooms = [room(window)]
    for _ in range(10):
        window.begin(0.0)
        window.end(0.0, came=True)
        rooms.append(room(window))
    assert rooms == [2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]


def test_what_did_not_come_is_no_reason_to_ask_for_more() -> None:
    window = Window()
    window.begin(0.0)
    window.end(0.0, came=False)
    assert room(window) == 2


def test_one_that_knows_of_others_has_its_share() -> None:
    assert [room(grown(), others) for others in (0, 1, 2, 3, 7, 999)] == [8, 4, 2, 2, 2, 2]


def test_after_an_idle_moment_it_begins_anew() -> None:
    window = grown()
    window.begin(IDLE_SECONDS)
    assert room(window) == AT_ONCE_MAX - 1
    window.end(IDLE_SECONDS, came=False)
    window.begin(2.1 * IDLE_SECONDS)
    assert room(window) == AT_ONCE_MIN - 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_a_crowd_asks_for_no_more_than_its_share_and_one_may_always_be_asked_for(steps: list[tuple[bool, int]]) -> None:
    window, under_way = Window(), 0
    for begins, others in steps:
        if begins and window.has_room(others):
            assert under_way < max(AT_ONCE_MIN, TOGETHER // (1 + others))
            window.begin(0.0)
            under_way += 1
        elif under_way:
            window.end(0.0, came=True)
            under_way -= 1
        assert under_way or window.has_room(others)
