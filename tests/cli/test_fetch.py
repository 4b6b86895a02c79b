"""Conversations with a node whose answers go wrong: the bytes are right in the end, or there is an error that says why."""

import hashlib

import pytest

from app.client.fetch import Fetched, NotKept, Wanted, fetch
from app.client.node import Node, NodeRefused, NodeUnreachable
from app.client.sinks import InMemory
from app.client.tally import Tally
from app.content.digest import Digest
from app.errors import ContentChanged, DigestMismatch, Unobtainable

DATA = bytes(range(256)) * 16
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())
WANTED = Wanted("the blob", "/v2/app/blobs/x?ns=example.local", DIGEST, len(DATA))
FILE = Wanted("the file", "/blobs/http://example.local/file")

Said = tuple[int, dict[str, str], bytes]


def whole(data: bytes = DATA, *, cut: int | None = None, etag: str = '"1"') -> Said:
    """200 with everything, broken off after `cut` bytes."""
    return 200, {"Content-Length": str(len(data)), "ETag": etag}, data[:cut]


def rest(start: int, *, cut: int | None = None, content_range: str | None = None) -> Said:
    """206 from `start` on, broken off after `cut` bytes."""
    spoken = content_range or f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    return 206, {"Content-Length": str(len(DATA) - start), "Content-Range": spoken}, DATA[start:][:cut]


def problem(status: int, detail: str, **headers: str) -> Said:
    body = f'{{"title": "Problem", "status": {status}, "detail": "{detail}", "advice": "try that"}}'.encode()
    return status, {"Content-Length": str(len(body)), **headers}, body


