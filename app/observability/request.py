"""One request's story: who answered, under which id, how, and how long it took.

A plain ASGI layer around the application, so that it sees the last byte leave. It writes one line a request, without query
strings: those hold signatures, also where a URL behind `/blobs/` is escaped as a whole.
"""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

NODE_HEADER = b"x-ms-peerd-node"
CORRELATION_HEADER = b"x-ms-peerd-correlationid"

CORRELATION_ID = "peerd.correlation_id"
"""Under which a request's scope has its id, once it was given one."""

# What is given back in a header and written to the log is bounded and printable.
_CORRELATION_ID = re.compile(rb"[\x21-\x7e]{1,128}")

# Where a query begins, escaped or not, once or more often.
_QUERY = re.compile(rb"\?|%(?:25)*3f", re.IGNORECASE)

# What probes, scrapers, the page and commands ask for again and again.
_OFTEN = (b"/healthz", b"/readyz", b"/metrics/", b"/api/v1/")

log = logging.getLogger("peerd.request")

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class RequestStory:
    """Gives every answer the node's name and a correlation id, and tells how it went. `began`: where a request began before it came here."""

    def __init__(self, app: App, *, node: str, began: float | None = None) -> None:
        self._app = app
        self._began = began
        self._node = node.encode("latin-1")

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given: str | None = scope.get(CORRELATION_ID)
        correlation_id = (
            given.encode() if given is not None else given_correlation_id(scope["headers"]) or new_correlation_id()
        )
        scope[CORRELATION_ID] = correlation_id.decode()
        began = time.perf_counter() if self._began is None else self._began
        status = 0

        async def send_with_identity(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (NODE_HEADER, self._node),
                    (CORRELATION_HEADER, correlation_id),
                ]
            await send(message)

        outcome = "broken off"
        try:
            await self._app(scope, receive, send_with_identity)
            outcome = "served"
        finally:
            tell(scope["method"], scope["raw_path"], status, outcome, time.perf_counter() - began, correlation_id)


def given_correlation_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The id that a request came with, if it did with one that is given back."""
    for name, value in headers:
        if name == CORRELATION_HEADER:
            return value if _CORRELATION_ID.fullmatch(value) else None
    return None


def new_correlation_id() -> bytes:
    """One for a request that came with none."""
    return b"%032x" % random.getrandbits(128)


def tell(method: str, raw_path: bytes, status: int, outcome: str, seconds: float, correlation_id: bytes) -> None:
    """Write a request's line."""
    level = logging.DEBUG if raw_path.startswith(_OFTEN) else logging.INFO
    if log.isEnabledFor(level):
        log.log(
            level,
            "%s %s %d %s after %.3f s",
            method,
            shown_path(raw_path),
            status,
            outcome,
            seconds,
            extra={"status": status, "seconds": round(seconds, 4), "correlationid": correlation_id.decode()},
        )


def correlation_id(scope: MutableMapping[str, Any]) -> str:
    """The id of the request that `scope` describes."""
    return str(scope[CORRELATION_ID])


def shown_target(scope: MutableMapping[str, Any]) -> str:
    """The path as it was sent, which has no line breaks, without what signs it."""
    return shown_path(scope["raw_path"])


def shown_path(raw_path: bytes) -> str:
    """The same of a path, or of a path and a query."""
    path: bytes = _QUERY.split(raw_path, 1)[0]
    return path.decode("ascii", "backslashreplace")
