"""The chunk cache on a disk that loses what was not synced: whatever is left of it, nothing wrong is believed."""

import asyncio
import hashlib
import logging
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.content.cache import ChunkCache
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.names import Name, NameTable, Resolution
from app.content.threads import Threads
from tests.content.heart import Clock, pattern
from tests.crash.disk import SECTOR_BYTES, Disk

EXAMPLES = int(os.environ.get("PEERD_POWER_EXAMPLES") or 30)
"""Lives of a cache; 1,000 in the long form."""

WAYS = 5
"""What each power loss may leave, tried one after the other. The last is gone on with."""

CHUNK = 2 * SECTOR_BYTES
QUOTA = 24 * CHUNK
SIZES = (0, 77, CHUNK, 3 * CHUNK + 1, 9 * CHUNK, 20 * CHUNK + SECTOR_BYTES)
"""The records of the last one are in two sectors."""

DATA = {f"content {number}": pattern(size, number) for number, size in enumerate(SIZES)}
TEXTS = st.sampled_from(sorted(DATA))
INDEXES = st.integers(0, 20)
SEEDS = st.integers(0, 1 << 30)
TAG = Name.of_tag("registry.test", "app", "1")


def piece(text: str, index: int) -> bytes:
    """A chunk as it should be."""
    return DATA[text][index * CHUNK : (index + 1) * CHUNK]


