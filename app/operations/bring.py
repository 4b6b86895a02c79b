"""Bringing content onto this node before anybody asks for it, through the same reader that clients are served by.

First all manifests and sizes, so that the total is known; then the bytes, a few contents at a time. An image is the manifest of
this node's platform with its configuration and layers, and the index that it was found in. What is brought is whole, and
verified where it has a digest.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from app.client.manifest import Index, Manifest, Platform, read_document
from app.content import advertised
from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.library import Found, Library, Readable
from app.content.location import BlobInRegistry, FileAtUrl, Location
from app.content.manifests import FoundManifest, Manifests
from app.content.url_digest import digest_in_url
from app.errors import ContentError, PeerdError
from app.operations.documents import BringOrder, BringProgress, BringState
from app.operations.targets import File, Image, Reference, parse_reference

log = logging.getLogger(__name__)

CONTENTS_AT_ONCE = 3
"""Layers at a time, as containerd pulls them."""

ANNOUNCED_WITHIN_SECONDS = 5.0
"""How long gossip may take to say that a member has what it has; after that upstream is asked too."""

ANNOUNCED_LOOK_SECONDS = 0.05

MEMBERS_PATIENCE_SECONDS = 10.0
"""How long members may give nothing of a content that one of them has, before upstream is asked."""

ASK_AGAIN_SECONDS = 0.3


class Bringing:
    """One order on its way. Read `progress` at any time."""

    def __init__(self, order: BringOrder) -> None:
        self.order = order
        self._state: BringState = "waiting"
        self._total: int | None = None
        self._done = 0
        self._readings: set[Readable] = set()
        self._brought: set[int] = set()
        self._errors: dict[int, str] = {}

    @property
    def progress(self) -> BringProgress:
        """How far it is."""
        done = self._done + sum(readable.progress() for readable in self._readings)
        errors = [f"{shown(self.order.references[place])}: {error}" for place, error in sorted(self._errors.items())]
        return BringProgress(self._state, done, self._total, "; ".join(errors) or None, frozenset(self._brought))

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self._state in ("finished", "failed")

    def begin(self) -> None:
        """It runs."""
        self._state = "running"

    def expect(self, total: int) -> None:
        """So many bytes are to be brought."""
        self._total = total

    @asynccontextmanager
    async def reading(self, readable: Readable, size: int) -> AsyncIterator[None]:
        """A content of `size` bytes comes in; all of it is here when this is left without an error."""
        self._readings.add(readable)
        try:
            yield
            self._done += size
        finally:
            self._readings.discard(readable)

    def held(self, size: int) -> None:
        """So many bytes are here already."""
        self._done += size

    def fail(self, places: Iterable[int], reason: str) -> None:
        """Some references can not be brought."""
        for place in places:
            self._errors.setdefault(place, reason)

    def fail_all(self, reason: str) -> None:
        """Nothing more can be brought."""
        self.fail(range(len(self.order.references)), reason)

    def end(self) -> None:
        """No more will come."""
        self._brought = set(range(len(self.order.references))) - self._errors.keys()
        self._state = "failed" if self._errors else "finished"


def shown(text: str) -> str:
    """A reference as it may be written down."""
    return str(parse_reference(text))


@dataclass(frozen=True, slots=True)
class _Planned:
    """One content to be brought, and for which references."""

    location: Location
    size: int
    places: set[int] = field(default_factory=set)


class Bringer:
    """Brings content onto this node."""

    def __init__(
        self,
        cache: ChunkCache,
        library: Library,
        manifests: Manifests,
        *,
        registry_hosts: Collection[str],
        is_announced: Callable[[str], bool],
        platform: Platform | None = None,
    ) -> None:
        """`is_announced` says whether another live member is known to hold what `advertised` spells."""
        self._cache = cache
        self._library = library
        self._manifests = manifests
        self._registry_hosts = registry_hosts
        self._is_announced = is_announced
        self._platform = platform or Platform.here()

    async def bring(self, bringing: Bringing) -> None:
        """Carry an order out. What can not be brought is in its progress; other references go on."""
        bringing.begin()
        try:
            planned = await self._plan(bringing)
            bringing.expect(bringing.progress.done + sum(one.size for one in planned))
            at_once = asyncio.Semaphore(CONTENTS_AT_ONCE)
            async with asyncio.TaskGroup() as tasks:
                for one in planned:
                    tasks.create_task(self._fetch(bringing, one, at_once), name=f"bring {one.location}")
        except asyncio.CancelledError:
            bringing.fail_all("the node was stopped")
            raise
        except Exception:
            bringing.fail_all("peerd made a mistake; the node's log tells which")
            raise
        finally:
            bringing.end()

    # What there is to be brought

    async def _plan(self, bringing: Bringing) -> Sequence[_Planned]:
        planned: dict[Location | Digest, _Planned] = {}
        for place, text in enumerate(bringing.order.references):
            try:
                for one in await self._plan_reference(bringing, parse_reference(text)):
                    # Images share layers: what has the same digest is brought once.
                    planned.setdefault(one.location.digest or one.location, one).places.add(place)
            except (PeerdError, OSError) as error:
                bringing.fail([place], str(error))
        return list(planned.values())

    async def _plan_reference(self, bringing: Bringing, reference: Reference) -> list[_Planned]:
        if isinstance(reference, File):
            return [await self._plan_file(reference)]
        registry, repository = reference.registry, reference.reference.repository
        return [
            _Planned(BlobInRegistry(registry, repository, part.digest), part.size)
            for part in (await self._manifest(bringing, reference)).blobs
        ]

    async def _plan_file(self, file: File) -> _Planned:
        location = FileAtUrl(file.url, digest_in_url(file.url, registry_hosts=self._registry_hosts))
        found = await self._library.find(location)
        if found.entry is None:
            raise ContentError(
                f"{location.host} gives neither ETag nor Last-Modified or no length for it, so it is passed on to who asks"
                " for it, but can not be kept"
            )
        return _Planned(location, found.content.size)

    async def _manifest(self, bringing: Bringing, image: Image) -> Manifest:
        document = await self._document(bringing, image, image.reference.digest)
        if isinstance(document, Index):
            document = await self._document(bringing, image, document.for_platform(self._platform).digest)
        if isinstance(document, Index):
            raise ContentError(f"{image} is an index of indexes; name the one that is meant by its digest")
        return document

    async def _document(self, bringing: Bringing, image: Image, digest: Digest | None) -> Index | Manifest:
        location = image.location if digest is None else image.at(digest)
        if bringing.order.from_members:
            digest = digest or (await self._manifests.describe(location)).digest
            await self._announced(ContentKey.of_digest(digest))
        found = await self._manifests.find(location)
        bringing.held(found.size)
        return read_document(await self._read(found), found.media_type)

    async def _read(self, found: FoundManifest) -> bytes:
        async with aclosing(self._manifests.slices(found)) as slices:
            # A manifest is small and was written or hashed a moment ago: no disk is waited for.
            return b"".join([os.pread(part.file.fileno(), part.count, part.offset) async for part in slices])

    # Its bytes

    async def _fetch(self, bringing: Bringing, planned: _Planned, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            try:
                if not bringing.order.from_members or not await self._from_members(bringing, planned):
                    found = await self._library.find(planned.location)
                    await self._read_through(bringing, found)
                    await self._check_held(found)
            except (PeerdError, OSError) as error:
                log.warning("%s can not be brought here: %s", planned.location, error)
                bringing.fail(planned.places, str(error))

    async def _from_members(self, bringing: Bringing, planned: _Planned) -> bool:
        """Take a content from members; False when they do not give it, however often they are asked.

        One that is busy is no reason to ask upstream: many nodes ask the first ones that have it at the same time, and each
        that is done is one more that can be asked.
        """
        clock = asyncio.get_running_loop().time
        digest = planned.location.digest
        if digest is not None:
            await self._announced(ContentKey.of_digest(digest))
        held, patience_ends = -1, clock() + MEMBERS_PATIENCE_SECONDS
        while clock() < patience_ends:
            found = await self._library.find(planned.location)
            if digest is None:
                await self._announced(found.content.key)
            try:
                await self._read_through(bringing, replace(found, content=replace(found.content, location=None)))
            except PeerdError as error:
                log.debug("%s from members: %s", planned.location, error)
                now_held = found.entry.held_bytes if found.entry is not None else 0
                if now_held > held:
                    held, patience_ends = now_held, clock() + MEMBERS_PATIENCE_SECONDS
                await asyncio.sleep(ASK_AGAIN_SECONDS)
                continue
            await self._check_held(found)
            return True
        log.warning("members do not give %s; upstream is asked", planned.location)
        return False

    async def _read_through(self, bringing: Bringing, found: Found) -> None:
        """Read it as a client would, to the end; the reader fetches, proves and keeps."""
        size = found.content.size
        async with (
            self._library.reading(found, [ByteRange(0, size)] if size else []) as readable,
            bringing.reading(readable, size),
            aclosing(readable.slices(None)) as slices,
        ):
            if size:
                async for _ in slices:
                    pass

    async def _check_held(self, found: Found) -> None:
        await self._library.at_rest(found)
        content = found.content
        proved = self._cache.get(ContentKey.of_digest(content.digest)) if content.digest else None
        entry = proved or self._cache.get(content.key)
        if entry is None or not entry.whole:
            held = entry.held_bytes if entry is not None else 0
            raise ContentError(
                f"only {held} of {content.size} bytes stayed in the cache, which uses {self._cache.used_bytes} of"
                f" {self._cache.quota}; raise --cache-size"
            )

    async def _announced(self, key: ContentKey) -> None:
        """Wait until gossip has told who holds it, unless it is here; but not for long."""
        entry = self._cache.get(key)
        if entry is not None and entry.whole:
            return
        deadline = asyncio.get_running_loop().time() + ANNOUNCED_WITHIN_SECONDS
        while not self._is_announced(advertised.whole(key)):
            if asyncio.get_running_loop().time() > deadline:
                log.warning(
                    "no member has announced %s within %.0f s; upstream may be asked", key, ANNOUNCED_WITHIN_SECONDS
                )
                return
            await asyncio.sleep(ANNOUNCED_LOOK_SECONDS)
