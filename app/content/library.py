"""From what a client asked for to something that can be read.

Owns: finding size and key of a content before its first byte. In order of cost: what is here, what a member or containerd
holds, upstream. What may be shared with whom is decided by the key that is chosen here (`key.py`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from app.content.byte_range import ByteRange, chunk_count
from app.content.cache import ChunkCache
from app.content.descriptor import Slice
from app.content.descriptors import KnownSizes
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import CHUNKS_MAX, Meta
from app.content.location import BlobInRegistry, FileAtUrl, Location
from app.content.names import Name, Resolution
from app.content.outlet import Outlet
from app.content.passing import Passing
from app.content.reader import Reader
from app.content.resolver import Resolver
from app.content.single_flight import SingleFlight
from app.content.source import Catalogue, Content, Delegate, SourceKind, Stat, Upstream
from app.content.tasks import Tasks
from app.errors import ContentUnknown, SourceError

log = logging.getLogger(__name__)

PASSINGS_MAX = 8
"""How many contents are passed on at once. Each holds a thread as long as its client reads; as many are left for the rest."""


class Readable(Protocol):
    """What a route sends to a client."""

    def progress(self) -> int:
        """A number that grows as long as bytes come in."""

    def slices(self, wanted: ByteRange | None, outlet: Outlet | None = None) -> AsyncGenerator[Slice, None]:
        """The bytes of a range; None where the size is not known: all there will be. What goes out by `outlet` is not among them."""


@dataclass(frozen=True, slots=True)
class Found:
    """A content whose size and version are known. `entry` None: it may not be kept and is passed on."""

    content: Content
    entry: Entry | None

    @property
    def etag(self) -> str | None:
        """The digest where there is one, else upstream's own."""
        if self.content.digest is not None:
            return f'"{self.content.digest}"'
        validator = self.content.stat.validator
        return validator.etag if validator else None