class PowerLoss(RuleBasedStateMachine):
    """`claimed`: what each chunk was ever said to hash to. `safe`: chunks of whose every byte the disk had time to be sure."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = Path(tempfile.mkdtemp(prefix="power-loss-"))
        self.life = 0
        self.runner = asyncio.Runner()
        self.claimed: dict[str, set[tuple[int, bytes]]] = {text: set() for text in DATA}
        self.said = {0}

    def run(self, work):
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        (self.folder / "0").mkdir()
        self._begin_life()

    def _begin_life(self) -> None:
        self.disk = Disk(self.folder / str(self.life))
        self.stack = AsyncExitStack()
        self.run(self._open())
        self.safe: dict[tuple[Entry, int], Meta] = {}

    async def _open(self) -> None:
        threads = await self.stack.enter_async_context(Threads())
        opened = ChunkCache.open(self.disk.root, quota=QUOTA, chunk_size=CHUNK, threads=threads, clock=self.clock)
        self.cache = await self.stack.enter_async_context(opened)
        self.names = NameTable(self.cache.layout)

    def _entries(self, text: str) -> list[Entry]:
        return [entry for entry in self.cache if entry.meta.source == text]

    # What happens

    @rule(text=TEXTS, digest=st.booleans())
    def create(self, text: str, digest: bool) -> None:
        name = Digest.of(DATA[text]) if digest else None
        key = ContentKey.of_unverified(name, text) if name else ContentKey(f"url:{text}")
        self.run(self._create(Meta(key, len(DATA[text]), CHUNK, name, source=text)))

    async def _create(self, meta: Meta) -> None:
        self.cache.create(meta)

    @rule(text=TEXTS, index=INDEXES)
    def a_chunk_comes_in(self, text: str, index: int) -> None:
        for entry in self._entries(text):
            self._commit(entry, index, piece(text, index))

    @rule(text=TEXTS, index=INDEXES)
    def a_chunk_comes_in_from_a_liar(self, text: str, index: int) -> None:
        """Of what was proved it is known what each chunk must hash to, so no liar is believed there."""
        for entry in self._entries(text):
            if not entry.verified:
                self._commit(entry, index, bytes(byte ^ 0x5A for byte in piece(text, index)))

    def _commit(self, entry: Entry, index: int, data: bytes) -> None:
        if index < entry.meta.chunks and not entry.has(index):
            self.run(self._write(entry, index, data))
            self._forget_what_went()

    async def _write(self, entry: Entry, index: int, data: bytes) -> None:
        checksum = hashlib.sha256(data).digest()
        self.claimed[entry.meta.source].add((index, checksum))
        file = entry.file()
        with entry.pinned(index, index + 1):
            self.cache.reserve(len(data))
            os.pwrite(file.fileno(), data, entry.span(index).start)
            self.cache.commit(entry, index, checksum)
            self.cache.release(len(data))

    @rule(chunks=st.integers(1, 24))
    def room_is_made(self, chunks: int) -> None:
        self.run(self._make_room(chunks * CHUNK))
        self._forget_what_went()

    async def _make_room(self, count: int) -> None:
        self.cache.make_room(count)

    @rule(text=TEXTS, anew=st.booleans())
    def the_rest_comes_in_and_is_proved_or_not(self, text: str, anew: bool) -> None:
        """As `Proofs` does it: each chunk was hashed, and none came back different after it was.

        `anew`: all was evicted before, so that what a liar had sent comes again from somebody honest.
        """
        for entry in self._entries(text):
            entry.readers += 1
            if anew:
                self.room_is_made(QUOTA // CHUNK)
            for index in range(entry.meta.chunks):
                self._commit(entry, index, piece(text, index))
            entry.readers -= 1
            if entry.is_known and entry.meta.digest is not None and not entry.verified:
                right = all(entry.checksum(index) == _right(text, index) for index in range(entry.meta.chunks))
                self.run(self._conclude(entry, right))

    async def _conclude(self, entry: Entry, right: bool) -> None:
        if right:
            assert self.cache.promote(entry).verified
        else:
            self.cache.forget(entry)

    @rule(text=st.sampled_from([text for text, data in sorted(DATA.items()) if len(data) <= CHUNK * 4]))
    def a_manifest_is_kept(self, text: str) -> None:
        for index in range(-(-len(DATA[text]) // CHUNK)):
            self.claimed[text].add((index, _right(text, index)))
        digest = Digest.of(DATA[text])
        meta = Meta(ContentKey.of_digest(digest), len(DATA[text]), CHUNK, digest, source=text, kind="manifest")
        self.run(self._store(meta, DATA[text]))

    async def _store(self, meta: Meta, data: bytes) -> None:
        self.cache.store(meta, data)

    @rule(text=TEXTS, seed=SEEDS)
    def all_comes_in_twice(self, text: str, seed: int) -> None:
        """In any order, a liar's chunk among the others; evicted while somebody reads, it comes again, and is proved."""
        rng = random.Random(seed)
        self.create(text, digest=True)
        count = -(-len(DATA[text]) // CHUNK)
        lie = rng.randrange(count + 1)
        for index in rng.sample(range(count), count):
            (self.a_chunk_comes_in_from_a_liar if index == lie else self.a_chunk_comes_in)(text, index)
        self.the_rest_comes_in_and_is_proved_or_not(text, anew=True)

    @rule()
    def a_tag_moves(self) -> None:
        self.said.add(len(self.said))
        self.names.put(TAG, Resolution(len(self.said) - 1))

    @rule(text=TEXTS)
    def forget(self, text: str) -> None:
        for entry in self._entries(text):
            self.run(self._conclude(entry, right=False))

    @rule()
    def restart(self) -> None:
        self.run(self.stack.aclose())
        self.run(self._open())
        self.safe = {}

    @rule()
    def all_is_written_back(self) -> None:
        self.disk.settle()
        self.safe = {
            (entry, index): entry.meta for entry in self.cache for index in range(entry.meta.chunks) if entry.has(index)
        }

    def _forget_what_went(self) -> None:
        self.safe = {
            (entry, index): meta
            for (entry, index), meta in self.safe.items()
            if entry.has(index) and entry.meta is meta and self.cache.get(meta.key) is entry
        }

    @rule(seed=SEEDS)
    def power_is_lost(self, seed: int) -> None:
        self._forget_what_went()
        safe = {(meta.key, index) for (_, index), meta in self.safe.items()}
        self.claims = {
            meta.key: ContentKey.of_unverified(meta.digest, meta.source)
            for meta in self.safe.values()
            if meta.digest is not None
        }
        rng = random.Random(seed)
        for _ in range(WAYS):
            self.life += 1
            self.disk.lose_power(self.folder / str(self.life), rng)
            self.run(self._believe_nothing_wrong(safe))
        self._end_life()
        self._begin_life()

    async def _believe_nothing_wrong(self, safe: set[tuple[ContentKey, int]]) -> None:
        async with opened(self.folder / str(self.life)) as cache:
            found = NameTable(cache.layout).get(TAG)
            assert found is None or found.size in self.said
            await self._believe_no_wrong_chunk(cache, safe)

    async def _believe_no_wrong_chunk(self, cache: ChunkCache, safe: set[tuple[ContentKey, int]]) -> None:
        for entry in cache:
            text = entry.meta.source
            assert entry.meta.size == len(DATA[text])
            checksums = {index: entry.checksum(index) for index in range(entry.meta.chunks)}
            known = {(index, checksum) for index, checksum in checksums.items() if checksum is not None}
            assert known <= self.claimed[text], "what no source ever said is believed"
            if entry.verified:
                assert known == {(index, _right(text, index)) for index in checksums}, (
                    f"{entry} counts as proved, and what it must hash to is not what was proved"
                )
            for index in checksums:
                if await cache.check(entry, index):
                    span, file = entry.span(index), entry.file()
                    data = os.pread(file.fileno(), len(span), span.start)
                    assert hashlib.sha256(data).digest() == entry.checksum(index)
                else:
                    assert (entry.meta.key, index) not in safe, f"chunk {index} of {entry} was on disk"
        # A record that was torn makes a proved content one that is only claimed; its other chunks are there all the same.
        gone = {key for key, _ in safe if cache.get(key) is None and cache.get(self.claims.get(key, key)) is None}
        assert not gone, "these were on disk, and nothing of them had changed since"

    # What is always true

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def what_was_proved_is_known(self) -> None:
        for entry in self.cache:
            assert not entry.verified or entry.is_known

    def _end_life(self) -> None:
        self.run(self.stack.aclose())
        self.disk.close()

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self._end_life()
        self.runner.close()
        shutil.rmtree(self.folder)


def _right(text: str, index: int) -> bytes:
    return hashlib.sha256(piece(text, index)).digest()


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[ChunkCache]:
    async with Threads() as threads, ChunkCache.open(root, quota=QUOTA, chunk_size=CHUNK, threads=threads) as cache:
        yield cache


def keep(cache: ChunkCache, entry: Entry, index: int, data: bytes) -> None:
    file = entry.file()
    os.pwrite(file.fileno(), data, entry.span(index).start)
    cache.commit(entry, index, hashlib.sha256(data).digest())


TEXT = "content 3"
DIGEST = Digest.of(DATA[TEXT])
META = Meta(ContentKey.of_unverified(DIGEST, TEXT), len(DATA[TEXT]), CHUNK, DIGEST, source=TEXT)


async def proved(cache: ChunkCache) -> Path:
    """Keep a content in which a liar's chunk was replaced before the proof; returns what its files were before that."""
    entry = cache.create(META)
    entry.readers += 1
    for index in range(entry.meta.chunks):
        keep(cache, entry, index, piece(TEXT, index) if index else bytes(CHUNK))
    before = cache.layout.root / "before"
    shutil.copytree(entry.folder, before)
    cache.make_room(QUOTA)
    for index in range(entry.meta.chunks):
        keep(cache, entry, index, piece(TEXT, index))
    entry.readers -= 1
    assert cache.promote(entry).verified
    return before


async def test_what_the_disk_brought_back_from_before_a_proof_is_not_proved(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        before = await proved(cache)
        folder = cache.layout.content(ContentKey.of_digest(DIGEST))
    for name in ("chunks", "data"):
        shutil.copy(before / name, folder / name)
    async with opened(tmp_path) as cache:
        [entry] = cache
        assert entry.meta.key == META.key
        assert not entry.verified
        assert await cache.check(entry, 0), "as wrong as it is, it is what that host was said to have"


async def test_a_proof_that_was_cut_short_before_the_folder_moved_is_completed(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await proved(cache)
        folder = cache.layout.content(ContentKey.of_digest(DIGEST))
        folder.rename(cache.layout.content(META.key))
    async with opened(tmp_path) as cache:
        [entry] = cache
        assert entry.meta.key == ContentKey.of_digest(DIGEST)
        assert entry.verified
        assert entry.folder == folder
        assert all([await cache.check(entry, index) for index in range(entry.meta.chunks)])


logging.getLogger("app.content").setLevel(logging.CRITICAL)
PowerLoss.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestPowerLoss = PowerLoss.TestCase
