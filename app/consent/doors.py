"""The library and the manifests as clients see them where upstream's consent is needed.

Owns: that consent is to the very content which is served. A digest is one content; but a digest is only a claim of whoever is
asked for it, and a host that consents to everything must not open what another host keeps. So registries are believed that
options name, and a URL never stands for a digest here. What a URL stands for is told by its version: consent was to one.
"""

import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from app.consent.ask import Answered, By, Consent, Upstream, differs
from app.consent.memory import ConsentMemory, Given
from app.consent.seal import Seal
from app.content.byte_range import ByteRange
from app.content.descriptor import Slice
from app.content.digest import Digest
from app.content.library import Found, Library, Readable
from app.content.location import FileAtUrl, Location, ManifestInRegistry
from app.content.manifests import FoundManifest, Manifests
from app.content.names import Name
from app.content.source import Nobody
from app.errors import ContentChanged, ContentUnknown
from app.upstream import normal_registry


class ConsentedLibrary:
    """`Library`, for clients to whom upstream gives what they ask for. `listed`: registries that options name."""

    def __init__(self, library: Library, consent: Consent, listed: Collection[str]) -> None:
        self._library = library
        self._consent = consent
        self._listed = listed

    async def find(self, location: Location) -> Found:
        """As `Library.find`, and only what upstream gives to this client.

        Raises:
            UpstreamRefused: it gives it neither to everybody nor to this client.
            ContentUnknown, UpstreamError, ContentChanged: as `Library.find`; or nobody can tell.
        """
        if isinstance(location, FileAtUrl):
            return await self._find_file(replace(location, digest=None))
        _judge(location.registry, self._listed)
        given = await self._consent.ask(location)
        found = await self._library.find(location)
        # A page that asks for a login is 200 as well, behind some proxies.
        if given.size is None or given.size != found.content.stat.size:
            raise differs(str(location), given, found.content.size)
        return found

    async def _find_file(self, location: FileAtUrl) -> Found:
        given = await self._consent.ask(location)
        found = await self._library.find(location)
        if _covers(given, found):
            return found
        # One of the two is of another time, or upstream has another file for each client.
        given = await self._consent.ask(location, anew=True)
        if not _covers(given, found):
            await self._library.resolver.disbelieve(Name.of_url(location.url))
            await self._library.resolve(location, Nobody())
            found = await self._library.find(location)
        if not _covers(given, found):
            raise ContentChanged(f"{location} was changed while upstream was asked whether this client may have it")
        return found

    def reading(self, found: Found, wanted: Sequence[ByteRange]) -> AbstractAsyncContextManager[Readable]:
        """As `Library.reading`."""
        return self._library.reading(found, wanted)


class ConsentedManifests:
    """`Manifests`, for clients to whom upstream gives what they ask for."""

    def __init__(self, manifests: Manifests, consent: Consent, listed: Collection[str]) -> None:
        self._manifests = manifests
        self._consent = consent
        self._listed = listed

    async def find(self, location: ManifestInRegistry) -> FoundManifest:
        """As `Manifests.find`; raises as `ConsentedLibrary.find` does."""
        return await self._manifests.find(await self._consented(location))

    async def describe(self, location: ManifestInRegistry) -> FoundManifest:
        """As `Manifests.describe`; raises likewise."""
        by_digest = await self._consented(location)
        found = await self._manifests.describe(location)
        # The tag may have been moved between the two questions.
        return found if found.digest == by_digest.reference else await self._manifests.find(by_digest)

    def slices(self, found: FoundManifest) -> AsyncGenerator[Slice, None]:
        """As `Manifests.slices`."""
        return self._manifests.slices(found)

    async def _consented(self, location: ManifestInRegistry) -> ManifestInRegistry:
        """The manifest that is meant, by its digest, once upstream consented to that."""
        _judge(location.registry, self._listed)
        if not isinstance(location.reference, Digest):
            resolution = await self._manifests.resolve(location)
            if resolution.digest is None:
                raise ContentUnknown(f"{location} names no digest")
            location = replace(location, reference=resolution.digest)
        await self._consent.ask(location)
        return location


def consented(
    library: Library,
    manifests: Manifests,
    upstream: Upstream,
    *,
    listed: Collection[str],
    ttl_seconds: float,
    told: Callable[[Answered, By], None],
) -> tuple[ConsentedLibrary, ConsentedManifests]:
    """Both, with one memory. `ttl_seconds`: how long a yes counts. `told` counts questions."""
    memory = ConsentMemory(ttl_seconds, clock=time.monotonic)
    consent = Consent(upstream, memory, Seal(), told=told)
    return ConsentedLibrary(library, consent, listed), ConsentedManifests(manifests, consent, listed)


def _judge(registry: str, listed: Collection[str]) -> None:
    """Refuse a registry whose word on a digest is not to be believed."""
    if normal_registry(registry) not in listed:
        raise ContentUnknown(
            f"{registry} is named by neither --hosts nor --registry, so its consent (--consent upstream) is not believed"
        )


def _covers(given: Given, found: Found) -> bool:
    """Whether consent was to what was found. What is not kept comes straight from upstream, by the client's own credential."""
    return found.entry is None or given.validator == found.content.stat.validator
