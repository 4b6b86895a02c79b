"""The last warnings and errors of the log, for people."""

import logging
from collections.abc import Iterator

import pytest

from app.observability.recent_errors import MESSAGE_LENGTH_MAX, REMEMBERED_MAX, RecentErrors

log = logging.getLogger("app.tests")


@pytest.fixture
def recent() -> Iterator[RecentErrors]:
    recent = RecentErrors()
    with recent.listening():
        yield recent


def test_the_newest_comes_first_and_equal_ones_are_counted(recent: RecentErrors) -> None:
    for text in ("one", "two", "one"):
        log.warning("%s failed", text)
    assert [(one.message, one.count) for one in recent.newest_first()] == [("one failed", 2), ("two failed", 1)]


def test_what_is_no_warning_is_not_remembered(recent: RecentErrors) -> None:
    log.info("all is well")
    assert recent.newest_first() == []


def test_an_exception_is_named(recent: RecentErrors) -> None:
    try:
        raise ValueError("no such chunk")
    except ValueError:
        log.exception("a fetch failed")
    assert recent.newest_first()[0].message == "a fetch failed: ValueError: no such chunk"


def test_credentials_are_cut_out(recent: RecentErrors) -> None:
    log.error("https://host/a?sv=1&sig=secret refused")
    assert "secret" not in recent.newest_first()[0].message


def test_only_so_much_is_remembered(recent: RecentErrors) -> None:
    for number in range(REMEMBERED_MAX + 5):
        log.error("%d %s", number, "x" * MESSAGE_LENGTH_MAX)
    kept = recent.newest_first()
    assert [int(one.message.split()[0]) for one in kept] == list(range(REMEMBERED_MAX + 4, 4, -1))
    assert {len(one.message) for one in kept} == {MESSAGE_LENGTH_MAX}


def test_nothing_is_heard_after_the_end() -> None:
    recent = RecentErrors()
    with recent.listening():
        pass
    log.error("too late")
    assert recent.newest_first() == []
