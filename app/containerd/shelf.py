"""containerd's blobs among this node's contents, without a copy of their bytes.

What containerd holds whole stands in the chunk cache's table as an entry whose file is containerd's own: readers, the peer door
and the lists need not know. It counts for no quota, is never evicted, and leaves the table when containerd lets go of it. The
same blob leaves the cache's own disk, so that no node keeps it twice.

containerd checked a blob when it came, but disks rot. Before the first chunk is given out all of the blob is read once; it must
hash to its digest, and that vouches for a checksum of each chunk, against which chunks are checked from then on.
"""

import asyncio
import logging
from collections.abc import Iterable

from app.containerd.advertise import keys_gone, keys_held
from app.containerd.inventory import Change, SharedBlob
from app.containerd.store import ContainerdStore
from app.content.cache import ChunkCache, HeldListener
from app.content.descriptor import Descriptor
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import PRESENT, Meta
from app.content.names import Name, Resolution
from app.content.source import SourceKind
from app.content.tasks import Tasks
from app.errors import BadRequest, SourceError, SourceUnavailable

log = logging.getLogger(__name__)


class StoreEntry(Entry):
    """A blob that containerd holds whole, read from containerd's own file and never written."""

    owned = False

    def __init__(self, blob: SharedBlob, chunk_size: int, shelf: "ContainerdShelf") -> None:
        super().__init__(_meta(blob, chunk_size), None)
        self._digest = blob.digest
        self._shelf = shelf
        self._vouched = False
        self.states = bytearray([PRESENT]) * self.meta.chunks
        self.bits = (1 << self.meta.chunks) - 1
        self.present = self.meta.chunks
        self.held_bytes = self.meta.size

    def file(self) -> Descriptor:
        """Containerd's file. Raises OSError."""
        held = self._file() if self._file is not None else None
        if held is None:
            held = self._shelf.open_file(self._digest)
            self._hold(held)
        return held

    def origin(self, index: int) -> SourceKind:  # noqa: ARG002 -- all of it is containerd's
        """Its bytes are containerd's, however often they are read."""
        return SourceKind.CONTAINERD

    async def prepare(self) -> None:
        """Read all of it once; raises SourceError where it has rotted."""
        if not self._vouched:
            self.checksums[:] = b"".join(await self._shelf.vouch(self._digest, self.meta.chunk_size))
            self._vouched = True

    def drop(self, index: int) -> None:  # noqa: ARG002 -- a file that rotted in one place is given up whole
        """A chunk rotted: containerd's blob is not shared any more. Its file is left as it is."""
        self._shelf.reject(self._digest)


class ContainerdShelf:
    """Puts what containerd holds among this node's contents, and takes it away again."""

    def __init__(self, cache: ChunkCache, holder: HeldListener, *, tasks: Tasks) -> None:
        self._cache = cache
        self._holder = holder
        self._tasks = tasks
        self._store: ContainerdStore | None = None
        self._vouching: dict[Digest, asyncio.Future[tuple[bytes, ...]]] = {}

    def connect(self, store: ContainerdStore) -> None:
        """The store that `changed` is told of."""
        self._store = store

    def changed(self, change: Change) -> None:
        """Containerd's content is another. On the event loop."""
        self._holder.gone(keys_gone(change))
        self._holder.held(keys_held(change))
        for digest in change.removed:
            entry = self._cache.get(ContentKey.of_digest(digest))
            if isinstance(entry, StoreEntry):
                self._cache.forget(entry)
        self._adopt(change.added)

    def _adopt(self, blobs: Iterable[SharedBlob]) -> None:
        for blob in blobs:
            if self._store is not None and self._store.open_file(blob.digest) is not None:
                self._cache.adopt(StoreEntry(blob, self._cache.chunk_size, self))

    def open_file(self, digest: Digest) -> Descriptor:
        """Containerd's file of a blob. Raises OSError."""
        file = self._store.open_file(digest) if self._store is not None else None
        if file is None:
            raise FileNotFoundError(f"containerd has no readable file of {digest} any more")
        return file

    def reject(self, digest: Digest) -> None:
        """A blob rotted."""
        if self._store is not None:
            self._store.reject(digest)

    def remembered(self, name: Name) -> Resolution | None:
        """What a tag stands for, as containerd has it."""
        return self._store.remembered(name) if self._store is not None else None

    async def entry(self, key: ContentKey) -> Entry | None:
        """The content of a blob whose bytes can be had through containerd's API only: they pass through the cache."""
        try:
            digest = Digest.parse(key.text.partition("@")[0])
        except BadRequest:
            return None
        blob = self._store.shared(digest) if self._store is not None else None
        if blob is None:
            return None
        try:
            checksums = await self.vouch(digest, self._cache.chunk_size)
            entry = self._cache.create(_meta(blob, self._cache.chunk_size))
        except (SourceError, OSError) as error:
            log.warning("%s can not be shared: %s", digest, error)
            return None
        if entry.owned:
            entry.know(checksums)
        return entry

    async def vouch(self, digest: Digest, chunk_size: int) -> tuple[bytes, ...]:
        """The checksum of each chunk, once the whole was seen to be right; read once for all who ask. Raises SourceError.

        Who stops waiting does not stop the reading: the next one who asks finds it done.
        """
        known = self._vouching.get(digest)
        if known is None:
            known = self._vouching[digest] = asyncio.get_running_loop().create_future()
            self._tasks.create_task(self._vouch(digest, chunk_size, known), name=f"vouch for {digest}")
        return await asyncio.shield(known)

    async def _vouch(self, digest: Digest, chunk_size: int, told: "asyncio.Future[tuple[bytes, ...]]") -> None:
        try:
            if self._store is None:
                raise SourceUnavailable("containerd is away")
            checksums = await self._store.checksums(digest, chunk_size)
        except BaseException as error:
            del self._vouching[digest]
            told.set_exception(error if isinstance(error, SourceError) else SourceUnavailable(str(error)))
            told.exception()  # Whoever asked may have left.
            if not isinstance(error, SourceError):
                raise
        else:
            told.set_result(checksums)


def _meta(blob: SharedBlob, chunk_size: int) -> Meta:
    is_manifest = blob.media_type.endswith("+json") and ("manifest" in blob.media_type or "index" in blob.media_type)
    return Meta(
        ContentKey.of_digest(blob.digest),
        blob.size,
        chunk_size,
        blob.digest,
        verified=True,
        media_type=blob.media_type,
        kind="manifest" if is_manifest else "blob",
        source="containerd",
    )
