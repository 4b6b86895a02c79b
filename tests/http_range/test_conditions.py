"""Conditional requests, one row for each clause of RFC 9110, section 13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routes.conditions import if_match_holds, if_none_match_holds, if_range_holds

CHANGED = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("header", "etag", "holds"),
    [
        pytest.param(None, '"a"', True, id="no header, no condition"),
        pytest.param("*", '"a"', True, id="* holds where there is anything (13.1.1)"),
        pytest.param("*", None, True, id="* holds for a content that has no tag"),
        pytest.param('"a"', '"a"', True, id="the same tag"),
        pytest.param('"b"', '"a"', False, id="another tag"),
        pytest.param('"b", "a"', '"a"', True, id="one of several"),
        pytest.param('"b","c"', '"a"', False, id="none of several"),
        pytest.param('W/"a"', '"a"', False, id="comparison is strong: a weak tag never matches (8.8.3.2)"),
        pytest.param('W/"a"', 'W/"a"', False, id="not even itself"),
        pytest.param('"a"', 'W/"a"', False, id="nor a strong one"),
        pytest.param('"a"', None, False, id="a content without a tag matches none"),
        pytest.param('"x, "a"', '"a"', False, id="a tag inside another is none"),
        pytest.param("a", '"a"', False, id="quotes are part of a tag"),
    ],
)
def test_if_match(header: str | None, etag: str | None, holds: bool) -> None:
    assert if_match_holds(header, etag) is holds


@pytest.mark.parametrize(
    ("header", "etag", "holds"),
    [
        pytest.param(None, '"a"', True, id="no header, no condition"),
        pytest.param("*", '"a"', False, id="* fails where there is anything (13.1.2)"),
        pytest.param("*", None, False, id="* fails for a content that has no tag"),
        pytest.param('"a"', '"a"', False, id="the client has it"),
        pytest.param('"b"', '"a"', True, id="the client has another"),
        pytest.param('"b", "a"', '"a"', False, id="the client has it among others"),
        pytest.param('W/"a"', '"a"', False, id="comparison is weak (8.8.3.2)"),
        pytest.param('"a"', 'W/"a"', False, id="in both directions"),
        pytest.param('W/"a"', 'W/"a"', False, id="weak and weak"),
        pytest.param('"a"', None, True, id="a content without a tag matches none"),
    ],
)
def test_if_none_match(header: str | None, etag: str | None, holds: bool) -> None:
    assert if_none_match_holds(header, etag) is holds


@pytest.mark.parametrize(
    ("header", "etag", "last_modified", "holds"),
    [
        pytest.param(None, '"a"', CHANGED, True, id="no header, no condition"),
        pytest.param('"a"', '"a"', None, True, id="the same tag"),
        pytest.param('"b"', '"a"', None, False, id="another tag: Range is ignored (13.1.5)"),
        pytest.param('W/"a"', 'W/"a"', None, False, id="a weak tag never holds"),
        pytest.param('W/"a"', '"a"', None, False, id="not against a strong one"),
        pytest.param('"a"', None, CHANGED, False, id="a tag where there is none"),
        pytest.param(CHANGED, '"a"', CHANGED, True, id="the exact time"),
        pytest.param(
            "Wednesday, 21-Oct-15 07:28:00 GMT", None, CHANGED, True, id="the exact time in an old form (5.6.7)"
        ),
        pytest.param("Wed, 21 Oct 2015 07:28:01 GMT", None, CHANGED, False, id="a later time is another version"),
        pytest.param("Wed, 21 Oct 2015 07:27:59 GMT", None, CHANGED, False, id="so is an earlier one"),
        pytest.param(CHANGED, '"a"', None, False, id="a time where there is none"),
        pytest.param("yesterday", None, CHANGED, False, id="what is no time"),
        pytest.param("", None, CHANGED, False, id="what is nothing"),
    ],
)
def test_if_range(header: str | None, etag: str | None, last_modified: str | None, holds: bool) -> None:
    assert if_range_holds(header, etag, last_modified) is holds


@given(header=st.text(max_size=40), last_modified=st.text(max_size=40))
def test_whatever_is_sent_is_judged(header: str, last_modified: str) -> None:
    assert if_range_holds(header, None, last_modified) in (True, False)
    assert if_match_holds(header, '"a"') in (True, False)
    assert if_none_match_holds(header, '"a"') in (True, False)
