"""A request that is the last one again, perhaps for another range, is known by its bytes; and nothing else is taken for it."""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.routes.plans import Asked
from app.server.repeated import Repeated


def head(*lines: str, target: str = "/blobs/http://host/file") -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()


class Parsed:
    """What a parser makes of some bytes: requests with targets and headers, as uvicorn hands them on."""

    def __init__(self, data: bytes) -> None:
        self.targets: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.whole = 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_message_begin(self) -> None:
        self.targets.append(b"")

    def on_url(self, url: bytes) -> None:
        self.targets[-1] += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.whole += 1


def read(data: bytes) -> Asked | None:
    """What one request says, read in full; None where it is none, or one that no plan covers."""
    try:
        parsed = Parsed(data)
    except httptools.HttpParserError:
        return None
    if parsed.whole != 1 or len(parsed.targets) != 1:
        return None
    return Asked.read(parsed.targets[0], parsed.headers)


def said(first: bytes, then: bytes) -> Asked | None:
    """What is known of `then` after `first`, without reading it."""
    asked = read(first)
    assert asked is not None
    return Repeated(first, asked).says(then)


def test_the_same_for_another_range_is_known() -> None:
    asked = said(
        head("Host: x", "Range: bytes=0-9", "X-MS-Peerd-CorrelationId: mine", "Authorization: Basic eA=="),
        head("Host: x", "Range: bytes=123456-", "X-MS-Peerd-CorrelationId: mine", "Authorization: Basic eA=="),
    )
    assert asked is not None
    assert (asked.target, asked.range) == (b"/blobs/http://host/file", b"bytes=123456-")
    assert asked.by == {(b"authorization", b"Basic eA==")}
    assert asked.correlation_id == b"mine"


@pytest.mark.parametrize("lines", [[], ["Host: x"], ["Range: bytes=0-9", "Host: x"], ["Host: x", "Range: bytes=-5"]])
def test_the_very_same_is_known(lines: list[str]) -> None:
    assert said(head(*lines), head(*lines)) == read(head(*lines))


@pytest.mark.parametrize(
    "then",
    [
        head("Host: x", "Range: bytes=10-19", target="/blobs/http://host/other"),
        head("Host: y", "Range: bytes=10-19"),
        head("Host: x", "Range: bytes=10-19", "If-None-Match: *"),
        head("Range: bytes=10-19", "Host: x"),
        head("Host: x", "Range: bytes=10-19,30-39"),
        head("Host: x", "Range: bytes=-5"),
        head("Host: x", "Range: bytes=5"),
        head("Host: x", "Range: bytes=1-2\r\nIf-Range: x"),
        head("Host: x", "Range: bytes=1-2") + b"\r\n",
        head("Host: x", "Range: bytes=1-2") * 2,
        head("Host: x", "Range: bytes=1-2")[:-1],
        head("Host: x", "Range: "),
        head("Host: x"),
        b"",
    ],
)
def test_whatever_differs_in_more_than_its_range_is_read(then: bytes) -> None:
    assert said(head("Host: x", "Range: bytes=0-9"), then) is None


def test_a_range_that_was_not_there_is_read() -> None:
    assert said(head("Host: x"), head("Host: x", "Range: bytes=0-9")) is None


def test_a_folded_line_is_not_taken_for_its_first_part() -> None:
    first = b"GET /f HTTP/1.1\r\nRange: bytes=0-1\r\n 5\r\n\r\n"
    asked = Asked(b"/f", frozenset(), b"bytes=0-15", None)  # Whatever a parser makes of it, it is not `bytes=0-1`.
    assert Repeated(first, asked).says(first.replace(b"0-1", b"7-8")) is None


RANGES = st.builds("bytes={}-{}".format, st.integers(0, 10**19), st.integers(0, 10**19) | st.just(""))
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["Host: x", "Authorization: a", "oci-namespace: r", "Accept: */*", "X: bytes=0-1", "If-Range: x"]
        ),
        st.builds(
            "{}:{}{}{}".format,
            st.sampled_from(["Range", "range", "RANGE", "X-Range"]),
            st.sampled_from(["", " ", "\t "]),
            RANGES
            | st.sampled_from(["bytes=1-2,3-4", "bytes=-9", "", "bytes=0-1\r\n 2", "bytes=0-1\r\nRange: bytes=2-3"]),
            st.sampled_from(["", " "]),
        ),
    ),
    max_size=4,
)
HEADS = st.builds(lambda lines, target: head(*lines, target=target), LINES, st.sampled_from(["/a", "/a?bytes=0-1"]))


@given(HEADS, RANGES, HEADS)
@example(head("Range: bytes=0-1"), "bytes=2-3", head("Range: bytes=0-1\r\n 2"))
def test_what_is_known_is_what_a_parser_reads(first: bytes, range_: str, other: bytes) -> None:
    asked = read(first)
    if asked is None:
        return
    repeated = Repeated(first, asked)
    same = first if asked.range is None else first.replace(asked.range, range_.encode()) if asked.range else first
    for then in (first, same, other, first + other, first[:-1], first[1:]):
        known = repeated.says(then)
        assert known is None or known == read(then), then
    assert repeated.says(first) is not None