class Library:
    """Everything that can be read through this node."""

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
        came_in: Callable[[SourceKind, int], None],
    ) -> None:
        self._delegate = delegate
        self._came_in = came_in
        self._known_sizes = known_sizes
        self.cache = cache
        self.resolver = resolver
        self._reader = reader
        self._catalogues = catalogues
        self._upstream = upstream
        self._pull_through = pull_through
        reader.flights.on_changed = self._changed
        self._asking: SingleFlight[tuple[object, ...], Stat] = SingleFlight()
        self._passings = asyncio.Semaphore(PASSINGS_MAX)

    # Blobs and files

    async def find(self, location: Location) -> Found:
        """Size and version of what `location` names.

        Raises:
            ContentUnknown, UpstreamError: nobody has it; upstream's own word.
        """
        if location.digest is not None:
            return await self._find_by_digest(location, location.digest)
        if isinstance(location, FileAtUrl):
            return await self._find_by_url(location)
        raise TypeError(f"{location} names neither a digest nor a URL")

    async def _find_by_digest(self, location: Location, digest: Digest) -> Found:
        proved, claimed = ContentKey.of_digest(digest), ContentKey.of_unverified(digest, location.host)
        for key in (proved, claimed):
            entry = self.cache.get(key)
            if entry is not None:
                return Found(self._content(entry, location), entry)
        # A refusal of one client's credential says nothing of another's.
        access = (claimed, location, location.authorization)
        stat = await self._asking.ask(access, lambda: self._look_up_digest(location, digest, claimed))
        return self._shelve(claimed, digest, stat, location)

    async def _look_up_digest(self, location: Location, digest: Digest, claimed: ContentKey) -> Stat:
        stat = self._known(location, digest)
        if stat is None and not self._reader.flights.is_suspect(claimed):
            stat = await self._ask_others([ContentKey.of_digest(digest), claimed])
        if stat is None:
            stat = await self._upstream.stat(location) if self._may_ask(location) else None
        if stat is None:
            raise ContentUnknown(
                f"no member holds {digest}, and this node asks no registry for others (--no-pull-through)"
            )
        # Whatever validator the host gave, the digest says more; and a registry's redirects change it.
        return Stat(stat.size, None, stat.media_type, stat.ranged)

    def _known(self, location: Location, digest: Digest) -> Stat | None:
        """What a manifest that was read lately says of a blob."""
        if not isinstance(location, BlobInRegistry):
            return None
        size = self._known_sizes.get(location.registry, location.repository, digest)
        return None if size is None else Stat(size, None)

    async def resolve(self, location: FileAtUrl, delegate: Delegate | None = None) -> Resolution:
        """Which version a URL stands for. `delegate` in place of the usual one, for a member that is asked as such."""
        name = Name.of_url(location.url)

        async def ask() -> Resolution:
            told = await (delegate or self._delegate).resolve(name, location)
            if told is not None and told.validator is not None:
                return told
            stat = await self._upstream.stat(location)
            return Resolution(
                stat.size,
                media_type=stat.media_type,
                validator=stat.validator,
                last_modified=stat.last_modified,
                ranged=stat.ranged,
            )

        return await self.resolver.resolve(name, ask, access=(location, location.authorization, delegate))

    async def _find_by_url(self, location: FileAtUrl) -> Found:
        known = await self.resolve(location)
        stat = Stat(known.size, known.validator, known.media_type, known.ranged, known.last_modified)
        if stat.validator is None:
            return Found(Content(ContentKey("passing"), None, stat.size or 0, stat, location), None)
        return self._shelve(ContentKey.of_url(location.url, stat.validator), None, stat, location)

    async def _ask_others(self, keys: Sequence[ContentKey]) -> Stat | None:
        for catalogue in self._catalogues:
            stat = await catalogue.find(keys)
            if stat is not None:
                return stat
        return None

    def _may_ask(self, location: Location) -> bool:
        return self._pull_through or isinstance(location, FileAtUrl)

    def _shelve(self, key: ContentKey, digest: Digest | None, stat: Stat, location: Location) -> Found:
        """Give a content its place in the cache; one that is of unknown or absurd size, or whose disk fails, has none."""
        if stat.size is not None and chunk_count(stat.size, self.cache.chunk_size) > CHUNKS_MAX:
            if digest is not None:
                raise ContentUnknown(f"{key} is said to have {stat.size} bytes, more than can be proved here")
            return Found(Content(key, None, stat.size, stat, location), None)
        if stat.size is None:
            return Found(Content(key, None, 0, stat, location), None)
        meta = Meta(
            key,
            stat.size,
            self.cache.chunk_size,
            digest,
            media_type=stat.media_type,
            validator=stat.validator,
            last_modified=stat.last_modified,
            kind="blob" if isinstance(location, BlobInRegistry) else "file",
            source=location.host,
        )
        try:
            entry = self.cache.create(meta)
        except OSError as error:
            log.warning("%s is passed on without being kept: %s", key, error)
            entry = self.cache.scratch(meta)
        return Found(self._content(entry, location, stat), entry)

    def _content(self, entry: Entry, location: Location | None, stat: Stat | None = None) -> Content:
        meta = entry.meta
        if stat is None:
            stat = Stat(meta.size, meta.validator, meta.media_type, last_modified=meta.last_modified)
        asked = location if location is not None and self._may_ask(location) else None
        return Content(meta.key, meta.digest, meta.size, stat, asked)

    @asynccontextmanager
    async def reading(self, found: Found, wanted: Sequence[ByteRange]) -> AsyncIterator[Readable]:
        """Open what was found; `wanted` are the ranges that will be read, empty where all of an unknown size is."""
        if found.entry is not None:
            with self._reader.reading(found.content, found.entry) as reading:
                if not found.content.size:
                    # Nothing of it will be read, so nothing else would notice that it is not what it should be.
                    await self._reader.proofs.prove(found.content, found.entry)
                yield reading
            return
        async with self._passing(found.content, wanted) as passing:
            yield passing

    async def at_rest(self, found: Found) -> None:
        """Return when what came in of it is kept, or can not be."""
        if found.entry is not None:
            await self._reader.flights.at_rest(found.entry)

    @asynccontextmanager
    async def _passing(self, content: Content, wanted: Sequence[ByteRange]) -> AsyncIterator[Passing]:
        location, stat = content.location, content.stat
        if location is None:
            raise ContentUnknown("upstream may not be asked")
        in_order = len(wanted) <= 1
        kept_from = min((part.start for part in wanted), default=0)
        span = None
        if stat.size is not None:
            hull = ByteRange(kept_from, max((part.stop for part in wanted), default=stat.size))
            span = hull if stat.ranged else ByteRange(0, stat.size)
        # Not a TaskGroup: that would wrap what is raised by those who read, and hide it from whoever answers for it.
        async with self._passings, Tasks() as tasks:
            passing = Passing(
                span, folder=self.cache.layout.scratch, room=self.cache.quota, kept_from=kept_from, in_order=in_order
            )
            tasks.create_task(passing.drive(self._fetch_for(content, location, span)), name=f"pass on {location.host}")
            try:
                yield passing
            finally:
                passing.close()
                self._came_in(SourceKind.UPSTREAM, passing.progress())

    def _fetch_for(
        self, content: Content, location: Location, span: ByteRange | None
    ) -> Callable[[Passing], Awaitable[None]]:
        async def fetch(passing: Passing) -> None:
            if span is None:
                await self._upstream.fetch_all(location, passing)
                return
            problem: SourceError | None = None
            for offer in self._upstream.offers(content, 0):
                try:
                    await offer.fetch(span, passing)
                except SourceError as error:
                    # All that a client gets comes from one answer: once it has begun there is no other.
                    if passing.progress():
                        raise
                    problem = error
                else:
                    return
            if problem is not None:
                raise problem

        return fetch

    async def _changed(self, content: Content) -> None:
        """Upstream has another version: the next client is told of that one."""
        if isinstance(content.location, FileAtUrl):
            await self.resolver.disbelieve(Name.of_url(content.location.url))
