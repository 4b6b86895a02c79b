"""Where contents are, after redirects.

Owns: the memory of final locations. A registry that keeps its blobs in a blob store answers each request with a redirect to
a signed URL; a blob of a thousand chunks should not ask for a thousand of them. Signatures expire, so what is remembered is
only a guess: when it is turned away there, the content is asked for where the client said.
"""

import hashlib
from collections.abc import Awaitable, Callable

from app.content.location import Location
from app.upstream.exchange import Answer, Hop, Send, ask
from app.upstream.guard import Guard
from app.upstream.patience import Waiting
from app.upstream.remembered import Remembered
from app.upstream.url import UpstreamUrl

# Shorter than any signature seen: Docker Hub's live 20 minutes, ghcr.io's 5, Azure's registries' 20.
_REMEMBERED_SECONDS = 240.0

AskAtOrigin = Callable[[], Awaitable[tuple[Hop, Answer]]]


class Locations:
    """Final locations by what they were asked for, and by whose credential."""

    def __init__(self, guard: Guard, remembered: Remembered[UpstreamUrl]) -> None:
        self._guard = guard
        self._remembered = remembered

    async def ask(
        self, location: Location, origin: UpstreamUrl, send: Send, at_origin: AskAtOrigin, waiting: Waiting
    ) -> Answer:
        """The answer for `location`: from where it was found last, else by `at_origin`, which begins at `origin`."""
        key = _key(location, origin)
        known = await self._remembered.get(key)
        if known is not None:
            hop, answer = await ask(Hop(known), send, guard=self._guard, waiting=waiting)
            if not _turned_away(answer):
                return answer
            await self._remembered.forget(key)
        hop, answer = await at_origin()
        # Only where the credential was left behind: at the same origin it is needed, and is not kept with the URL.
        if hop.url.origin != origin.origin and answer.status in (200, 206, 416):
            await self._remembered.put(key, hop.url, _REMEMBERED_SECONDS)
        return answer


def _turned_away(answer: Answer) -> bool:
    """A client's error other than "no such range" and "not so fast": an expired signature is 400, 401, 403 or 404."""
    return 400 <= answer.status < 500 and answer.status not in (416, 429)


def _key(location: Location, origin: UpstreamUrl) -> str:
    """Hashed, since both a URL and a credential may be secret; whose credential found it is part of it."""
    own = location.authorization or ""
    return hashlib.sha256(f"{origin}\n{own}".encode()).hexdigest()
