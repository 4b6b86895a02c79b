"""containerd's content store as a source of bytes, and as something to advertise.

Owns: the connection (containerd restarts whenever it likes, or is not there at all), and what is shared. Three rules:

- Looking again is cheap (three calls), so an event only says *look again*; nothing is computed from it. Garbage collection
  of containerd 1.6 publishes nothing, so a look is also taken every few minutes, and a read that finds a blob gone
  withdraws it at once.
- While containerd is away, what was shared stays shared for a while: a restart must not make a node withdraw and advertise
  a thousand blobs. With a readable content folder containerd's process is not needed for the bytes at all.
- Nothing is ever written to containerd, and nothing deleted from it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.containerd.advertise import resolutions
from app.containerd.api import BlobAbsent, ContainerdApi, ContainerdUnavailable
from app.containerd.blob_reader import BlobReader
from app.containerd.checksums import ChunkChecksums
from app.containerd.events import Coalescer
from app.containerd.image import ShareRule
from app.containerd.inventory import Change, Inventory, SharedBlob, difference, take_inventory
from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor
from app.content.descriptors import MANIFEST_SIZE_BYTES_MAX, BlobDescriptor, children
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.names import Name, Resolution
from app.content.source import Content, Offer, Sink, SourceKind, Stat
from app.errors import BadRequest, SourceUnavailable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the store is.

    Attributes:
        look_interval_seconds: between full looks, for what no event told. One costs containerd a few milliseconds.
        settle_seconds: how soon after connecting a second look follows the first: containerd does not say from when on a
            new subscription hears everything.
        quiet_seconds, max_seconds: of a burst of events, see `Coalescer`.
        retry_seconds_min, retry_seconds_max: between attempts to connect, doubling.
        grace_seconds: how long blobs that only containerd's process can read stay shared while it is away.
    """

    look_interval_seconds: float = 300.0
    settle_seconds: float = 1.0
    quiet_seconds: float = 0.1
    max_seconds: float = 1.0
    retry_seconds_min: float = 0.2
    retry_seconds_max: float = 5.0
    grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class StoreState:
    """What can be said of the store at this moment. `version` is None while containerd is away."""

    version: str | None
    blobs: int
    size_bytes: int
    tags: int


