"""The chunk cache against a dict: whatever is evicted, forgotten, restarted, torn or rotten, no wrong byte passes `check`."""

import asyncio
import hashlib
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from app.content.cache import TRUST_SECONDS, ChunkCache
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Meta
from app.content.threads import Threads
from tests.content.heart import Clock, pattern

CHUNK = 512
QUOTA = 8 * CHUNK
SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 4 * CHUNK + 77)
DATA = {f"content {number}": pattern(size, number) for number, size in enumerate(SIZES)}
KEYS = st.sampled_from(sorted(DATA))


class Listener:
    """What others were told."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def held(self, keys: Iterable[str]) -> None:
        self.told |= set(keys)

    def gone(self, keys: Iterable[str]) -> None:
        self.told -= set(keys)


def _copy_while_it_changes(folder: Path, into: Path) -> None:
    """What a crash leaves at some moment: the trash is being emptied meanwhile, and what is gone from it is gone."""
    into.mkdir()
    with suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            with suppress(FileNotFoundError):
                if path.is_dir():
                    _copy_while_it_changes(path, into / path.name)
                else:
                    shutil.copy(path, into / path.name)


def damage(path: Path, rng: random.Random) -> str:
    """What power loss or a dying disk does to a file."""
    data = bytearray(path.read_bytes())
    if not data:
        return "nothing"
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 20, 37, 600)))
    kind = rng.choice(("truncate", "zeros", "garbage", "bit"))
    if kind == "truncate":
        del data[start:]
    elif kind == "zeros":
        data[start:stop] = bytes(stop - start)
    elif kind == "garbage":
        data[start:stop] = rng.randbytes(stop - start)
    else:
        data[start] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return kind


class CacheMachine(RuleBasedStateMachine):
    pins: "Bundle[tuple[Entry, int, AsyncExitStack]]" = Bundle("pins")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = Path(tempfile.mkdtemp(prefix="cache-machine-"))
        self.life = 0
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.evicted = 0
        self.pinned: dict[tuple[Entry, int], int] = {}

    def run(self, work):
        return self.runner.run(work)

    @property
    def root(self) -> Path:
        return self.folder / str(self.life)

    @initialize()
    def begin(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        threads = await self.stack.enter_async_context(Threads())
        opened = ChunkCache.open(self.root, quota=QUOTA, chunk_size=CHUNK, threads=threads, clock=self.clock)
        self.cache = await self.stack.enter_async_context(opened)
        self.listener = Listener()
        self.cache.listener = self.listener
        self.listener.held(self.cache.advertised())
        self.pinned = {}

    def _entries(self, text: str) -> list[Entry]:
        return [entry for entry in self.cache if entry.meta.source == text]

    # What happens

    @rule(text=KEYS, digest=st.booleans())
    def create(self, text: str, digest: bool) -> None:
        name = Digest.of(DATA[text]) if digest else None
        key = ContentKey.of_unverified(name, text) if name else ContentKey(text)
        entry = self.run(self._create(Meta(key, len(DATA[text]), CHUNK, name, source=text)))
        assert self.cache.get(key) is entry

    async def _create(self, meta: Meta) -> Entry:
        return self.cache.create(meta)

    @rule(text=KEYS, index=st.integers(0, 4))
    def commit(self, text: str, index: int) -> None:
        for entry in self._entries(text):
            if index < entry.meta.chunks and not entry.has(index):
                self.run(self._commit(entry, index))

    async def _commit(self, entry: Entry, index: int) -> None:
        span = entry.span(index)
        piece = DATA[entry.meta.source][span.start : span.stop]
        file = entry.file()
        with entry.pinned(index, index + 1):
            self.cache.reserve(len(span))
            os.pwrite(file.fileno(), piece, span.start)
            self.cache.commit(entry, index, hashlib.sha256(piece).digest())
            self.cache.release(len(span))

    @rule(text=KEYS)
    def complete_and_promote(self, text: str) -> None:
        for entry in self._entries(text):
            for index in range(entry.meta.chunks):
                if not entry.has(index):
                    self.run(self._commit(entry, index))
            if entry.whole and entry.meta.digest is not None:
                right = [self.run(self.cache.check(entry, index)) for index in range(entry.meta.chunks)]
                if all(right):
                    promoted = self.run(self._promote(entry))
                    assert promoted.verified
                    assert self.cache.get(ContentKey.of_digest(promoted.meta.digest)) is promoted

    async def _promote(self, entry: Entry) -> Entry:
        return self.cache.promote(entry)

    @rule(text=KEYS)
    def read(self, text: str) -> None:
        for entry in self._entries(text):
            self.run(self._read(entry))

    async def _read(self, entry: Entry) -> None:
        data, file = DATA[entry.meta.source], entry.file()
        for index in range(entry.meta.chunks):
            if await self.cache.check(entry, index):
                span = entry.span(index)
                assert os.pread(file.fileno(), len(span), span.start) == data[span.start : span.stop]
                entry.touch(index, index + 1, self.clock())
        entry.last_read = self.clock()

    @rule(text=KEYS)
    def forget(self, text: str) -> None:
        for entry in self._entries(text):
            self.run(self._forget(entry))
            assert self.cache.get(entry.meta.key) is None

    async def _forget(self, entry: Entry) -> None:
        before = self.cache.used_bytes
        assert self.cache.forget(entry) == before - self.cache.used_bytes

    @rule(target=pins, text=KEYS, index=st.integers(0, 4))
    def pin(self, text: str, index: int):
        found = []
        for entry in self._entries(text):
            if index < entry.meta.chunks and entry.has(index):
                stack = AsyncExitStack()
                stack.enter_context(entry.pinned(index, index + 1))
                self.pinned[entry, index] = self.pinned.get((entry, index), 0) + 1
                found.append((entry, index, stack))
        return multiple(*found)

    @rule(pin=st.nothing() | pins)
    def unpin(self, pin) -> None:
        entry, index, stack = pin
        if self.pinned.get((entry, index)):
            self.run(stack.aclose())
            self.pinned[entry, index] -= 1

    @rule(seconds=st.sampled_from((1, TRUST_SECONDS + 1)))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(text=KEYS, seed=st.integers(0, 1 << 20))
    def rot(self, text: str, seed: int) -> None:
        """A bit of what nobody has looked at for a while turns over."""
        rng = random.Random(seed)
        self.clock.now += TRUST_SECONDS + 1
        for entry in self._entries(text):
            present = [index for index in range(entry.meta.chunks) if entry.has(index)]
            if present:
                file = entry.file()
                index = rng.choice(present)
                position = rng.randrange(entry.span(index).start, entry.span(index).stop)
                [byte] = os.pread(file.fileno(), 1, position)
                os.pwrite(file.fileno(), bytes([byte ^ 1]), position)
                assert not self.run(self.cache.check(entry, index))
                assert not entry.has(index)

    @rule()
    def restart(self) -> None:
        before = self._held()
        self.run(self.stack.aclose())
        self.run(self._open())
        assert self._held() == before

    @rule()
    def kill(self) -> None:
        """kill -9: what was written is in the kernel's hands, so nothing is lost."""
        before = self._held()
        self._crash()
        assert self._held() == before

    @rule(seed=st.integers(0, 1 << 20), count=st.integers(1, 4))
    def power_loss(self, seed: int, count: int) -> None:
        """Anything that was not synced may be torn, and old bits may rot; nothing was synced."""
        rng = random.Random(seed)
        self._crash(lambda root: self._damage(root, rng, count))

    def _crash(self, then=lambda _root: None) -> None:
        former = self.root
        self.life += 1
        _copy_while_it_changes(former, self.root)
        then(self.root)
        self.run(self.stack.aclose())
        self.run(self._open())

    @staticmethod
    def _damage(root: Path, rng: random.Random, count: int) -> None:
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "lock")
        for path in rng.sample(files, min(count, len(files))):
            damage(path, rng)

    def _held(self) -> dict[str, tuple[bool, int]]:
        """What is here of each content that has any byte here."""
        return {entry.meta.key.text: (entry.verified, entry.bits) for entry in self.cache if entry.present}

    # What is always true

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def the_books_are_right(self) -> None:
        assert self.cache.used_bytes == sum(entry.held_bytes for entry in self.cache)
        for entry in self.cache:
            present = [index for index in range(entry.meta.chunks) if entry.has(index)]
            assert entry.present == len(present)
            assert entry.bits == sum(1 << index for index in present)
            assert entry.held_bytes == sum(len(entry.span(index)) for index in present)

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def the_quota_holds_but_for_what_is_read(self) -> None:
        pinned = sum(len(entry.span(index)) for (entry, index), count in self.pinned.items() if count)
        assert self.cache.used_bytes <= QUOTA + pinned

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def others_are_told_what_is_here(self) -> None:
        assert self.listener.told == set(self.cache.advertised())

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def what_was_proved_is_known(self) -> None:
        for entry in self.cache:
            assert not entry.verified or entry.is_known

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)


logging.getLogger("app.content").setLevel(logging.ERROR)
CacheMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestCache = CacheMachine.TestCase
