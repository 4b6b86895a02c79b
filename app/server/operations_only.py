"""The second door, for scrapers and probes from other hosts: metrics and health, and nothing that gives out bytes."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import PlainTextResponse

_PATHS = frozenset({"/metrics/prometheus", "/healthz", "/readyz"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def operations_only(app: App) -> App:
    """`app`, as far as `--metrics-addr` shows it."""

    async def door(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _PATHS:
            answer = PlainTextResponse("only /metrics/prometheus, /healthz and /readyz are served here\n", 404)
            await answer(scope, receive, send)
            return
        await app(scope, receive, send)

    return door
