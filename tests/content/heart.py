"""A heart with fake sources around it, and what has to be true of it when nobody reads any more."""

import asyncio
import gc
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.content.byte_range import ByteRange
from app.content.cache import ChunkCache
from app.content.descriptor import Slice
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.flight import Flights
from app.content.in_order import InOrder
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.location import FileAtUrl, Location
from app.content.prefetch import Prefetcher
from app.content.proof import Proofs
from app.content.reader import Reader, Reading
from app.content.source import Asker, Content, Offer, Sink, Source, SourceKind, Stat
from app.content.tasks import Tasks
from app.content.threads import Threads
from app.errors import RangesUnsupported, SourceUnavailable

CHUNK = 1024
UPSTREAM = FileAtUrl("http://upstream.test/file")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pattern(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass
class Counts:
    """What became of chunks. See `Tally`."""

    received: dict[SourceKind, int] = field(default_factory=lambda: dict.fromkeys(SourceKind, 0))
    corrupt: dict[SourceKind, int] = field(default_factory=lambda: dict.fromkeys(SourceKind, 0))
    not_kept: int = 0
    from_upstream: list[ByteRange] = field(default_factory=list)

    def came_in(self, kind: SourceKind, count: int) -> None:
        self.received[kind] += count

    def came_from_upstream(self, _content: Content, span: ByteRange) -> None:
        self.from_upstream.append(span)

    def answered(self, kind: SourceKind, count: int, seconds: float) -> None:
        """Nobody here asks how fast."""

    def was_corrupt(self, kind: SourceKind) -> None:
        self.corrupt[kind] += 1

    def was_not_kept(self) -> None:
        self.not_kept += 1


@dataclass
class Heart:
    """All of it, as main wires it."""

    cache: ChunkCache
    flights: Flights
    proofs: Proofs
    prefetcher: Prefetcher
    reader: Reader
    tasks: Tasks
    threads: Threads
    clock: Clock
    counts: Counts

    def content(
        self,
        data: bytes,
        *,
        digest: Digest | None = None,
        host: str = "upstream.test",
        location: Location | None = UPSTREAM,
    ) -> tuple[Content, Entry]:
        """A content of these bytes as the library would open it; nothing of it is here yet."""
        key = ContentKey("url:test") if digest is None else ContentKey.of_unverified(digest, host)
        entry = self.cache.create(Meta(key, len(data), CHUNK, digest, source=host))
        return Content(key, digest, len(data), Stat(len(data), None), location), entry

    async def read(self, content: Content, entry: Entry, wanted: ByteRange | None = None) -> bytes:
        with self.reader.reading(content, entry) as reading:
            return await read(reading, wanted)

    async def settled(self) -> None:
        """Return when nothing is under way any more."""
        async with asyncio.timeout(20):
            while len(self.tasks) or len(self.flights):
                await asyncio.sleep(0.001)

    async def assert_nothing_is_left_behind(self) -> None:
        await self.settled()
        assert len(self.flights) == 0
        assert not self.flights._pending
        assert not self.flights._runs
        for entry in self.cache:
            assert entry.readers == 0
            assert not entry._pins, entry
        assert self.cache._reserved_bytes == 0
        assert self.cache.used_bytes == sum(entry.held_bytes for entry in self.cache)
        assert self.cache.used_bytes <= self.cache.quota


@asynccontextmanager
async def heart(
    root: Path,
    sources: Sequence[Source] | Asker,
    *,
    quota: int = 1 << 20,
    prefetch: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[Heart]:
    clock = clock or Clock()
    asker: Asker = InOrder(sources) if isinstance(sources, Sequence) else sources
    counts = Counts()
    async with (
        Threads() as threads,
        ChunkCache.open(root, quota=quota, chunk_size=CHUNK, threads=threads, clock=clock) as cache,
        Tasks() as tasks,
    ):
        flights = Flights(cache, asker, tasks=tasks, tally=counts, from_upstream=counts.came_from_upstream)
        proofs = Proofs(cache, flights, threads=threads, tasks=tasks)
        prefetcher = Prefetcher(cache, flights, asker, tasks=tasks, enabled=prefetch)
        reader = Reader(cache, flights, proofs, prefetcher)
        yield Heart(cache, flights, proofs, prefetcher, reader, tasks, threads, clock, counts)


class Taker:
    """An outlet whose client takes at once as much as a seed says: all of a part, some of it, or nothing."""

    def __init__(self, seed: int) -> None:
        self.got = bytearray()
        self.told = 0
        self.has_left = False
        self._rng = random.Random(seed)

    @property
    def is_open(self) -> bool:
        return self._rng.random() < 0.9

    def take(self, part: Slice) -> int:
        assert not self.has_left, "taken for a client that has left"
        count = self._rng.choice((0, 1, part.count // 2, part.count, part.count))
        self.got += os.pread(part.file.fileno(), count, part.offset)
        return count

    def went_out(self, _kind: SourceKind, count: int) -> None:
        self.told += count


async def read(
    reading: Reading, wanted: ByteRange | None = None, *, slowly: bool = False, taker: Taker | None = None
) -> bytes:
    """What a client gets. `slowly`: each slice is looked at only after others had their turn, as by a slow socket."""
    got = bytearray() if taker is None else taker.got
    sliced = 0
    slices = reading.slices(wanted, taker)
    try:
        async for part in slices:
            if slowly:
                await asyncio.sleep(0.002)
            got += os.pread(part.file.fileno(), part.count, part.offset)
            sliced += part.count
    finally:
        await slices.aclose()
    assert taker is None or taker.told == len(got) - sliced
    return bytes(got)


@contextmanager
def no_file_left_open() -> Iterator[None]:
    """What was opened within is closed at its end, by whoever let go of it last: the garbage collector does not come by."""
    gc.collect()
    gc.disable()
    try:
        before = set(os.listdir("/proc/self/fd"))
        yield
        # A thread lets go of what it had a moment after it has said that it is done.
        deadline = time.monotonic() + 10
        while (left := set(os.listdir("/proc/self/fd")) - before) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not left, [os.readlink(f"/proc/self/fd/{fd}") for fd in left if os.path.lexists(f"/proc/self/fd/{fd}")]
    finally:
        gc.enable()


# Sources


@dataclass
class Conduct:
    """How one offer behaves: it sends `right` bytes of what it was asked for, then does something."""

    then: Callable[["Conduct", bytes, ByteRange, Sink], None]
    right: int = 1 << 30
    name: str = ""

    def __repr__(self) -> str:
        return f"{self.name or self.then.__name__}({self.right})"


def good(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Sends it all, in pieces."""
    for start in range(span.start, span.stop, 300):
        sink.write(data[start : min(start + 300, span.stop)])


@dataclass
class FakeOffer:
    source: "FakeSource"
    conduct: Conduct
    content: Content
    chunk: int

    @property
    def kind(self) -> SourceKind:
        return self.source.kind

    @property
    def name(self) -> str:
        return repr(self.conduct)

    @property
    def trusted(self) -> bool:
        return self.source.kind is not SourceKind.PEER

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        self.source.fetched.append((self.chunk, span))
        if self.source.gate is not None:
            await self.source.gate.wait()
        await asyncio.get_running_loop().run_in_executor(
            self.source.executor, self.conduct.then, self.conduct, self.source.data, span, sink
        )


class FakeSource:
    """Upstream, or members: a list of conducts, one offer each; `fetched` tells what was asked for."""

    def __init__(
        self,
        data: bytes,
        conducts: Sequence[Conduct] = (Conduct(good),),
        *,
        kind: SourceKind = SourceKind.UPSTREAM,
        gate: asyncio.Event | None = None,
        executor: ThreadPoolExecutor | None = None,
    ) -> None:
        self.data = data
        self.conducts = list(conducts)
        self.kind = kind
        self.gate = gate
        self.executor = executor
        self.fetched: list[tuple[int, ByteRange]] = []

    def offers(self, content: Content, chunk: int) -> Iterator[Offer]:
        for conduct in list(self.conducts):
            yield FakeOffer(self, conduct, content, chunk)


def ignores_ranges(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Can only be read from the beginning on."""
    if not span.covers(len(data)):
        raise RangesUnsupported("answers with the whole")
    good(conduct, data, span, sink)


def dies(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """The connection breaks."""
    if span.start + conduct.right < span.stop:
        if conduct.right:
            good(conduct, data, ByteRange(span.start, span.start + conduct.right), sink)
        raise SourceUnavailable("connection reset")
    good(conduct, data, span, sink)
    raise SourceUnavailable("connection reset at the very end")
