"""The short way for bytes that are here: what a request was answered a moment ago, with another range.

Reading a layer or a file in ranges asks for the same target again and again, and FastAPI's way to it costs several times what
sendfile does. A route that has found a content whole and proved says so with `remember`; for a second, requests for the same
target with the same credential are answered from that, as long as the bytes are still at hand. Whatever else there is to a
request (a condition, several ranges, one that can not be satisfied, HEAD) goes the whole way, which also renews the plan: what
a route decides, upstream's new version and a client's consent included, is never older than that second.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request

from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor
from app.content.entry import Entry
from app.content.reader import Reader
from app.observability.metrics import Metrics
from app.observability.request import App, correlation_id
from app.observability.transfers import Transfers
from app.routes.http_range import content_range
from app.routes.sending import CACHE_STATUS
from app.server.sendfile import ZEROCOPY

PLAN_SECONDS = 1.0
PLANS_MAX = 1024
"""So many targets at once; a node with more clients than that has the time to go the whole way."""

_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{0,18})")
_CONDITIONS = frozenset((b"if-match", b"if-none-match", b"if-range", b"if-modified-since", b"if-unmodified-since"))
# Whoever sends another of these asks for something else.
_ASKER = frozenset((b"authorization", b"oci-namespace"))

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Target = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a target is answered. `by` is who asked: the headers that the answer depends on. `file` is kept open meanwhile."""

    entry: Entry
    file: Descriptor
    headers: tuple[tuple[bytes, bytes], ...]
    kind: Literal["blob", "manifest", "file"]
    by: frozenset[tuple[bytes, bytes]]


class Shortcuts:
    """Plans for targets that were found lately."""

    def __init__(self, reader: Reader, transfers: Transfers, metrics: Metrics) -> None:
        self._reader = reader
        self._transfers = transfers
        self._metrics = metrics
        self._plans: dict[Target, _Plan] = {}

    def remember(
        self,
        request: Request,
        entry: Entry | None,
        headers: Mapping[str, str],
        *,
        media_type: str,
        kind: Literal["blob", "manifest", "file"],
    ) -> None:
        """What `request` asked for is `entry`; `headers` are those of every answer of it."""
        if entry is None or not self._reader.is_settled(entry):
            return
        target = _target(request.scope)
        if len(self._plans) >= PLANS_MAX and target not in self._plans:
            return
        try:
            file = entry.file()
        except OSError:  # The whole way tells of it.
            return
        named = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self._plans[target] = plan = _Plan(
            entry,
            file,
            (*named, (b"content-type", media_type.encode("latin-1"))),
            kind,
            _asker(request.scope),
        )
        asyncio.get_running_loop().call_later(PLAN_SECONDS, self._forget, target, plan)

    def _forget(self, target: Target, plan: _Plan) -> None:
        if self._plans.get(target) is plan:
            del self._plans[target]

    def plan(self, scope: MutableMapping[str, Any]) -> tuple[_Plan, ByteRange, bool] | None:
        """The plan, the bytes that are meant, and whether they are a range; None where the request has to go the whole way."""
        if scope["type"] != "http" or scope["method"] != "GET" or ZEROCOPY not in scope.get("extensions", ()):
            return None
        plan = self._plans.get(_target(scope))
        if plan is None:
            return None
        headers = scope["headers"]
        ranges = [value for name, value in headers if name == b"range"]
        if not _CONDITIONS.isdisjoint(name for name, _ in headers) or _asker(scope) != plan.by:
            return None
        size = plan.entry.meta.size
        if plan.kind == "manifest" or not ranges:
            return plan, ByteRange(0, size), False
        span = _one_range(ranges, size)
        return None if span is None else (plan, span, True)

    async def serve(self, scope: MutableMapping[str, Any], send: Send) -> bool:
        """Answer the request, if that can be done from here. Raises ClientLeft, BodyBrokenOff as `send` does."""
        planned = self.plan(scope)
        if planned is None:
            return False
        plan, wanted, is_range = planned
        began = time.perf_counter()
        with self._reader.at_hand(plan.entry, wanted) as part:
            if part is None:
                return False
            with self._transfers.transfer(
                plan.entry.meta.key.text,
                kind=plan.kind,
                door="files" if plan.kind == "file" else "mirror",
                total=part.count,
                correlation_id=correlation_id(scope),
            ) as transfer:
                status = 206 if is_range else 200
                headers = [
                    *plan.headers,
                    (b"content-length", b"%d" % part.count),
                    (b"cache-status", CACHE_STATUS[part.kind].encode()),
                ]
                if is_range:
                    headers.append((b"content-range", content_range(wanted, plan.entry.meta.size).encode()))
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": ZEROCOPY, "file": part.file.fileno(), "offset": part.offset, "count": part.count})
                self._transfers.sent(transfer, part.kind, part.count)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        handler = "files" if plan.kind == "file" else "oci"
        self._metrics.request_duration.labels("GET", handler, str(status)).observe(time.perf_counter() - began)
        return True


class Front:
    """Asks the shortcuts first, then the application."""

    def __init__(self, app: App, shortcuts: Shortcuts) -> None:
        self._app = app
        self._shortcuts = shortcuts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        """One request."""
        if not await self._shortcuts.serve(scope, send):
            await self._app(scope, receive, send)


def _asker(scope: MutableMapping[str, Any]) -> frozenset[tuple[bytes, bytes]]:
    return frozenset(pair for pair in scope["headers"] if pair[0] in _ASKER)


def _one_range(ranges: Sequence[bytes], size: int) -> ByteRange | None:
    """The one that is meant, if it is of the plain kind that can be satisfied."""
    found = _RANGE.fullmatch(ranges[0])
    if found is None or len(ranges) > 1:
        return None
    first, last = int(found[1]), int(found[2] or size)
    return None if first >= size or last < first else ByteRange(first, min(last + 1, size))


def _target(scope: MutableMapping[str, Any]) -> Target:
    return scope["raw_path"], scope["query_string"]