class Pauses(list[float]):
    """Stands in for sleeping, and remembers."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def got(node: Node, wanted: Wanted = WANTED, *, pauses: Pauses | None = None) -> tuple[bytes, Fetched, Tally]:
    sink, tally = InMemory(2**20), Tally()
    fetched = fetch(node, wanted, sink, tally, pause=Pauses() if pauses is None else pauses)
    return sink.bytes(), fetched, tally


def test_a_whole_body(scripted_node) -> None:
    scripted = scripted_node(whole())
    data, fetched, tally = got(scripted.node)
    assert (data, fetched.digest, fetched.size) == (DATA, DIGEST, len(DATA))
    assert (tally.size, tally.resumptions) == (len(DATA), 0)
    assert scripted.asked[0][0] == "GET /v2/app/blobs/x?ns=example.local HTTP/1.1"


def test_a_body_that_breaks_off_is_gone_on_with_at_the_same_byte(scripted_node) -> None:
    scripted = scripted_node(whole(cut=1000), rest(1000, cut=500), rest(1500))
    data, _, tally = got(scripted.node)
    assert data == DATA
    assert tally.resumptions == 2
    assert [headers.get("Range") for _, headers in scripted.asked] == [None, "bytes=1000-", "bytes=1500-"]
    assert [headers.get("If-Range") for _, headers in scripted.asked] == [None, '"1"', '"1"']


def test_a_weak_validator_is_no_condition_for_a_range(scripted_node) -> None:
    scripted = scripted_node(whole(cut=1000, etag='W/"1"'), rest(1000))
    assert got(scripted.node)[0] == DATA
    assert "If-Range" not in scripted.asked[1][1]


def test_content_that_changed_meanwhile_begins_again(scripted_node) -> None:
    new = DATA[::-1] + b"longer"
    scripted = scripted_node(whole(cut=1000), whole(new, etag='"2"'))
    data, fetched, _ = got(scripted.node, FILE)
    assert data == new
    assert fetched.digest == Digest.of(new)


def test_content_that_goes_on_changing_is_given_up(scripted_node) -> None:
    scripted = scripted_node(*(whole(cut=1000, etag=f'"{version}"') for version in range(9)))
    with pytest.raises(ContentChanged, match="changes while it is read"):
        got(scripted.node, FILE)
    assert len(scripted.asked) == 4


@pytest.mark.parametrize(
    "content_range",
    [
        pytest.param(f"bytes 999-{len(DATA) - 1}/{len(DATA)}", id="from another byte"),
        pytest.param(f"bytes 1000-{len(DATA)}/{len(DATA) + 1}", id="of another size"),
        pytest.param("parrots", id="of no sense"),
    ],
)
def test_a_part_that_is_not_the_one_asked_for_is_not_taken(content_range: str, scripted_node) -> None:
    scripted = scripted_node(whole(cut=1000), rest(1000, content_range=content_range), rest(1000))
    assert got(scripted.node)[0] == DATA


def test_bytes_that_are_not_those_of_the_digest_are_told(scripted_node) -> None:
    with pytest.raises(DigestMismatch, match="the blob"):
        got(scripted_node(whole(DATA[::-1])).node)


def test_a_size_that_is_not_the_one_expected_is_told_before_the_first_byte(scripted_node) -> None:
    with pytest.raises(ContentChanged, match="has 10 bytes"):
        got(scripted_node(whole(DATA[:10])).node)


def test_a_body_that_brings_no_byte_again_and_again_is_given_up(scripted_node) -> None:
    pauses = Pauses()
    scripted = scripted_node(whole(cut=1000), *(rest(1000, cut=0) for _ in range(9)))
    with pytest.raises(Unobtainable, match="after 1000 bytes"):
        got(scripted.node, pauses=pauses)
    assert len(scripted.asked) == 6
    assert pauses == sorted(pauses)


def test_a_byte_now_and_then_is_enough_to_go_on(scripted_node) -> None:
    scripted = scripted_node(whole(cut=1), *(rest(start, cut=1) for start in range(1, 12)), rest(12))
    assert got(scripted.node)[0] == DATA


def test_a_length_that_nobody_told_ends_where_the_body_ends(scripted_node) -> None:
    chunked = b"".join(b"400\r\n" + DATA[start : start + 1024] + b"\r\n" for start in range(0, len(DATA), 1024))
    scripted = scripted_node((200, {"Transfer-Encoding": "chunked"}, chunked + b"0\r\n\r\n"))
    assert got(scripted.node, FILE)[0] == DATA


def test_a_broken_body_without_a_length_is_not_taken_for_the_whole(scripted_node) -> None:
    broken = (200, {"Transfer-Encoding": "chunked"}, b"1000\r\n" + DATA[:1000])
    scripted = scripted_node(broken, whole())
    assert got(scripted.node, FILE)[0] == DATA


def test_nothing_at_all_is_a_content_too(scripted_node) -> None:
    data, fetched, tally = got(scripted_node(whole(b"")).node, FILE)
    assert (data, fetched.size, tally.size) == (b"", 0, 0)


class TestRefusals:
    def test_are_told_in_the_nodes_own_words(self, scripted_node) -> None:
        with pytest.raises(NodeRefused, match=r"answered 404: not there; try that") as caught:
            got(scripted_node(problem(404, "not there")).node)
        assert caught.value.status == 404

    def test_of_the_mirror_are_oci_documents(self, scripted_node) -> None:
        body = b'{"errors":[{"code":"BLOB_UNKNOWN","message":"no such blob","detail":null}]}'
        with pytest.raises(NodeRefused, match="BLOB_UNKNOWN: no such blob"):
            got(scripted_node((404, {"Content-Length": str(len(body))}, body)).node)

    def test_that_are_no_document_are_told_by_their_status(self, scripted_node) -> None:
        with pytest.raises(NodeRefused, match="answered 500: Said"):
            got(scripted_node((500, {"Content-Length": "5"}, b"<html")).node)

    def test_that_say_when_to_come_again_are_waited_for(self, scripted_node) -> None:
        pauses = Pauses()
        scripted = scripted_node(problem(503, "busy", **{"Retry-After": "7"}), whole())
        assert got(scripted.node, pauses=pauses)[0] == DATA
        assert pauses == [7]

    def test_of_an_unreachable_upstream_end_it_when_nothing_was_begun(self, scripted_node) -> None:
        scripted = scripted_node(problem(502, "unreachable"), whole())
        with pytest.raises(NodeRefused, match="unreachable"):
            got(scripted.node)

    def test_of_an_unreachable_upstream_are_tried_again_in_the_middle(self, scripted_node) -> None:
        scripted = scripted_node(whole(cut=1000), problem(502, "unreachable"), rest(1000))
        assert got(scripted.node)[0] == DATA


def test_nobody_there_is_told_with_what_to_do() -> None:
    with pytest.raises(NodeUnreachable, match="peerd serve"):
        got(Node("http://127.0.0.1:9"))


def test_a_disk_that_is_full_is_not_taken_for_a_broken_connection(scripted_node) -> None:
    class Full(InMemory):
        def write(self, data: memoryview, /) -> None:
            raise OSError(28, "No space left on device")

    scripted = scripted_node(whole(), whole())
    with pytest.raises(NotKept, match="No space left"):
        fetch(scripted.node, WANTED, Full(1), Tally())
    assert len(scripted.asked) == 1


@pytest.mark.parametrize(
    ("target", "line"),
    [
        pytest.param(
            "/blobs/http://h/a%2Bb//c?x=%2f&sig=a+b==", "/blobs/http://h/a%2Bb//c?x=%2f&sig=a+b==", id="escapes stay"
        ),
        pytest.param("/blobs/http://h/../{x}|y", "/blobs/http://h/../{x}|y", id="dots and odd signs stay"),
        pytest.param(
            "/blobs/http://h/ä b", "/blobs/http://h/%C3%A4%20b", id="what a request line can not carry is escaped"
        ),
    ],
)
def test_a_target_is_sent_byte_for_byte(target: str, line: str, scripted_node) -> None:
    scripted = scripted_node(whole())
    got(scripted.node, Wanted("the file", target))
    assert scripted.asked[0][0] == f"GET {line} HTTP/1.1"


@pytest.mark.parametrize(
    ("header", "source"),
    [
        ("peerd; hit", "cache"),
        ("peerd; fwd=miss; detail=peer", "peer"),
        ('other; hit, peerd; fwd=miss; detail="upstream"', "upstream"),
        ("", "unknown"),
    ],
)
def test_the_first_bytes_source_is_read_from_cache_status(header: str, source: str, scripted_node) -> None:
    scripted = scripted_node((200, {"Content-Length": str(len(DATA)), "Cache-Status": header}, DATA))
    assert got(scripted.node)[2].by_source() == {source: len(DATA)}
