"""Which requests are answered without the application, by what a route has told of the same target a moment ago; and which at once."""

import asyncio
import os
import tempfile
import weakref
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request
from starlette.responses import Response

from app.content.byte_range import ByteRange
from app.content.descriptor import Slice, nameless
from app.content.library import Found
from app.content.reader import Reader
from app.content.source import SourceKind
from app.errors import Unobtainable
from app.observability.metrics import Metrics
from app.observability.request import correlation_id
from app.observability.transfers import Transfers
from app.routes import plans
from app.routes.at_hand import AtHand
from app.routes.plans import Plans
from app.routes.short_answer import Telling
from app.routes.shortcut import Shortcut
from app.server.sendfile import HEAD, OUTLET, ZEROCOPY, BodyBrokenOff

SIZE = 1000


class Heart:
    """Has one content, which may be gone."""

    def __init__(self) -> None:
        self.here = self.settled = self.current = True
        self.held = 0
        self.file = nameless(cast("Any", tempfile.gettempdir()))
        os.pwrite(self.file.fileno(), bytes(SIZE), 0)
        self.entry: Any = SimpleNamespace(
            meta=SimpleNamespace(size=SIZE, key=SimpleNamespace(text="key")), file=lambda: self.file
        )

    def is_settled(self, _entry: object) -> bool:
        return self.settled

    def is_current(self, _entry: object) -> bool:
        return self.current

    def at_hand(self, _content: object, _entry: object, wanted: ByteRange) -> Any:
        if not self.here:
            return None
        self.held += 1
        return SimpleNamespace(part=Slice(self.file, wanted.start, len(wanted), SourceKind.CACHE), let_go=self._let_go)

    def _let_go(self) -> None:
        self.held -= 1


class Outlet:
    """A way out for threads, as far as it is promised a head and begins with it."""

    def __init__(self) -> None:
        self.promised: Any = None
        self.heads: list[bytes] = []
        self.told: Any = None

    def promise(self, status: int, lines: Any, count: int) -> None:
        self.promised = status, lines, count

    def tell(self, told: Any) -> None:
        self.told = told

    def withdraw(self) -> None:
        self.promised = self.told = None

    def begin(self) -> None:
        self.heads.append(self.promised[1](SourceKind.UPSTREAM))