class ContainerdStore:
    """What containerd holds and may share. A `Source` for shared digests, and a `Catalogue` of them and of their tags.

    Args:
        socket: containerd's socket; absent is no error.
        namespace: whose images are shared.
        rule: which of them.
        content_dir: containerd's content folder (`…/io.containerd.content.v1.content`) as this process sees it, or None
            to read through containerd's API.
        executor: threads for reading files, hashing, and writing into sinks.
        on_change: told, on the event loop, of each change of what is shared; must not block.
        timing: how patient to be.
    """

    def __init__(
        self,
        *,
        socket: Path,
        namespace: str,
        rule: ShareRule,
        content_dir: Path | None,
        executor: Executor,
        on_change: Callable[[Change], None],
        timing: Timing | None = None,
    ) -> None:
        self._socket = socket
        self._namespace = namespace
        self._rule = rule
        self._executor = executor
        self._reader = BlobReader(content_dir, executor)
        self._on_change = on_change
        self._timing = timing or Timing()
        self._looks = Coalescer(self._timing.quiet_seconds, self._timing.max_seconds)
        self._api: ContainerdApi | None = None
        self._version: str | None = None
        self._shared = Inventory()
        self._names: dict[Name, Resolution] = {}
        self._children: dict[Digest, tuple[BlobDescriptor, ...]] = {}
        # Listed by containerd, but not to be had: until the next regular look, since it may be pulled again meanwhile.
        self._unreadable: set[Digest] = set()
        # Not what the digest says: until containerd no longer lists it.
        self._rotten: set[Digest] = set()

    def __repr__(self) -> str:
        state = f"version {self._version}" if self._version else "away"
        return f"<ContainerdStore {self._socket} {self._namespace}: {state}, {len(self._shared.blobs)} blobs shared>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Watch containerd within this block."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(), name="containerd")
            try:
                yield self
            finally:
                watch.cancel()

    # What is shared: memory only.

    def shared(self, digest: Digest) -> SharedBlob | None:
        """The blob of this digest, if it is shared."""
        return self._shared.blobs.get(digest)

    def inventory(self) -> Inventory:
        """All that is shared now."""
        return self._shared

    def tagged(self, reference: str) -> Digest | None:
        """What containerd has under `registry/repository:tag`, if shared. The registry may have moved the tag since."""
        return self._shared.tags.get(reference)

    def remembered(self, name: Name) -> Resolution | None:
        """The same for a name as members speak of it."""
        return self._names.get(name)

    async def resolve(self, name: Name) -> Resolution | None:
        """See `Catalogue.resolve`."""
        return self.remembered(name)

    async def find(self, keys: Sequence[ContentKey]) -> Stat | None:
        """See `Catalogue.find`; only a key that is a digest alone can be known here."""
        for key in keys:
            with suppress(BadRequest):
                blob = self.shared(Digest.parse(key.text))
                if blob is not None:
                    return Stat(blob.size, None, blob.media_type)
        return None

    def state(self) -> StoreState:
        """For the status page and the doctor."""
        blobs = self._shared.blobs
        return StoreState(self._version, len(blobs), sum(blob.size for blob in blobs.values()), len(self._shared.tags))

    def offers(self, content: Content, chunk: int) -> Iterator[Offer]:  # noqa: ARG002 -- a blob held whole has every chunk
        """One offer for a shared digest of the same size; none for anything else, or while nothing can be read."""
        if content.digest is None:
            return
        blob = self.shared(content.digest)
        if blob is not None and blob.size == content.size and (self._reader.reads_files or self._api is not None):
            yield _ContainerdOffer(self, blob.digest)

    # Bytes.

    def open_file(self, digest: Digest) -> Descriptor | None:
        """The file that containerd has of a shared blob, to be sent without copying; its bytes outlive a deletion.

        Blocks for as long as opening a file takes. None when the blob is not shared, or has no readable file of its size:
        then `fetch` may still get the bytes through the API.
        """
        blob = self.shared(digest)
        return self._reader.open_file(digest, blob.size) if blob is not None else None

    async def fetch(self, digest: Digest, span: ByteRange, sink: Sink) -> None:
        """Put the bytes of `span` of a shared blob into `sink`, in order.

        Raises:
            SourceUnavailable: not shared (any more), or containerd is away. A blob that turns out to be gone is withdrawn.
        """
        loop = asyncio.get_running_loop()
        async with aclosing(self._pieces(self._demand(digest), span)) as pieces:
            async for piece in pieces:
                await loop.run_in_executor(self._executor, sink.write, piece)

    async def read_manifest(self, digest: Digest) -> bytes:
        """A shared manifest or index, whole, its digest checked.

        Raises:
            SourceUnavailable: not shared, too large for a manifest, not to be had, or not what its digest says.
        """
        blob = self._demand(digest)
        if blob.size > MANIFEST_SIZE_BYTES_MAX:
            raise SourceUnavailable(f"{digest} has {blob.size} bytes, which is no manifest")
        return await self._read_checked(blob)

    async def checksums(self, digest: Digest, chunk_size_bytes: int) -> tuple[bytes, ...]:
        """SHA-256 of each chunk of a shared blob, vouched for by the digest of the whole: all of it is read for that.

        containerd verified the blob when it came; this finds what has rotted since. Cancelling stops the reading.

        Raises:
            SourceUnavailable: as `fetch`, or the whole is not what its digest says: then it is withdrawn.
        """
        blob = self._demand(digest)
        loop = asyncio.get_running_loop()
        checksums = ChunkChecksums(digest, chunk_size_bytes)
        if blob.size:
            async with aclosing(self._pieces(blob, ByteRange(0, blob.size))) as pieces:
                async for piece in pieces:
                    await loop.run_in_executor(self._executor, checksums.update, piece)
        chunks = checksums.finish()
        if chunks is None:
            raise self._rotten_blob(digest)
        return chunks

    def reject(self, digest: Digest) -> None:
        """Somebody found that the bytes are not what the digest says: withdraw the blob as long as containerd lists it."""
        if digest not in self._rotten:
            _log.error(
                "containerd's blob %s has rotted: not shared any more; remove its image and pull it again", digest
            )
            self._rotten.add(digest)
            self._withdraw(digest)

    def _demand(self, digest: Digest) -> SharedBlob:
        blob = self.shared(digest)
        if blob is None:
            raise SourceUnavailable(f"containerd does not share {digest}")
        return blob

    async def _pieces(self, blob: SharedBlob, span: ByteRange) -> AsyncGenerator[bytes, None]:
        """The bytes of `span`; raises SourceUnavailable, and withdraws what is gone."""
        try:
            async with aclosing(self._reader.pieces(blob.digest, blob.size, span, self._api)) as pieces:
                async for piece in pieces:
                    yield piece
        except BlobAbsent as error:
            _log.info("%s; it is withdrawn", error)
            self._unreadable.add(blob.digest)
            self._withdraw(blob.digest)
            raise SourceUnavailable(str(error)) from error
        except ContainerdUnavailable as error:
            raise SourceUnavailable(str(error)) from error

    async def _read_checked(self, blob: SharedBlob) -> bytes:
        data = b""
        if blob.size:
            async with aclosing(self._pieces(blob, ByteRange(0, blob.size))) as pieces:
                data = b"".join([piece async for piece in pieces])
        if Digest.of(data, blob.digest.algorithm) != blob.digest:
            raise self._rotten_blob(blob.digest)
        return data

    def _rotten_blob(self, digest: Digest) -> SourceUnavailable:
        self.reject(digest)
        return SourceUnavailable(f"containerd's {digest} is not what its digest says; not shared any more")

    # Watching.

    async def _watch(self) -> None:
        """Connect, stay connected as long as it lasts, and connect again, for ever."""
        loop = asyncio.get_running_loop()
        retry_seconds = self._timing.retry_seconds_min
        away_since = loop.time()
        told = False
        while True:
            try:
                async with ContainerdApi(self._socket, self._namespace) as api:
                    await self._session(api)
            except* ContainerdUnavailable as errors:
                if self._version is not None:
                    away_since, retry_seconds, told = loop.time(), self._timing.retry_seconds_min, False
                if not told:
                    # Once an absence: it may last for as long as the node lives.
                    _log.info("%s; it is looked for again", _first(errors))
                    told = True
            self._api = self._version = None
            if not self._reader.reads_files and loop.time() - away_since > self._timing.grace_seconds:
                self._share(Inventory())
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(2 * retry_seconds, self._timing.retry_seconds_max)

    async def _session(self, api: ContainerdApi) -> None:
        """One connection's life; ends by raising ContainerdUnavailable."""
        version = await api.version()
        _log.info("containerd %s at %s: images of namespace %s are shared", version, self._socket, self._namespace)
        self._api, self._version = api, version
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(api.events()), name="containerd events")
            tasks.create_task(self._keep_looking(api), name="containerd looks")

    async def _listen(self, topics: AsyncGenerator[str, None]) -> None:
        async with aclosing(topics):
            async for topic in topics:
                _log.debug("containerd: %s", topic)
                self._looks.touch()

    async def _keep_looking(self, api: ContainerdApi) -> None:
        loop = asyncio.get_running_loop()
        regular = loop.time() + self._timing.settle_seconds
        while True:
            await self._look(api)
            if not await self._looks.burst(timeout_seconds=regular - loop.time()):
                self._unreadable.clear()
                regular = loop.time() + self._timing.look_interval_seconds

    async def _look(self, api: ContainerdApi) -> None:
        """Find what is shared now, and tell what changed."""
        images = await api.images()
        listed = await api.blobs()
        self._rotten &= listed.keys()
        self._children = {digest: known for digest, known in self._children.items() if digest in listed}
        while True:
            withheld = self._rotten | self._unreadable
            held = {digest: size for digest, size in listed.items() if digest not in withheld}
            inventory = await take_inventory(images, held, self._rule, self._children_of)
            # A manifest that was read for the first time may have turned out to be rotten or gone.
            if (self._rotten | self._unreadable).isdisjoint(inventory.blobs):
                break
        self._share(inventory)

    async def _children_of(self, descriptor: BlobDescriptor) -> tuple[BlobDescriptor, ...]:
        known = self._children.get(descriptor.digest)
        if known is None:
            blob = SharedBlob(descriptor.digest, descriptor.size, descriptor.media_type)
            try:
                known = children(descriptor.media_type, await self._read_checked(blob))
            except SourceUnavailable as error:
                _log.info("what image content %s refers to is not known: %s", descriptor.digest, error)
                return ()
            self._children[descriptor.digest] = known
        return known

    def _share(self, inventory: Inventory) -> None:
        change = difference(self._shared, inventory)
        self._shared = inventory
        if change:
            self._names = resolutions(inventory)
            _log.debug("containerd: %d blobs more, %d fewer", len(change.added), len(change.removed))
            self._on_change(change)

    def _withdraw(self, digest: Digest) -> None:
        """Stop sharing one blob now; the next look sees to the rest."""
        self._looks.touch()
        self._share(
            Inventory(
                {held: blob for held, blob in self._shared.blobs.items() if held != digest},
                {tag: target for tag, target in self._shared.tags.items() if target != digest},
            )
        )


class _ContainerdOffer:
    """A blob's bytes from containerd. Not trusted: nothing has vouched for them since containerd verified the blob."""

    kind = SourceKind.CONTAINERD
    name = "containerd"
    trusted = False

    def __init__(self, store: ContainerdStore, digest: Digest) -> None:
        self._store = store
        self._digest = digest

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        await self._store.fetch(self._digest, span, sink)


def _first(errors: BaseExceptionGroup[ContainerdUnavailable]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
