"""The short way: what a target was answered a moment ago, with another range.

Reading a layer or a file in ranges asks for the same target again and again, and FastAPI's way to it costs several times what
sendfile does. A route that has found a content says so with `remember`; for a second, requests for the same target with the same
credential are answered from that: at once where the bytes are at hand, else by the same `answer_with` as the route's. Whatever
else there is to a request (a condition, several ranges, one that can not be satisfied, HEAD) goes the whole way, which also renews
the plan: what a route decides, upstream's new version and a client's consent included, is never older than that second.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from starlette.responses import Response

from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor, Slice
from app.content.entry import Entry
from app.content.library import Found
from app.content.manifests import FoundManifest
from app.content.reader import Reader
from app.errors import PeerdError
from app.observability.metrics import Metrics
from app.observability.request import App, correlation_id
from app.observability.transfers import Transfers
from app.routes.http_range import RequestedRange, content_range
from app.routes.sending import CACHE_STATUS, Library, answer_with
from app.server.sendfile import ZEROCOPY

PLAN_SECONDS = 1.0
PLANS_MAX = 1024
"""So many targets at once; a node with more clients than that has the time to go the whole way."""

_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{0,18})")
_CONDITIONS = frozenset((b"if-match", b"if-none-match", b"if-range", b"if-modified-since", b"if-unmodified-since"))
# Whoever sends another of these asks for something else.
_ASKER = frozenset((b"authorization", b"oci-namespace"))

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Target = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a target is answered.

    Attributes:
        file: kept open meanwhile, where the content is settled; None where some of it may have to be fetched.
        by: who asked: the headers that the answer depends on.
    """

    found: Found | FoundManifest
    entry: Entry
    file: Descriptor | None
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    media_type: str
    kind: Literal["blob", "manifest", "file"]
    by: frozenset[tuple[bytes, bytes]]

    @property
    def handler(self) -> str:
        return "files" if self.kind == "file" else "oci"


@dataclass(frozen=True, slots=True)
class _Planned:
    """A request that its plan covers: the bytes that are meant, and whether they are a range."""

    plan: _Plan
    wanted: ByteRange
    is_range: bool

    @property
    def status(self) -> int:
        return 206 if self.is_range else 200


