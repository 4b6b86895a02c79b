"""One pass through a content whose source can only be read from the beginning on.

Upstreams that ignore `Range` send the whole again for each chunk; so one pass fills every chunk, and whoever waits for one
waits for the pass to reach it. The pass runs a bounded way ahead of the furthest reader, so that a file larger than the
cache does not push out what is still to be read, and ends when nobody wants more for a while.
"""

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import Callable

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.entry import Entry
from app.content.source import Abandoned, Content, Offer, SourceKind
from app.errors import PeerdError, SourceLied, SourceUnavailable, Unobtainable

log = logging.getLogger(__name__)

AHEAD_CHUNKS = 32
"""How far the pass may run ahead of the furthest chunk that somebody waits for."""

PATIENCE_SECONDS = 15.0
"""How long the pass waits for somebody to want more before it gives its connection back."""


class SequentialRun:
    """Fills an entry from chunk `first` on. A sink, written to by one thread."""

    def __init__(
        self,
        cache: ChunkCache,
        content: Content,
        entry: Entry,
        *,
        span: ByteRange | None = None,
        received: Callable[[SourceKind, int], None],
        committed: Callable[[Content, Entry], None],
    ) -> None:
        self.entry = entry
        self.error: PeerdError | None = None
        self.ended = False
        self._cache = cache
        self._content = content
        self._span = span or ByteRange(0, content.size)
        self._received = received
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._position = self._span.start
        self._passed = self._position // entry.meta.chunk_size
        self._hash = hashlib.sha256()
        self._file = entry.file()
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._wanted = self._passed
        self._more_wanted = threading.Condition()

    async def reach(self, index: int) -> None:
        """Return when chunk `index` is in. Raises SourceError or UpstreamError when the pass ends before that."""
        with self._more_wanted:
            self._wanted = max(self._wanted, index)
            self._more_wanted.notify()
        while not self.entry.has(index):
            if self.error is not None:
                raise self.error
            if self.ended or index < self._passed:
                raise SourceUnavailable(
                    f"the pass through {self._content.key} went by chunk {index} without it being kept"
                )
            await asyncio.shield(self._changed)

    async def drive(self, offer: Offer) -> None:
        """Read it all."""
        try:
            await offer.fetch(self._span, self)
        except PeerdError as error:
            self.error = error
        except Abandoned:
            self.error = SourceUnavailable("nobody wanted more")
        except BaseException:
            self.error = Unobtainable("the pass was given up")
            raise
        finally:
            self.ended = True
            with self._more_wanted:
                self._more_wanted.notify()
            self._notify()

    def _notify(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)
        if not self.ended:
            self._changed = self._loop.create_future()

    # Called by the offer's thread

    def expect_checksum(self, sha256: bytes) -> None:
        """A pass is not a chunk; what the whole must be is checked by its digest."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes, over chunk borders."""
        view = memoryview(data)
        if self._position + len(view) > self._span.stop:
            raise SourceLied(f"sent more than the {len(self._span)} bytes asked for")
        self._loop.call_soon_threadsafe(self._received, SourceKind.UPSTREAM, len(view))
        while view:
            index = self._position // self.entry.meta.chunk_size
            stop = self.entry.span(index).stop
            piece, view = view[: stop - self._position], view[stop - self._position :]
            self._put(index, piece)
            if self._position == stop:
                self._finish_chunk(index)

    def _put(self, index: int, piece: memoryview) -> None:
        self._hash.update(piece)
        if not self.entry.has(index):
            try:
                os.pwrite(self._file.fileno(), piece, self._position)
            except OSError as error:
                raise SourceUnavailable(f"no room for chunk {index}: {error}") from error
        self._position += len(piece)

    def _finish_chunk(self, index: int) -> None:
        checksum, self._hash = self._hash.digest(), hashlib.sha256()
        self._loop.call_soon_threadsafe(self._commit, index, checksum)
        with self._more_wanted:
            in_time = self._more_wanted.wait_for(
                lambda: self.ended or index < self._wanted + AHEAD_CHUNKS, timeout=PATIENCE_SECONDS
            )
        if self.ended or not in_time:
            raise Abandoned

    def _commit(self, index: int, checksum: bytes) -> None:
        if not self.entry.has(index):
            self._cache.make_room(len(self.entry.span(index)))
            try:
                self._cache.commit(self.entry, index, checksum)
                self.entry.came_from(index, SourceKind.UPSTREAM)
            except OSError as error:
                log.warning("chunk %d of %s can not be kept: %s", index, self._content.key, error)
        self._passed = index + 1
        self._notify()
        self._committed(self._content, self.entry)
