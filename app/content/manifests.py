"""Tags and digests to manifests that are here and right.

Manifests are small and everything else hangs on them, so they are had whole and checked against their digest before the first
byte is sent. Under their digest they are contents like others: cached, advertised, and fetched from members chunk by chunk.
"""

import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.descriptor import Slice
from app.content.descriptors import KnownSizes, children
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.location import ManifestInRegistry
from app.content.names import Name, Resolution
from app.content.reader import Reader
from app.content.resolver import Resolver
from app.content.single_flight import SingleFlight
from app.content.source import Catalogue, Content, Delegate, Stat, Upstream
from app.errors import ContentUnknown, DigestMismatch, PeerdError, SourceLied

log = logging.getLogger(__name__)

MANIFEST_SIZE_MAX = 4 << 20
"""Bytes. distribution-spec, Pushing Manifests: registries should accept at least 4 MiB; containerd reads no more."""


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest. `entry` None: only what it is was asked, its bytes may not be here."""

    digest: Digest
    media_type: str
    size: int
    entry: Entry | None


class Manifests:
    """Manifests and image indexes."""

    def __init__(
        self,
        cache: ChunkCache,
        reader: Reader,
        resolver: Resolver,
        catalogues: Sequence[Catalogue],
        upstream: Upstream,
        *,
        delegate: Delegate,
        known_sizes: KnownSizes,
        pull_through: bool,
    ) -> None:
        self._delegate = delegate
        self._known_sizes = known_sizes
        self._cache = cache
        self._reader = reader
        self._resolver = resolver
        self._catalogues = catalogues
        self._upstream = upstream
        self._pull_through = pull_through
        self._asking: SingleFlight[tuple[object, ...], Entry] = SingleFlight()

    async def describe(self, location: ManifestInRegistry) -> FoundManifest:
        """Digest, media type and size of a manifest, without its bytes where they are not here. For HEAD."""
        if isinstance(location.reference, Digest):
            return await self.find(location)
        resolution = await self.resolve(location)
        if resolution.digest is None or resolution.size is None or resolution.media_type is None:
            return await self.find(location)
        return FoundManifest(resolution.digest, resolution.media_type, resolution.size, None)

    async def resolve(self, location: ManifestInRegistry, delegate: Delegate | None = None) -> Resolution:
        """What a tag stands for. `delegate` in place of the usual one, for a member that is asked as such."""
        name = Name.of_tag(location.registry, location.repository, str(location.reference))

        async def ask() -> Resolution:
            told = await (delegate or self._delegate).resolve(name, location)
            if told is not None and told.digest is not None:
                return told
            digest, media_type, size = await self._upstream.manifest_digest(location)
            return Resolution(size, digest=digest, media_type=media_type)

        access = (location.authorization, delegate)
        return await self._resolver.resolve(name, ask if self._pull_through else None, access=access)

    async def find(self, location: ManifestInRegistry, delegate: Delegate | None = None) -> FoundManifest:
        """A manifest whose bytes are here and hash to its digest. `delegate` as in `resolve`.

        Raises:
            ContentUnknown, UpstreamError: nobody has it; upstream's own word.
            DigestMismatch: upstream sent something else.
        """
        digest = location.reference
        if not isinstance(digest, Digest):
            resolution = await self.resolve(location, delegate)
            if resolution.digest is None:
                raise ContentUnknown(f"{location} names no digest")
            digest = resolution.digest
        entry = self._cache.get(ContentKey.of_digest(digest))
        if entry is None or not await self._is_right(entry):
            # By delegate too: a member that asks us as such must not wait for what we ask of that very member.
            access = (location.registry, location.repository, digest, location.authorization, delegate)
            entry = await self._asking.ask(access, lambda: self._obtain(location, digest, delegate or self._delegate))
        self._learn_sizes(location, entry)
        return FoundManifest(digest, entry.meta.media_type or "", entry.meta.size, entry)

    async def _obtain(self, location: ManifestInRegistry, digest: Digest, delegate: Delegate) -> Entry:
        return await self._from_others(location, digest) or await self._from_upstream(location, digest, delegate)

    async def _is_right(self, entry: Entry) -> bool:
        """Whether all of it is here and did not rot; what did is dropped."""
        return entry.verified and all([await self._cache.check(entry, index) for index in range(entry.meta.chunks)])

    def _meta(self, location: ManifestInRegistry, key: ContentKey, digest: Digest, size: int, media_type: str) -> Meta:
        return Meta(
            key,
            size,
            self._cache.chunk_size,
            digest,
            media_type=media_type,
            kind="manifest",
            source=location.registry,
        )

    async def _from_others(self, location: ManifestInRegistry, digest: Digest) -> Entry | None:
        key = ContentKey.of_digest(digest)
        stat = None
        for catalogue in self._catalogues:
            stat = stat or await catalogue.find([key])
        if stat is None or stat.size is None or not 0 < stat.size <= MANIFEST_SIZE_MAX or stat.media_type is None:
            return None
        claimed = ContentKey.of_unverified(digest, location.registry)
        try:
            entry = self._cache.create(self._meta(location, claimed, digest, stat.size, stat.media_type))
            content = _local(entry)
            with self._reader.reading(content, entry):
                await self._reader.proofs.prove(content, entry)
        except (PeerdError, OSError) as error:
            log.warning("manifest %s from members: %s; upstream is asked", digest, error)
            return None
        return self._cache.get(key)

    def _learn_sizes(self, location: ManifestInRegistry, entry: Entry) -> None:
        """Remember how long the blobs are that a manifest names: they will be asked for next."""
        try:
            file = entry.file()  # Held: it is closed with the last reference to it.
            data = os.pread(file.fileno(), entry.meta.size, 0)
        except OSError as error:
            log.debug("the manifest %s can not be read again: %s", entry.meta.key, error)
            return
        self._known_sizes.learn(location.registry, location.repository, children(entry.meta.media_type or "", data))

    async def _from_upstream(self, location: ManifestInRegistry, digest: Digest, delegate: Delegate) -> Entry:
        if not self._pull_through:
            raise ContentUnknown(f"no member holds {digest}, and this node asks no registry (--no-pull-through)")
        by_digest = ManifestInRegistry(location.registry, location.repository, digest, location.authorization)
        told = await delegate.manifest(by_digest)
        if told is None or Digest.of(told[0], digest.algorithm) != digest:
            told = await self._upstream.manifest(by_digest)
        data, media_type = told
        if len(data) > MANIFEST_SIZE_MAX:
            raise SourceLied(f"the manifest {digest} is longer than {MANIFEST_SIZE_MAX} bytes")
        found = Digest.of(data, digest.algorithm)
        if found != digest:
            raise DigestMismatch(f"{location.registry} sent {found} for the manifest {digest}")
        meta = self._meta(location, ContentKey.of_digest(digest), digest, len(data), media_type)
        try:
            return self._cache.store(meta, data)
        except OSError as error:
            log.warning("manifest %s is served but not kept: %s", digest, error)
            return self._cache.store_aside(meta, data)

    async def slices(self, found: FoundManifest) -> AsyncGenerator[Slice, None]:
        """The bytes of a manifest that `find` found."""
        if found.entry is None:
            raise ContentUnknown(f"the manifest {found.digest} is not here")
        content = _local(found.entry)
        with self._reader.reading(content, found.entry) as reading:
            async with aclosing(reading.slices(ByteRange(0, found.size))) as slices:
                async for part in slices:
                    yield part


def _local(entry: Entry) -> Content:
    """A content that is read from here and from members, never from upstream."""
    meta = entry.meta
    return Content(meta.key, meta.digest, meta.size, Stat(meta.size, None, meta.media_type), None)
