"""Which requests are answered without the application: by what a route has told of the same target a moment ago."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request
from starlette.responses import Response

from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor, Slice, nameless
from app.content.reader import Reader
from app.content.source import SourceKind
from app.errors import PeerdError, Unobtainable
from app.observability.metrics import Metrics
from app.observability.transfers import Transfers
from app.routes import shortcut
from app.routes.shortcut import Front, Shortcuts
from app.server.sendfile import ZEROCOPY

SIZE = 1000


class Heart:
    """Has one content, which may be gone."""

    def __init__(self) -> None:
        self.here = self.settled = self.current = True
        self.file = nameless(cast("Any", tempfile.gettempdir()))
        os.pwrite(self.file.fileno(), bytes(SIZE), 0)
        self.entry: Any = SimpleNamespace(
            meta=SimpleNamespace(size=SIZE, key=SimpleNamespace(text="key")), file=lambda: self.file
        )

    def is_settled(self, _entry: object) -> bool:
        return self.settled

    def is_current(self, _entry: object) -> bool:
        return self.current

    @contextmanager
    def at_hand(self, _entry: object, wanted: ByteRange) -> Iterator[Slice | None]:
        yield Slice(self.file, wanted.start, len(wanted), SourceKind.CACHE) if self.here else None


class Talk:
    """One client's requests to a front, and whether the application was asked."""

    def __init__(self, kind: str = "file") -> None:
        self.heart = Heart()
        metrics = Metrics("node")
        self.problem: PeerdError | None = None
        self.shortcuts = Shortcuts(
            cast("Reader", self.heart),
            self,
            Transfers(sent=lambda *_: None),
            metrics,
            mirror_timeout=5.0,
        )
        self.metrics = metrics
        self.kind = cast("Any", kind)
        self.asked = 0
        self.front = Front(cast("Any", self._application), self.shortcuts, lambda _, error: Response(str(error), 502))

    async def _application(self, scope: Any, _receive: object, _send: object) -> None:
        self.asked += 1
        self.shortcuts.remember(Request(scope), self._found(), {"ETag": '"1"'}, media_type="a/b", kind=self.kind)

    def _found(self) -> Any:
        content = SimpleNamespace(stat=SimpleNamespace(size=SIZE), key=SimpleNamespace(text="key"))
        return SimpleNamespace(entry=self.heart.entry, content=content)

    @asynccontextmanager
    async def reading(self, _found: object, _wanted: object) -> AsyncIterator[Any]:
        """As a library that fetches what is not at hand, or can not."""
        yield self

    def progress(self) -> int:
        return 0

    async def slices(self, wanted: ByteRange) -> AsyncGenerator[Slice, None]:
        if self.problem is not None:
            raise self.problem
        yield Slice(self.heart.file, wanted.start, len(wanted), SourceKind.PEER)

    async def ask(
        self, *headers: tuple[str, str], method: str = "GET", target: bytes = b"/blobs/x", tls: bool = False
    ) -> list[Any]:
        """The messages of the answer; none where the application was asked."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": target.decode(),
            "raw_path": target,
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "extensions": {} if tls else {ZEROCOPY: {}},
            "peerd.correlation_id": "1",
        }
        await self.front(scope, cast("Any", None), send)
        return sent


async def test_the_first_goes_the_whole_way_and_the_next_does_not() -> None:
    talk = Talk()
    assert await talk.ask() == []
    start, body, end = await talk.ask(("Range", "bytes=10-19"))
    assert talk.asked == 1
    assert start["status"] == 206
    assert dict(start["headers"]) == {
        b"etag": b'"1"',
        b"content-type": b"a/b",
        b"content-length": b"10",
        b"content-range": b"bytes 10-19/1000",
        b"cache-status": b"peerd; hit",
    }
    assert (body["type"], body["offset"], body["count"]) == (ZEROCOPY, 10, 10)
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_it_is_counted_like_every_other_answer() -> None:
    talk = Talk()
    await talk.ask()
    await talk.ask(("Range", "bytes=10-19"))
    labels = {"method": "GET", "handler": "files", "code": "206"}
    assert talk.metrics.registry.get_sample_value("peerd_request_duration_seconds_count", labels) == 1


async def test_a_manifest_has_no_ranges() -> None:
    talk = Talk("manifest")
    await talk.ask()
    start, body, _ = await talk.ask(("Range", "bytes=10-19"))
    assert (start["status"], body["count"]) == (200, SIZE)


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
    ],
)
async def test_whatever_else_there_is_to_a_request_goes_the_whole_way(header: tuple[str, str]) -> None:
    talk = Talk()
    await talk.ask()
    assert await talk.ask(header) == []
    assert talk.asked == 2


async def test_two_range_headers_go_the_whole_way() -> None:
    talk = Talk()
    await talk.ask()
    assert await talk.ask(("Range", "bytes=0-1"), ("Range", "bytes=5-6")) == []


@pytest.mark.parametrize("more", [{"method": "HEAD"}, {"method": "POST"}, {"target": b"/blobs/y"}, {"tls": True}])
async def test_other_methods_targets_and_doors_go_the_whole_way(more: dict[str, Any]) -> None:
    talk = Talk()
    await talk.ask()
    assert await talk.ask(**more) == []


async def test_the_one_with_the_credential_does_not_open_it_for_the_one_without() -> None:
    talk = Talk()
    await talk.ask(("Authorization", "Basic eA=="))
    assert await talk.ask() == []
    await talk.ask(("Authorization", "Basic eA=="))
    assert await talk.ask(("Authorization", "Basic eA==")) != []


async def test_what_is_not_at_hand_is_fetched_from_here_as_well() -> None:
    talk = Talk()
    talk.heart.here = talk.heart.settled = False
    await talk.ask()
    start, body, _ = await talk.ask(("Range", "bytes=10-19"))
    assert talk.asked == 1
    assert start["status"] == 206
    assert dict(start["headers"]) == {
        b"etag": b'"1"',
        b"content-type": b"a/b",
        b"content-length": b"10",
        b"content-range": b"bytes 10-19/1000",
        b"cache-status": b"peerd; fwd=miss; detail=peer",
    }
    assert (body["type"], body["offset"], body["count"]) == (ZEROCOPY, 10, 10)


async def test_what_can_not_be_fetched_is_the_applications_own_error_and_the_next_asks_it_again() -> None:
    talk = Talk()
    talk.heart.here = talk.heart.settled = False
    await talk.ask()
    talk.problem = Unobtainable("nobody has it")
    start, body = await talk.ask()
    assert (start["status"], body["body"]) == (502, b"nobody has it")
    labels = {"method": "GET", "handler": "files", "code": "502"}
    assert talk.metrics.registry.get_sample_value("peerd_request_duration_seconds_count", labels) == 1
    assert await talk.ask() == []
    assert talk.asked == 2


async def test_a_manifest_that_is_not_at_hand_goes_the_whole_way() -> None:
    talk = Talk("manifest")
    await talk.ask()
    talk.heart.here = False
    assert await talk.ask() == []


async def test_a_content_whose_place_was_taken_goes_the_whole_way() -> None:
    talk = Talk()
    await talk.ask()
    talk.heart.current = False
    assert await talk.ask() == []


async def test_a_plan_is_forgotten_and_lets_go_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcut, "PLAN_SECONDS", 0.0)
    talk = Talk()
    await talk.ask()
    await asyncio.sleep(0.01)
    assert await talk.ask() == []
    assert talk.asked == 2
    assert isinstance(talk.heart.file, Descriptor)


async def test_no_more_targets_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcut, "PLANS_MAX", 1)
    talk = Talk()
    await talk.ask()
    await talk.ask(target=b"/blobs/y")
    assert await talk.ask() != []
    assert await talk.ask(target=b"/blobs/y") == []