class Shortcuts:
    """Plans for targets that were found lately."""

    def __init__(
        self, reader: Reader, library: Library, transfers: Transfers, metrics: Metrics, *, mirror_timeout: float
    ) -> None:
        self._reader = reader
        self._library = library
        self._transfers = transfers
        self._metrics = metrics
        self._mirror_timeout = mirror_timeout
        self._plans: dict[Target, _Plan] = {}

    def remember(
        self,
        request: Request,
        found: Found | FoundManifest,
        headers: Mapping[str, str],
        *,
        media_type: str,
        kind: Literal["blob", "manifest", "file"],
    ) -> None:
        """What `request` asked for is `found`; `headers` are those of every answer of it."""
        target, entry = _target(request.scope), found.entry
        if entry is None or (len(self._plans) >= PLANS_MAX and target not in self._plans):
            return
        try:
            file = entry.file() if self._reader.is_settled(entry) else None
        except OSError:  # The whole way tells of it.
            return
        if file is None and kind == "manifest":
            return
        named = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        raw_headers = (*named, (b"content-type", media_type.encode("latin-1")))
        plan = _Plan(found, entry, file, dict(headers), raw_headers, media_type, kind, _asker(request.scope))
        self._plans[target] = plan
        asyncio.get_running_loop().call_later(PLAN_SECONDS, self._forget, target, plan)

    def _forget(self, target: Target, plan: _Plan) -> None:
        if self._plans.get(target) is plan:
            del self._plans[target]

    def planned(self, scope: Scope) -> _Planned | None:
        """What is meant by a request; None where it has to go the whole way."""
        if scope["type"] != "http" or scope["method"] != "GET" or ZEROCOPY not in scope.get("extensions", ()):
            return None
        plan = self._plans.get(_target(scope))
        if plan is None or not self._reader.is_current(plan.entry):
            return None
        headers = scope["headers"]
        ranges = [value for name, value in headers if name == b"range"]
        if not _CONDITIONS.isdisjoint(name for name, _ in headers) or _asker(scope) != plan.by:
            return None
        size = plan.entry.meta.size
        if plan.kind == "manifest" or not ranges:
            return _Planned(plan, ByteRange(0, size), is_range=False) if size else None
        span = _one_range(ranges, size)
        return None if span is None else _Planned(plan, span, is_range=True)

    async def serve(self, scope: Scope, receive: Any, send: Send, refuse: Callable[[PeerdError], Response]) -> bool:
        """Answer the request, if that can be done from here; `refuse` makes the answer where the bytes can not be had.

        Raises ClientLeft, BodyBrokenOff as `send` does.
        """
        planned = self.planned(scope)
        if planned is None:
            return False
        began, status = time.perf_counter(), planned.status
        with self._reader.at_hand(planned.plan.entry, planned.wanted) as part:
            if part is not None:
                await self._send(planned, part, scope, send)
        if part is None:
            try:
                response = await self._answer(planned, scope)
            except PeerdError as error:
                self._forget(_target(scope), planned.plan)  # The next request asks again, from the beginning.
                response = refuse(error)
            if response is None:
                return False
            status = response.status_code
            await response(scope, receive, send)
        seconds = time.perf_counter() - began
        self._metrics.request_duration.labels("GET", planned.plan.handler, str(status)).observe(seconds)
        return True

    async def _send(self, planned: _Planned, part: Slice, scope: Scope, send: Send) -> None:
        """What is at hand, as one slice."""
        plan = planned.plan
        with self._transfers.transfer(
            plan.entry.meta.key.text,
            kind=plan.kind,
            door="files" if plan.kind == "file" else "mirror",
            total=part.count,
            correlation_id=correlation_id(scope),
        ) as transfer:
            headers = [
                *plan.raw_headers,
                (b"content-length", b"%d" % part.count),
                (b"cache-status", CACHE_STATUS[part.kind].encode()),
            ]
            if planned.is_range:
                headers.append((b"content-range", content_range(planned.wanted, plan.entry.meta.size).encode()))
            await send({"type": "http.response.start", "status": planned.status, "headers": headers})
            await send({"type": ZEROCOPY, "file": part.file.fileno(), "offset": part.offset, "count": part.count})
            self._transfers.sent(transfer, part.kind, part.count)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, planned: _Planned, scope: Scope) -> Response | None:
        """What has to be fetched, checked or waited for; None where that is a manifest."""
        plan = planned.plan
        if plan.kind == "manifest" or isinstance(plan.found, FoundManifest):
            return None
        wanted = RequestedRange(planned.wanted.start, planned.wanted.stop - 1)
        return await answer_with(
            plan.found,
            (wanted,) if planned.is_range else None,
            headers=dict(plan.headers),
            media_type=plan.media_type,
            kind=plan.kind,
            correlation_id=correlation_id(scope),
            library=self._library,
            transfers=self._transfers,
            patience_seconds=None if plan.kind == "file" else self._mirror_timeout,
        )


class Front:
    """Asks the shortcuts first, then the application. `answer_error` is the application's own, for one that failed."""

    def __init__(self, app: App, shortcuts: Shortcuts, answer_error: Callable[[Request, PeerdError], Response]) -> None:
        self._app = app
        self._shortcuts = shortcuts
        self._answer_error = answer_error

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """One request."""

        def refuse(error: PeerdError) -> Response:
            return self._answer_error(Request({**scope, "app": self._app}), error)

        if not await self._shortcuts.serve(scope, receive, send, refuse):
            await self._app(scope, receive, send)


def _asker(scope: Scope) -> frozenset[tuple[bytes, bytes]]:
    return frozenset(pair for pair in scope["headers"] if pair[0] in _ASKER)


def _one_range(ranges: Sequence[bytes], size: int) -> ByteRange | None:
    """The one that is meant, if it is of the plain kind that can be satisfied."""
    found = _RANGE.fullmatch(ranges[0])
    if found is None or len(ranges) > 1:
        return None
    first, last = int(found[1]), int(found[2] or size)
    return None if first >= size or last < first else ByteRange(first, min(last + 1, size))


def _target(scope: Scope) -> Target:
    return scope["raw_path"], scope["query_string"]
