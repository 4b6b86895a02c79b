"""Content key and byte range to bytes: the one way through, behind both doors.

For each chunk in turn: this node's cache, else a fetch that others may share, from source to source at the same byte. What
comes out are slices of open files. A slice is true when it is handed out; when bytes can not be had an error is raised and
the route breaks the body off. Nothing is padded, and nothing ends early as if whole: the last chunk of a content that has a
digest is held back until the whole has been proved.
"""

import logging
import time
from collections.abc import AsyncGenerator
from typing import Self

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.descriptor import Slice
from app.content.entry import Entry
from app.content.flight import Flights
from app.content.layout import Meta
from app.content.outlet import Outlet
from app.content.prefetch import Prefetcher
from app.content.proof import Proofs
from app.content.source import Content
from app.errors import DigestMismatch

log = logging.getLogger(__name__)

AHEAD_CHUNKS = 4
"""How many chunks are fetched at once for one client that reads in order, where the rest is not being filled anyway."""

RUN_CHUNKS = 64
"""How many chunks are sent as one slice at most: as many are kept from eviction by a client that reads slowly."""


class Reading:
    """One content, being read by one client."""

    def __init__(self, reader: "Reader", content: Content, entry: Entry) -> None:
        self.content = content
        self.entry = entry
        self._reader = reader

    def __enter__(self) -> Self:
        self.entry.readers += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.was_left(self.entry)

    def progress(self) -> int:
        """Grows as long as anything of this content comes in, whoever asked for it."""
        return self._reader.flights.progress(self.entry)

    async def slices(
        self, wanted: ByteRange | None = None, outlet: Outlet | None = None
    ) -> AsyncGenerator[Slice, None]:
        """The bytes of `wanted` (None: all), in order, each slice true when it is yielded.

        What went out by `outlet` before is not yielded. Close the generator when the client leaves.

        Raises:
            Unobtainable, ContentChanged, DigestMismatch, UpstreamError, ContentUnknown: the rest can not be had.
        """
        if wanted is None and not self.content.size:
            return
        entry, content, reader = self.entry, self.content, self._reader
        wanted = wanted or ByteRange(0, content.size)
        chunk_size = entry.meta.chunk_size
        stop_chunk = wanted.chunks(chunk_size).stop
        held_back, disagreements = self._held_back(wanted), entry.disagreements
        filling = reader.prefetcher.read(
            content, entry, wanted.start // chunk_size, whole=_wants_the_rest(wanted, entry.meta)
        )
        ahead = 1 if filling else reader.cache.chunks_ahead(AHEAD_CHUNKS)
        position = wanted.start
        while position < wanted.stop:
            index = position // chunk_size
            if held_back is not None and index >= held_back:
                await reader.proofs.prove(content, entry)
                if entry.disagreements != disagreements:
                    raise DigestMismatch(f"a chunk of {content.key} came back different while a client read it")
                held_back = None
            self._look_ahead(index, min(index + ahead, stop_chunk))
            if await reader.cache.check(entry, index):
                # At least the one that was just checked, though the time for which that is believed may end in between.
                run_stop = max(index + 1, reader.run(entry, index, stop_chunk if held_back is None else held_back))
                stop = min(wanted.stop, entry.span(run_stop - 1).stop)
                with entry.pinned(index, run_stop):
                    yield Slice(entry.file(), position, stop - position, entry.origin(index))
                    reader.was_read(entry, index, run_stop)
                position = stop
                continue
            if entry.has(index) and reader.cache.is_fresh(entry, index):
                continue  # It came in while somebody else found the former one rotten.
            fill = reader.flights.join(content, entry, index)
            with entry.pinned(index, index + 1):
                stop = min(wanted.stop, fill.span.stop)
                while position < stop:
                    fill.was_read = True
                    position = await fill.follow(position, stop, outlet)
                    until = min(stop, fill.released)
                    if position < until:
                        yield fill.slice(position, until)
                        position = until
                    elif position == stop or entry.has(index):
                        break  # All of it went out; or another fetch brought the chunk meanwhile.
                    else:
                        fill = reader.flights.again(content, fill)
                reader.was_read(entry, index, index + 1)

    def _held_back(self, wanted: ByteRange) -> int | None:
        """The chunk that waits until the whole is proved: the last one, for a client that reads to the end.

        Not where that would cost more than the client asked for: one that reads a footer does not wait for the whole. But what
        was disproved a moment ago is shown to nobody before it is proved: it is asked for by one whose body broke off for that.
        """
        entry = self.entry
        if self.content.digest is None or entry.verified or wanted.stop != entry.meta.size:
            return None
        if self._reader.flights.is_suspect(self.content.key):
            return wanted.start // entry.meta.chunk_size
        if wanted.start and not all(map(entry.has, range(wanted.start // entry.meta.chunk_size))):
            return None
        return entry.meta.chunks - 1

    def _look_ahead(self, index: int, stop_chunk: int) -> None:
        for ahead in range(index, stop_chunk):
            if not self.entry.has(ahead):
                self._reader.flights.join(self.content, self.entry, ahead)


class Reader:
    """Opens contents for reading."""

    def __init__(self, cache: ChunkCache, flights: Flights, proofs: Proofs, prefetcher: Prefetcher) -> None:
        self.cache = cache
        self.flights = flights
        self.proofs = proofs
        self.prefetcher = prefetcher

    def reading(self, content: Content, entry: Entry) -> Reading:
        """A content, kept from being forgotten in the `with` block that is begun with this."""
        return Reading(self, content, entry)

    def was_left(self, entry: Entry) -> None:
        """One reader fewer."""
        entry.readers -= 1
        entry.last_read = self.cache.clock()
        # A chunk's bytes are shown before the chunk is kept: what is still coming in is no empty content.
        if not entry.readers and not entry.present and entry.meta.size and not self.flights.pending(entry):
            self.cache.forget(entry)
        self.cache.make_room(0)  # What it read could not go before.

    def is_settled(self, entry: Entry) -> bool:
        """Whether all of it is here for good, nothing of it waits for a proof, and it is what its key stands for."""
        return entry.whole and (entry.verified or entry.meta.digest is None) and self.is_current(entry)

    def is_current(self, entry: Entry) -> bool:
        """Whether this is what the cache has under its key: it was not forgotten, and nothing has taken its place."""
        return self.cache.get(entry.meta.key) is entry

    def at_hand(self, content: Content | None, entry: Entry, wanted: ByteRange) -> "Held | None":
        """`wanted` as one slice, without waiting; None where something has to be fetched, checked, proved or opened first.

        `entry` is current (`is_current`). `content` is what else may be fetched of it for whoever reads on; None where that is
        nothing. Raises OSError.
        """
        meta = entry.meta
        chunks = wanted.chunks(meta.chunk_size)
        # As `Reading`: what waits for a proof is shown but for its end.
        is_proved = meta.verified or meta.digest is None or wanted.stop < meta.size
        if not is_proved or len(chunks) > RUN_CHUNKS or self.run(entry, chunks.start, chunks.stop) != chunks.stop:
            return None
        part = Slice(entry.file(), wanted.start, len(wanted), entry.origin(chunks.start))
        if content is not None and not entry.whole:
            self.prefetcher.read(content, entry, chunks.start, whole=_wants_the_rest(wanted, entry.meta))
        return Held(self, entry, chunks, part)

    def run(self, entry: Entry, first: int, stop: int) -> int:
        """Where the run of chunks from `first` up to `stop` ends that may be sent as one: here, checked lately, from one source."""
        cache, index, stop = self.cache, first, min(stop, first + RUN_CHUNKS)
        now, origin = cache.clock(), entry.origin(first)
        while (
            index < stop
            and entry.has(index)
            and cache.is_fresh(entry, index, now)
            and (index == first or entry.origin(index) is origin)
        ):
            index += 1
        return index

    def was_read(self, entry: Entry, first: int, stop: int) -> None:
        """Chunks from `first` up to `stop` were sent to a client."""
        now = self.cache.clock()
        entry.touch(first, stop, now)
        entry.last_read, entry.last_read_wall = now, time.time()


class Held:
    """Bytes that are at hand: kept from eviction until `let_go`, which is to be called once."""

    __slots__ = ("_chunks", "_entry", "_reader", "part")

    def __init__(self, reader: Reader, entry: Entry, chunks: range, part: Slice) -> None:
        self.part = part
        self._reader = reader
        self._entry = entry
        self._chunks = chunks
        entry.pin(chunks.start, chunks.stop)
        entry.readers += 1

    def let_go(self) -> None:
        """They were sent, or will not be."""
        entry, chunks = self._entry, self._chunks
        entry.unpin(chunks.start, chunks.stop)
        entry.readers -= 1
        self._reader.was_read(entry, chunks.start, chunks.stop)
        self._reader.cache.make_room(0)  # What is read can not go.


def _wants_the_rest(wanted: ByteRange, meta: Meta) -> bool:
    """Whether a client that reads `wanted` wants all that there is: it reads on to the end, and not a footer only."""
    return wanted.stop == meta.size and (wanted.start == 0 or len(wanted.chunks(meta.chunk_size)) > AHEAD_CHUNKS)