class Talk:
    """One client's requests to a front, and whether the application was asked."""

    def __init__(self, kind: str = "file", mirror_timeout: float = 5.0) -> None:
        self.heart = Heart()
        self.problem: Exception | None = None
        self.begins = self.begins_in_thread = False
        self.begins_after_seconds = self.takes_seconds = 0.0
        self.outlet: Outlet | None = None
        self.kind = cast("Any", kind)
        self.asked = 0
        self.metrics = Metrics("node")
        self.transfers = Transfers(sent=lambda *_: None)
        self.plans = Plans(cast("Reader", self.heart))
        telling = Telling(self.transfers, self.metrics, "node")
        self.at_hand = AtHand(self.plans, cast("Reader", self.heart), telling)
        self.shortcut = Shortcut(
            cast("Any", self._application),
            self.plans,
            cast("Reader", self),
            telling,
            answer_error=lambda request, error: Response(f"{error}, {correlation_id(request.scope)}", 502),
            mirror_timeout=mirror_timeout,
        )

    async def _application(self, scope: Any, _receive: object, _send: object) -> None:
        self.asked += 1
        self.plans.remember(Request(scope), self._found(), {"ETag": '"1"'}, media_type="a/b", kind=self.kind)

    def _found(self) -> Any:
        content = SimpleNamespace(stat=SimpleNamespace(size=SIZE), key=SimpleNamespace(text="key"))
        if self.kind == "manifest":
            return SimpleNamespace(entry=self.heart.entry)
        return Found(cast("Any", content), self.heart.entry)

    @contextmanager
    def reading(self, _content: object, _entry: object) -> Iterator[Any]:
        """As a reader that fetches what is not at hand, or can not."""
        yield self

    def progress(self) -> int:
        return 0

    async def slices(self, wanted: ByteRange, outlet: "Outlet | None") -> AsyncGenerator[Slice, None]:
        if outlet is not None and self.begins_in_thread:
            await asyncio.sleep(self.begins_after_seconds)
            outlet.begin()
            await asyncio.sleep(self.takes_seconds)
        if self.problem is not None and not self.begins:
            raise self.problem
        half = len(wanted) // 2
        yield Slice(self.heart.file, wanted.start, half, SourceKind.PEER)
        if self.problem is not None:
            raise self.problem
        yield Slice(self.heart.file, wanted.start + half, len(wanted) - half, SourceKind.CACHE)

    async def ask(self, *headers: tuple[str, str], method: str = "GET", target: bytes = b"/blobs/x") -> list[Any]:
        """The messages of the answer of the short way; none where the application was asked."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "extensions": {} if self.outlet is None else {OUTLET: self.outlet},
            "method": method,
            "path": target.decode(),
            "raw_path": target,
            "query_string": b"",
            "headers": raw(headers),
        }
        await self.shortcut(scope, cast("Any", None), send)
        return sent

    def ask_at_once(self, *headers: tuple[str, str], target: bytes = b"/blobs/x") -> Any:
        """The answer that is at hand, if any."""
        asked = self.at_hand.read(target, raw(headers))
        return None if asked is None else self.at_hand.answer(asked)


def raw(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


def lines(head: bytes) -> dict[bytes, bytes]:
    return dict(cast("Any", line.split(b": ", 1)) for line in head.split(b"\r\n") if line)


async def test_the_first_goes_the_whole_way_and_the_next_is_answered_at_once() -> None:
    talk = Talk()
    assert talk.ask_at_once() is None
    assert await talk.ask() == []
    answer = talk.ask_at_once(("Range", "bytes=10-19"), ("X-MS-Peerd-CorrelationId", "mine"))
    assert (answer.status, answer.file, answer.offset, answer.count) == (206, talk.heart.file, 10, 10)
    assert lines(answer.headers) == {
        b"etag": b'"1"',
        b"content-type": b"a/b",
        b"content-length": b"10",
        b"content-range": b"bytes 10-19/1000",
        b"cache-status": b"peerd; hit",
        b"x-ms-peerd-node": b"node",
        b"x-ms-peerd-correlationid": b"mine",
    }
    assert talk.asked == 1


async def test_it_is_counted_and_shown_like_every_other_answer() -> None:
    talk = Talk()
    await talk.ask()
    answer = talk.ask_at_once(("Range", "bytes=10-19"))
    assert [(one.state, one.total, one.kind) for one in talk.transfers] == [("waiting", 10, "file")]
    answer.sent(10)
    answer.ended(whole=True)
    labels = {"method": "GET", "handler": "files", "code": "206"}
    assert talk.metrics.registry.get_sample_value("peerd_request_duration_seconds_count", labels) == 1
    assert [(one.state, one.done) for one in talk.transfers] == [("finished", 10)]


async def test_what_is_at_hand_is_held_until_it_was_sent() -> None:
    talk = Talk()
    await talk.ask()
    answer = talk.ask_at_once()
    assert talk.heart.held == 1
    answer.ended(whole=False)
    assert talk.heart.held == 0
    assert [one.state for one in talk.transfers] == ["broken"]


async def test_a_manifest_has_no_ranges() -> None:
    talk = Talk("manifest")
    await talk.ask()
    answer = talk.ask_at_once(("Range", "bytes=10-19"))
    assert (answer.status, answer.count) == (200, SIZE)


@pytest.mark.parametrize(
    "header",
    [
        ("If-Match", "*"),
        ("If-None-Match", '"2"'),
        ("If-Range", '"1"'),
        ("Authorization", "Basic eA=="),
        ("OCI-Namespace", "another.test"),
        ("Range", "bytes=0-1,5-6"),
        ("Range", "bytes=-5"),
        ("Range", "bytes=1000-"),
        ("Range", "bytes=5-4"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("Upgrade", "websocket"),
    ],
)
async def test_whatever_else_there_is_to_a_request_goes_the_whole_way(header: tuple[str, str]) -> None:
    talk = Talk()
    await talk.ask()
    assert talk.ask_at_once(header) is None
    assert await talk.ask(header) == []
    assert talk.asked == 2


async def test_two_range_headers_go_the_whole_way() -> None:
    talk = Talk()
    await talk.ask()
    assert talk.ask_at_once(("Range", "bytes=0-1"), ("Range", "bytes=5-6")) is None
    assert await talk.ask(("Range", "bytes=0-1"), ("Range", "bytes=5-6")) == []


async def test_a_query_is_part_of_the_target() -> None:
    talk = Talk()
    await talk.ask()
    assert talk.ask_at_once(target=b"/blobs/x?a") is None


@pytest.mark.parametrize("more", [{"method": "HEAD"}, {"method": "POST"}, {"target": b"/blobs/y"}])
async def test_other_methods_targets_and_doors_go_the_whole_way(more: dict[str, Any]) -> None:
    talk = Talk()
    await talk.ask()
    assert await talk.ask(**more) == []


async def test_the_one_with_the_credential_does_not_open_it_for_the_one_without() -> None:
    talk = Talk()
    await talk.ask(("Authorization", "Basic eA=="))
    assert talk.ask_at_once() is None
    assert talk.ask_at_once(("Authorization", "Basic eB==")) is None
    assert talk.ask_at_once(("Authorization", "Basic eA==")) is not None
    assert talk.ask_at_once(("Authorization", "Basic eA=="), ("Authorization", "Basic eA==")) is None


async def test_what_is_not_at_hand_goes_the_short_way() -> None:
    talk = Talk()
    talk.heart.here = talk.heart.settled = False
    await talk.ask()
    assert talk.ask_at_once(("Range", "bytes=10-19")) is None
    sent = await talk.ask(("Range", "bytes=10-19"), ("X-MS-Peerd-CorrelationId", "mine"))
    assert talk.asked == 1
    assert [message["type"] for message in sent] == [HEAD, ZEROCOPY, ZEROCOPY, "http.response.body"]
    assert (sent[0]["status"], sent[0]["count"]) == (206, 10)
    assert lines(sent[0]["lines"]) == {
        b"etag": b'"1"',
        b"content-type": b"a/b",
        b"content-length": b"10",
        b"content-range": b"bytes 10-19/1000",
        b"cache-status": b"peerd; fwd=miss; detail=peer",
        b"x-ms-peerd-node": b"node",
        b"x-ms-peerd-correlationid": b"mine",
    }
    assert [(message["offset"], message["count"]) for message in sent[1:3]] == [(10, 5), (15, 5)]


async def test_what_went_the_short_way_is_counted_and_shown_like_every_other_answer() -> None:
    talk = Talk()
    talk.heart.here = False
    await talk.ask()
    await talk.ask(("Range", "bytes=10-19"))
    labels = {"method": "GET", "handler": "files", "code": "206"}
    assert talk.metrics.registry.get_sample_value("peerd_request_duration_seconds_count", labels) == 1
    [transfer] = talk.transfers
    assert (transfer.state, transfer.total, transfer.done) == ("finished", 10, 10)
    assert {kind: count for kind, count in transfer.by_source.items() if count} == {
        SourceKind.PEER: 5,
        SourceKind.CACHE: 5,
    }


async def test_an_answer_that_has_begun_is_broken_off_where_the_rest_can_not_be_had() -> None:
    talk = Talk()
    talk.heart.here = False
    await talk.ask()
    talk.problem, talk.begins = Unobtainable("nobody has the rest"), True
    with pytest.raises(BodyBrokenOff):
        await talk.ask()
    assert [(one.state, one.done) for one in talk.transfers] == [("broken", SIZE // 2)]


async def test_an_answer_that_a_thread_has_begun_has_no_second_head() -> None:
    talk = Talk()
    talk.heart.here, talk.outlet, talk.begins_in_thread = False, Outlet(), True
    await talk.ask()
    sent = await talk.ask(("Range", "bytes=10-19"))
    assert [message["type"] for message in sent] == [ZEROCOPY, ZEROCOPY, "http.response.body"]
    [head] = talk.outlet.heads
    assert lines(head)[b"cache-status"] == b"peerd; fwd=miss; detail=upstream"
    assert talk.outlet.promised is None


async def test_an_answer_that_a_thread_has_begun_is_broken_off_too() -> None:
    talk = Talk()
    talk.heart.here, talk.outlet, talk.begins_in_thread = False, Outlet(), True
    await talk.ask()
    talk.problem = Unobtainable("nobody has the rest")
    with pytest.raises(BodyBrokenOff):
        await talk.ask()
    assert talk.asked == 1


@pytest.mark.parametrize("after_seconds", [0, 0.95])
async def test_what_a_thread_has_begun_is_not_given_up_for_want_of_a_first_byte(after_seconds: float) -> None:
    talk = Talk("blob", mirror_timeout=1.0)
    talk.heart.here, talk.outlet, talk.begins_in_thread, talk.takes_seconds = False, Outlet(), True, 1.5
    talk.begins_after_seconds = after_seconds
    await talk.ask()
    assert len(await talk.ask()) == 3


async def test_a_head_is_promised_to_no_answer_but_its_own() -> None:
    talk = Talk()
    talk.heart.here, talk.outlet = False, Outlet()
    await talk.ask()
    for problem in (Unobtainable("nobody has it"), OSError(24, "Too many open files")):
        talk.problem = problem
        await talk.ask()
        assert talk.outlet.promised is None
        assert talk.outlet.heads == []
        await talk.ask()


async def test_what_can_not_be_fetched_is_the_applications_own_error_and_the_next_asks_it_again() -> None:
    talk = Talk()
    talk.heart.here = talk.heart.settled = False
    await talk.ask()
    talk.problem = Unobtainable("nobody has it")
    start, body = await talk.ask(("X-MS-Peerd-CorrelationId", "mine"))
    assert (start["status"], body["body"]) == (502, b"nobody has it, mine")
    assert dict(start["headers"])[b"x-ms-peerd-node"] == b"node"
    assert dict(start["headers"])[b"x-ms-peerd-correlationid"] == b"mine"
    assert [(one.state, one.correlation_id) for one in talk.transfers] == [("broken", "mine")]
    labels = {"method": "GET", "handler": "files", "code": "502"}
    assert talk.metrics.registry.get_sample_value("peerd_request_duration_seconds_count", labels) == 1
    assert await talk.ask() == []
    assert talk.asked == 2


async def test_what_can_not_be_read_goes_the_whole_way_which_tells_of_it() -> None:
    talk = Talk()
    talk.heart.here = talk.heart.settled = False
    await talk.ask()
    talk.problem = OSError(24, "Too many open files")
    assert await talk.ask() == []
    assert talk.asked == 2
    assert [one.state for one in talk.transfers] == ["broken"]


async def test_a_manifest_that_is_not_at_hand_goes_the_whole_way() -> None:
    talk = Talk("manifest")
    await talk.ask()
    talk.heart.here = False
    assert talk.ask_at_once() is None
    assert await talk.ask() == []


async def test_a_content_whose_place_was_taken_goes_the_whole_way() -> None:
    talk = Talk()
    await talk.ask()
    talk.heart.current = False
    assert talk.ask_at_once() is None
    assert await talk.ask() == []


async def test_a_plan_is_forgotten_and_lets_go_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PLAN_SECONDS", 0.0)
    talk = Talk()
    await talk.ask()
    await asyncio.sleep(0.01)
    file, talk.heart.file = weakref.ref(talk.heart.file), cast("Any", None)
    assert talk.ask_at_once() is None
    assert file() is None


async def test_no_more_targets_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PLANS_MAX", 1)
    talk = Talk()
    await talk.ask()
    await talk.ask(target=b"/blobs/y")
    assert talk.ask_at_once() is not None
    assert talk.ask_at_once(target=b"/blobs/y") is None
