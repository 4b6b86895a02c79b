"""Ranges as RFC 9110, section 14, says them, against what Python's slices give."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.content.byte_range import ByteRange
from app.errors import RangeNotSatisfiable
from app.routes.http_range import RANGES_MAX, content_range, parse_range, resolve, unsatisfied

SIZES = st.integers(0, 300)
POSITIONS = st.integers(0, 400)


def answered(header: str, size: int) -> list[ByteRange] | None:
    return resolve(parse_range(header), size)


@pytest.mark.parametrize(
    ("header", "size", "want"),
    [
        pytest.param("bytes=0-0", 10, [(0, 1)], id="the first byte"),
        pytest.param("bytes=3-6", 10, [(3, 7)], id="the last position is part of it"),
        pytest.param("bytes=9-", 10, [(9, 10)], id="an open end"),
        pytest.param("bytes=0-", 10, [(0, 10)], id="an open end from the beginning is still a part"),
        pytest.param("bytes=-4", 10, [(6, 10)], id="a suffix"),
        pytest.param("bytes=-99", 10, [(0, 10)], id="a suffix longer than the content is all of it (14.1.2)"),
        pytest.param("bytes=8-99", 10, [(8, 10)], id="an end past the content is cut (14.1.2)"),
        pytest.param(f"bytes=8-{'9' * 40}", 10, [(8, 10)], id="a position of any number of digits is allowed (14.1.2)"),
        pytest.param(f"bytes=-{'9' * 40}", 10, [(0, 10)], id="so is a suffix of any length"),
        pytest.param(f"bytes={'0' * 40}3-4", 10, [(3, 5)], id="leading zeros say nothing"),
        pytest.param("BYTES=3-6", 10, [(3, 7)], id="the unit is case-insensitive (14.1)"),
        pytest.param("bytes=0-1,4-5", 10, [(0, 2), (4, 6)], id="several"),
        pytest.param("bytes=4-5, 0-1", 10, [(4, 6), (0, 2)], id="several, in the order asked for (14.2)"),
        pytest.param("bytes=0-0 ,\t-1", 10, [(0, 1), (9, 10)], id="blanks around the commas of a list (5.6.1)"),
        pytest.param("bytes=,0-0,,", 10, [(0, 1)], id="empty elements of a list (5.6.1.2)"),
        pytest.param("bytes=0-1,20-30", 10, [(0, 2)], id="what can not be satisfied is left out (14.2)"),
        pytest.param("bytes=5-4,0-1", 10, [(0, 2)], id="so is one that ends before it begins"),
        pytest.param("bytes=0-4,5-9", 10, [(0, 5), (5, 10)], id="neighbours do not overlap"),
        pytest.param("bytes=0-5,5-9", 10, None, id="overlapping ones are answered with the whole (14.2)"),
        pytest.param("bytes=0-0,0-0", 10, None, id="so are equal ones"),
        pytest.param("items=0-5", 10, None, id="an unknown unit is ignored (14.2)"),
        pytest.param("bytes=a-b", 10, None, id="what does not parse is ignored (14.2)"),
        pytest.param("bytes=1", 10, None, id="a number is no range"),
        pytest.param("bytes=-", 10, None, id="a dash is no range"),
        pytest.param("bytes=1-2-3", 10, None, id="two dashes are no range"),
        pytest.param("bytes=+1-2", 10, None, id="a sign is no digit"),
        pytest.param("bytes=１-２", 10, None, id="only ASCII digits are digits"),
        pytest.param("bytes=", 10, None, id="an empty set is ignored"),
        pytest.param("bytes", 10, None, id="a unit alone is ignored"),
        pytest.param("", 10, None, id="an empty header is ignored"),
    ],
)
def test_ranges(header: str, size: int, want: list[tuple[int, int]] | None) -> None:
    assert answered(header, size) == (None if want is None else [ByteRange(*one) for one in want])


@pytest.mark.parametrize(
    ("header", "size"),
    [
        pytest.param("bytes=10-", 10, id="begins at the end"),
        pytest.param("bytes=10-20", 10, id="begins past the end"),
        pytest.param(f"bytes={'9' * 40}-", 10, id="begins far past the end"),
        pytest.param("bytes=5-4", 10, id="ends before it begins"),
        pytest.param("bytes=-0", 10, id="the last no bytes"),
        pytest.param("bytes=0-", 0, id="the whole of nothing"),
        pytest.param("bytes=-5", 0, id="the end of nothing"),
        pytest.param("bytes=10-,20-30,-0", 10, id="several, none of which exists"),
    ],
)
def test_what_can_not_be_satisfied_is_416_with_the_size(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        answered(header, size)
    assert unsatisfied(refused.value.size) == f"bytes */{size}"


def test_no_header_is_no_range() -> None:
    assert parse_range(None) is None
    assert resolve(None, 10) is None


@given(first=POSITIONS, last=st.none() | POSITIONS, size=SIZES)
def test_one_range_is_a_slice(first: int, last: int | None, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    want = content[first:] if last is None else content[first : last + 1]
    header = f"bytes={first}-{'' if last is None else last}"
    if not want:
        with pytest.raises(RangeNotSatisfiable):
            answered(header, size)
        return
    assert answered(header, size) == [ByteRange(first, first + len(want))]


@given(count=st.integers(1, 400), size=st.integers(1, 300))
def test_a_suffix_is_a_slice(count: int, size: int) -> None:
    [part] = answered(f"bytes=-{count}", size) or []
    assert range(size)[part.start : part.stop] == range(size)[-count:]


@given(size=st.integers(1, 300), bounds=st.lists(st.tuples(POSITIONS, POSITIONS), min_size=1, max_size=RANGES_MAX + 4))
def test_of_several_ranges_each_is_a_slice_and_no_byte_is_sent_twice(size: int, bounds: list[tuple[int, int]]) -> None:
    slices = [range(size)[first : last + 1] for first, last in bounds]
    satisfiable = [one for one in slices if one]
    assume(satisfiable)
    found = answered("bytes=" + ",".join(f"{first}-{last}" for first, last in bounds), size)
    sent = [position for one in satisfiable for position in one]
    if found is None:
        assert len(satisfiable) > RANGES_MAX or len(sent) != len(set(sent))
    else:
        assert [range(one.start, one.stop) for one in found] == satisfiable
        assert len(sent) == len(set(sent))


@given(header=st.text(max_size=60) | st.from_regex(r"bytes=[-0-9, \t]{0,40}", fullmatch=True), size=SIZES)
def test_whatever_is_sent_is_answered(header: str, size: int) -> None:
    try:
        found = answered(header, size)
    except RangeNotSatisfiable:
        return
    assert found is None or all(0 <= one.start < one.stop <= size for one in found)


@given(spec=st.from_regex(r"[0-9]{0,30}-[0-9]{0,30}", fullmatch=True), size=st.integers(1, 10**12))
def test_a_single_satisfiable_range_is_never_answered_with_the_whole(spec: str, size: int) -> None:
    assume(spec != "-")
    first, _, last = spec.partition("-")
    satisfiable = (int(first) < size and (not last or int(last) >= int(first))) if first else int(last) > 0
    if satisfiable:
        assert len(answered(f"bytes={spec}", size) or []) == 1
    else:
        with pytest.raises(RangeNotSatisfiable):
            answered(f"bytes={spec}", size)


@pytest.mark.parametrize(
    ("part", "size", "want"),
    [
        pytest.param(ByteRange(0, 1), 10, "bytes 0-0/10", id="inclusive ends"),
        pytest.param(ByteRange(5, 10), 10, "bytes 5-9/10", id="to the end"),
        pytest.param(ByteRange(5, 10), None, "bytes 5-9/*", id="of an unknown whole"),
    ],
)
def test_content_range(part: ByteRange, size: int | None, want: str) -> None:
    assert content_range(part, size) == want
