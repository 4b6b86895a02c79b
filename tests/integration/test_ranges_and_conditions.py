"""RFC 9110, sections 13 and 14, at both doors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import made
from tests.support.nodes import Node, running_alone
from tests.support.origin import Origin, file
from tests.support.wire import Reply, byteranges

pytestmark = [pytest.mark.xdist_group("conversations")]

SIZE = 5_000_000
DATA = made.content("ranges", SIZE)
DIGEST = made.digest_of(DATA)
ETAG_OF_FILE = '"version-1"'
LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Node]:
    with running_alone(new_folder(), "--registry", f"origin.test={origin.url}") as node:
        yield node


@pytest.fixture(params=["/v2", "/blobs"])
def target(request: pytest.FixtureRequest, origin: Origin) -> str:
    """Where the same bytes are, at each door."""
    if request.param == "/v2":
        origin.at(f"/v2/team/app/blobs/{DIGEST}", file(DATA))
        return f"/v2/team/app/blobs/{DIGEST}?ns=origin.test"
    return f"/blobs/{origin.at('/file', file(DATA, ETag=ETAG_OF_FILE, Last_Modified=LAST_MODIFIED))}"


@pytest.fixture
def etag(target: str) -> str:
    return f'"{DIGEST}"' if target.startswith("/v2") else ETAG_OF_FILE


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        pytest.param("bytes=0-0", 0, 0, id="the first byte"),
        pytest.param("bytes=4999999-4999999", SIZE - 1, SIZE - 1, id="the last byte"),
        pytest.param("bytes=1048575-1048576", 1_048_575, 1_048_576, id="across the border of two chunks"),
        pytest.param("bytes=1000000-3999999", 1_000_000, 3_999_999, id="over several chunks"),
        pytest.param("bytes=4999990-", SIZE - 10, SIZE - 1, id="open-ended"),
        pytest.param("bytes=0-", 0, SIZE - 1, id="open-ended from the beginning is a part all the same"),
        pytest.param("bytes=0-4999999", 0, SIZE - 1, id="all of it is a part all the same"),
        pytest.param("bytes=100-99999999999999999", 100, SIZE - 1, id="an end past the content is cut"),
        pytest.param("bytes=-5", SIZE - 5, SIZE - 1, id="a suffix"),
        pytest.param("bytes=-9999999", 0, SIZE - 1, id="a suffix longer than the content is all of it"),
        pytest.param("Bytes=7-7", 7, 7, id="units are case-insensitive (14.1)"),
        pytest.param("bytes= 7-7 ,", 7, 7, id="blanks and empty elements are allowed (5.6.1.2)"),
        pytest.param("bytes=7-7,5000000-", 7, 7, id="what can not be satisfied of several is left out"),
    ],
)
def test_a_range_that_can_be_satisfied_is_206(node: Node, target: str, header: str, first: int, last: int) -> None:
    reply = node.ask(target, headers={"Range": header})
    assert (reply.status, reply.headers["content-range"]) == (206, f"bytes {first}-{last}/{SIZE}")
    assert reply.headers["content-length"] == str(last - first + 1)
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.body == DATA[first : last + 1]


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        pytest.param("bytes=0-9,2000000-2000009", [(0, 9), (2_000_000, 2_000_009)], id="two"),
        pytest.param("bytes=-7, 0-0, 1048570-1048580", [(SIZE - 7, SIZE - 1), (0, 0), (1_048_570, 1_048_580)], id="unordered"),
        pytest.param("bytes=" + ",".join(f"{n}00-{n}01" for n in range(1, 17)), [(n * 100, n * 100 + 1) for n in range(1, 17)], id="sixteen"),
        pytest.param("bytes=0-9,9000000-,20-29", [(0, 9), (20, 29)], id="one of three can not be satisfied"),
    ],
)  # fmt: skip
def test_several_ranges_are_a_multipart(node: Node, target: str, header: str, ranges: list[tuple[int, int]]) -> None:
    reply = node.ask(target, headers={"Range": header})
    assert reply.status == 206
    assert "content-range" not in reply.headers, "each part has its own (15.3.7.2)"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert byteranges(reply) == [(f"bytes {first}-{last}/{SIZE}", DATA[first : last + 1]) for first, last in ranges]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("bytes=5000000-", id="a beginning past the end"),
        pytest.param("bytes=5000000-6000000", id="both past the end"),
        pytest.param("bytes=-0", id="a suffix of nothing"),
        pytest.param("bytes=5-4", id="last before first"),
        pytest.param("bytes=5000000-,-0", id="several, none of which can be satisfied"),
    ],
)
def test_what_can_not_be_satisfied_is_416_with_the_size(node: Node, target: str, header: str) -> None:
    reply = node.ask(target, headers={"Range": header})
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "header",
    ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1-2-3", "bytes=0x1-2", "bytes=1 - 2", "bytes 1-2", "lines=1-2", "=0-1", "bytes=--1"],
)  # fmt: skip
def test_a_malformed_range_is_ignored(node: Node, target: str, header: str) -> None:
    assert_whole(node.ask(target, headers={"Range": header}))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("bytes=" + ",".join(f"{n}00-{n}01" for n in range(1, 18)), id="more than sixteen"),
        pytest.param("bytes=0-100,50-150", id="overlapping"),
        pytest.param("bytes=0-,0-,0-,0-", id="the whole four times"),
    ],
)
def test_ranges_that_look_like_an_attack_are_the_whole_or_416(node: Node, target: str, header: str) -> None:
    reply = node.ask(target, headers={"Range": header})
    if reply.status != 416:
        assert_whole(reply)


def test_head_ignores_range(node: Node, target: str, etag: str) -> None:
    reply = node.ask(target, method="HEAD", headers={"Range": "bytes=0-0"})
    assert (reply.status, reply.headers["content-length"]) == (200, str(SIZE))
    assert (reply.headers["etag"], reply.headers["accept-ranges"]) == (etag, "bytes")
    assert "content-range" not in reply.headers


def test_if_range_with_the_tag_is_a_part(node: Node, target: str, etag: str) -> None:
    reply = node.ask(target, headers={"Range": "bytes=1-2", "If-Range": etag})
    assert (reply.status, reply.body) == (206, DATA[1:3])


@pytest.mark.parametrize("value", ['"another"', 'W/"version-1"', "Thu, 01 Jan 2015 00:00:00 GMT", "nonsense"])
def test_if_range_with_anything_else_is_the_whole(node: Node, target: str, value: str) -> None:
    assert_whole(node.ask(target, headers={"Range": "bytes=1-2", "If-Range": value}))


def test_if_range_with_the_time_of_the_last_change_is_a_part(node: Node, origin: Origin) -> None:
    url = origin.at("/dated", file(DATA, ETag=ETAG_OF_FILE, Last_Modified=LAST_MODIFIED))
    reply = node.ask(f"/blobs/{url}", headers={"Range": "bytes=1-2", "If-Range": LAST_MODIFIED})
    assert (reply.status, reply.headers["last-modified"], reply.body) == (206, LAST_MODIFIED, DATA[1:3])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"another", {}', "*"])
def test_what_the_client_has_already_is_304(node: Node, target: str, etag: str, form: str, method: str) -> None:
    reply = node.ask(target, method=method, headers={"If-None-Match": form.format(etag), "Range": "bytes=0-0"})
    assert (reply.status, reply.headers["etag"], reply.body) == (304, etag, b"")


def test_what_it_has_of_another_version_is_sent(node: Node, target: str) -> None:
    assert_whole(node.ask(target, headers={"If-None-Match": '"another"'}))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("value", ['"another"', 'W/"version-1"', '"another", "a third"'])
def test_if_match_with_another_version_is_412(node: Node, target: str, value: str, method: str) -> None:
    assert node.ask(target, method=method, headers={"If-Match": value}).status == 412


@pytest.mark.parametrize("form", ["{}", '"another", {}', "*"])
def test_if_match_with_this_version_is_sent(node: Node, target: str, etag: str, form: str) -> None:
    reply = node.ask(target, headers={"If-Match": form.format(etag), "Range": "bytes=0-9"})
    assert (reply.status, reply.body) == (206, DATA[:10])


def test_one_connection_takes_answer_after_answer(node: Node, target: str) -> None:
    with node.connect() as wire:
        for header, status in (("bytes=0-9", 206), ("bytes=9-0", 416), ("bytes=-1", 206), ("bytes=0-1,5-6", 206)):
            assert wire.ask(target, headers={"Range": header}).status == status
        assert wire.ask(target, method="HEAD").status == 200
        assert_whole(wire.ask(target))
        assert wire.ask(target, headers={"If-None-Match": "*"}).status == 304
        assert wire.ask(target, headers={"Range": "bytes=3-3"}).body == DATA[3:4]


def assert_whole(reply: Reply) -> None:
    assert (reply.status, reply.headers["content-length"]) == (200, str(SIZE))
    assert reply.body == DATA
