"""In front of the peer door: the certificate that was shown must be a member's, and who speaks must be that member.

A CA may have signed more than the members of today: a node that was removed, another program. TLS has checked that the certificate
is the CA's; here its name is looked up. Who joins may ask before everybody has heard of him, and is waited for a moment.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import PlainTextResponse

from app.server.sendfile import SHOWN
from app.server.strangers import Strangers
from app.swarm import protocol

HEARD_OF_WITHIN_SECONDS = 1.0
"""Several times as long as gossip takes; less than a member waits for an answer."""

_LOOK_SECONDS = 0.05
_SUFFIX = ".peerd"
_NODE = protocol.NODE_HEADER.lower().encode()


class MembersOnly:
    """An ASGI application for members. `is_member` says whether gossip has heard of a name. Without TLS everybody is let through."""

    def __init__(self, app: Callable[..., Any], is_member: Callable[[str], bool]) -> None:
        self._app = app
        self._is_member = is_member
        self._strangers = Strangers()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        shown: frozenset[str] | None = scope.get(SHOWN)
        fault = None
        if shown is not None:
            names = {name.removesuffix(_SUFFIX) for name in shown if name.endswith(_SUFFIX)}
            speaker = next((value for name, value in scope["headers"] if name == _NODE), None)
            fault = await self._fault(names, None if speaker is None else speaker.decode("latin-1"))
        if fault is None:
            await self._app(scope, receive, send)
            return
        self._strangers.turned_away(fault)
        await PlainTextResponse(fault, 403)(scope, receive, send)

    async def _fault(self, names: set[str], speaker: str | None) -> str | None:
        if speaker is not None and speaker not in names:
            return "its certificate is not that of the member that it says it is"
        for _ in range(round(HEARD_OF_WITHIN_SECONDS / _LOOK_SECONDS)):
            if any(map(self._is_member, names)):
                return None
            if not names:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return "its certificate is the cluster's and names no member"
