"""One member asks upstream for all what a tag or URL stands for, and for manifests. Both sides of it.

A thousand nodes that start at once would else ask the registry a thousand times for the same tag, and registries count. The
delegate of a name is its home (`home`), as for chunks. Whatever goes wrong, the asker asks upstream by itself: so a delegate can
make nothing fail, and a manifest is checked against its digest by whoever gets it.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.content.digest import Digest
from app.content.json_text import parsed
from app.content.library import Library
from app.content.location import FileAtUrl, ManifestInRegistry
from app.content.manifests import Manifests
from app.content.names import Name, Resolution
from app.content.source import Nobody
from app.errors import PeerdError, SourceError
from app.swarm import protocol
from app.swarm.home import Roster, chunk_hash, next_home
from app.swarm.peer_client import PeerClient

log = logging.getLogger(__name__)

HOPS = 2
"""To the zone's home, and from there to the home of all."""


class HomeOfNames:
    """The asking side. See `Delegate`. `hops` is how far a question may still travel."""

    def __init__(
        self, roster: Callable[[], Roster], client: PeerClient, executor: Executor, *, hops: int = HOPS
    ) -> None:
        self._roster = roster
        self._client = client
        self._executor = executor
        self._hops = hops

    def fewer_hops(self, hops: int) -> "HomeOfNames":
        """The same for a question that has travelled."""
        return HomeOfNames(self._roster, self._client, self._executor, hops=hops)

    async def resolve(self, name: Name, location: ManifestInRegistry | FileAtUrl) -> Resolution | None:
        """See `Delegate.resolve`."""
        document = await self._ask(name.identity, protocol.RESOLVE_PATH, _write(location))
        if document is None:
            return None
        try:
            return Resolution.from_json(document.decode())
        except ValueError as error:
            log.warning("a member's word on %s can not be read: %s", location, error)
            return None

    async def manifest(self, location: ManifestInRegistry) -> tuple[bytes, str] | None:
        """See `Delegate.manifest`."""
        document = await self._ask(str(location.reference), protocol.MANIFEST_PATH, _write(location))
        media_type, newline, data = (document or b"").partition(b"\n")
        return (data, media_type.decode("latin-1")) if newline else None

    async def _ask(self, what: str, path: str, question: dict[str, str]) -> bytes | None:
        home = next_home(self._roster(), chunk_hash(what, 0)) if self._hops > 0 else None
        if home is None:
            return None
        text = json.dumps({**question, "hops": self._hops - 1}).encode()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._client.post_question, home, path, text)
        except SourceError as error:
            log.debug("%s, asked in place of upstream: %s", home.name, error)
            return None


class NameDoor:
    """The answering side, behind the peer door."""

    def __init__(self, library: Library, manifests: Manifests, further: HomeOfNames) -> None:
        self._library = library
        self._manifests = manifests
        self._further = further

    @property
    def routes(self) -> list[Route]:
        """To be put behind the peer door."""
        return [
            Route(protocol.RESOLVE_PATH, _answering(self._resolve), methods=["POST"]),
            Route(protocol.MANIFEST_PATH, _answering(self._manifest), methods=["POST"]),
        ]

    async def _resolve(self, question: dict[str, Any]) -> bytes:
        location, delegate = _read(question), self._delegate(question)
        if isinstance(location, FileAtUrl):
            found = await self._library.resolve(location, delegate)
        else:
            found = await self._manifests.resolve(location, delegate)
        return found.to_json().encode()

    async def _manifest(self, question: dict[str, Any]) -> bytes:
        location = _read(question)
        if not isinstance(location, ManifestInRegistry):
            raise ValueError("not a manifest")  # noqa: TRY004 -- the document is wrong, not a type of ours
        found = await self._manifests.find(location, self._delegate(question))
        data = b"".join([await asyncio.to_thread(part.read) async for part in self._manifests.slices(found)])
        return found.media_type.encode("latin-1") + b"\n" + data

    def _delegate(self, question: dict[str, Any]) -> HomeOfNames | Nobody:
        hops = int(question["hops"])
        return self._further.fewer_hops(min(hops, HOPS)) if hops > 0 else Nobody()


def _answering(answer: Callable[[dict[str, Any]], Awaitable[bytes]]) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        # Without TLS a browser on this machine reaches the door too, but no page can make it send this header unasked.
        if protocol.FROM_PEER_HEADER not in request.headers:
            return Response(status_code=403)
        try:
            text = await protocol.read_body(request.stream())
            return Response(await answer(parsed(text)), media_type="application/octet-stream")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Response(f"not a question: {error}", 400)
        except PeerdError as error:
            # The asker asks upstream by itself, and hears upstream's own word.
            return Response(str(error), 404)

    return handler


def _write(location: ManifestInRegistry | FileAtUrl) -> dict[str, str]:
    """A client's credential stays here; a signature inside a URL travels, to be used and not kept."""
    if isinstance(location, FileAtUrl):
        return {"url": location.url}
    return {
        "registry": location.registry,
        "repository": location.repository,
        "reference": str(location.reference),
    }


def _read(question: dict[str, Any]) -> ManifestInRegistry | FileAtUrl:
    if "url" in question:
        return FileAtUrl(str(question["url"]))
    reference = str(question["reference"])
    return ManifestInRegistry(
        str(question["registry"]),
        str(question["repository"]),
        Digest.parse(reference) if ":" in reference else reference,
    )
