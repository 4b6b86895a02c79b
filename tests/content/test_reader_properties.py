"""Whatever its sources do, a client gets the right bytes or a body that is broken off; and nothing is left behind."""

import asyncio
import contextlib
import logging
import os
import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.in_order import InOrder
from app.content.source import Content, Offer, SourceKind, Want
from app.errors import ContentChanged, NotNow, PeerdError
from tests.content.faults import PEER_FAULTS, UPSTREAM_FAULTS, changed, consistent_liar
from tests.content.heart import (
    CHUNK,
    Conduct,
    FakeSource,
    Heart,
    Taker,
    good,
    heart,
    ignores_ranges,
    no_file_left_open,
    pattern,
    read,
)

SIZE_MAX = 12 * CHUNK
EXAMPLES = int(os.environ.get("PEERD_READER_EXAMPLES") or 50)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that nobody wants more of ends soon."""
    monkeypatch.setattr("app.content.sequential.PATIENCE_SECONDS", 0.1)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """pytest keeps log records, which keep errors, which keep the frames they went through and the files open there."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Client:
    """Reads `wanted` (parts of 10,000 of the content), leaves after `leaves_after` slices if that is said.

    `looks` so often whether it is at hand before it reads. Threads may send to it where `outlet` is said, the seed of how it takes.
    """

    first: int
    last: int
    leaves_after: int | None
    slowly: bool
    looks: int
    outlet: int | None

    def wanted(self, size: int) -> ByteRange:
        start = min(self.first, self.last) * (size - 1) // 10_000
        return ByteRange(start, max(start + 1, max(self.first, self.last) * size // 10_000))


clients = st.builds(
    Client,
    first=st.just(0) | st.integers(0, 10_000),
    last=st.just(10_000) | st.integers(0, 10_000),
    leaves_after=st.none() | st.integers(0, 3),
    slowly=st.booleans(),
    looks=st.sampled_from((0, 1, 30)),
    outlet=st.none() | st.integers(0, 1000),
)


def conducts(faults: tuple[object, ...]) -> st.SearchStrategy[list[Conduct]]:
    one = st.builds(
        Conduct, st.sampled_from(faults), right=st.sampled_from((0, 1, 299, 300, 700, CHUNK, 3000, 1 << 20))
    )
    return st.lists(one, max_size=3)


class Busy(InOrder):
    """Now and then nobody has time for what nobody waits for."""

    def __init__(self, sources: list[FakeSource], rng: random.Random) -> None:
        super().__init__(sources)
        self._rng = rng

    def offers(self, content: Content, chunk: int, want: Want) -> Iterator[Offer]:
        if not want.awaited and self._rng.random() < 0.5:
            raise NotNow("busy")
        yield from super().offers(content, chunk, want)


async def one_client(reading_heart: Heart, content: Content, entry, client: Client, data: bytes) -> str:
    wanted = client.wanted(len(data))
    for _ in range(client.looks):
        held = reading_heart.reader.at_hand(content, entry, wanted)
        if held is not None:
            await asyncio.sleep(0.002 if client.slowly else 0)
            part = held.part
            assert os.pread(part.file.fileno(), part.count, part.offset) == data[wanted.start : wanted.stop]
            held.let_go()
            return "at hand"
        await asyncio.sleep(0.001)
    with reading_heart.reader.reading(content, entry) as reading:
        if client.leaves_after is None:
            try:
                taker = None if client.outlet is None else Taker(client.outlet)
                got = await read(reading, wanted, slowly=client.slowly, taker=taker)
            except ContentChanged:
                return "changed"
            except PeerdError as error:
                return f"broken off: {error!r}"
            assert got == data[wanted.start : wanted.stop]
            return "right"
        taker = None if client.outlet is None else Taker(client.outlet)
        slices = reading.slices(wanted, taker)
        try:
            for _ in range(client.leaves_after):
                await anext(slices)
        except (StopAsyncIteration, PeerdError):
            pass
        finally:
            await slices.aclose()
            if taker is not None:
                taker.has_left = True
        return "left"


@given(
    size=st.integers(1, SIZE_MAX),
    quota=st.sampled_from((2, 5, 100)),
    members=conducts(PEER_FAULTS),
    upstreams=conducts(UPSTREAM_FAULTS),
    good_at=st.none() | st.integers(0, 3),
    last_resort=st.sampled_from((good, ignores_ranges)),
    crowd=st.lists(clients, min_size=1, max_size=6),
    digest=st.booleans(),
    prefetch=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_right_bytes_or_none(
    executor, size, quota, members, upstreams, good_at, last_resort, crowd, digest, prefetch, seed
) -> None:
    data = pattern(size, seed)
    if good_at is not None:
        upstreams = [*upstreams[:good_at], Conduct(last_resort), *upstreams[good_at:]]
    sources = [
        FakeSource(data, members, kind=SourceKind.PEER, executor=executor),
        FakeSource(data, upstreams, executor=executor),
    ]
    names_a_digest = Digest.of(data) if digest else None

    async def story(root: Path) -> list[str]:
        asker = Busy(sources, random.Random(seed))
        async with heart(root, asker, quota=quota * CHUNK, prefetch=prefetch) as it:
            content, entry = it.content(data, digest=names_a_digest)
            outcomes = await asyncio.gather(*(one_client(it, content, entry, client, data) for client in crowd))
            await it.assert_nothing_is_left_behind()
            return outcomes

    with tempfile.TemporaryDirectory() as root, no_file_left_open():
        outcomes = asyncio.run(story(Path(root)))
    for outcome in outcomes:
        event(outcome.partition(":")[0])
    if good_at is not None and not any(one.then is changed for one in upstreams):
        # A source that is good is asked in the end, whatever the others did.
        assert not [outcome for outcome in outcomes if outcome.startswith("broken off")]


@given(
    size=st.integers(1, SIZE_MAX),
    quota=st.sampled_from((2, 5, 100)),
    liars=st.lists(st.sampled_from([Conduct(consistent_liar), *map(Conduct, PEER_FAULTS)]), min_size=1, max_size=3),
    upstreams=conducts(UPSTREAM_FAULTS),
    crowd=st.lists(clients, min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_blob_that_is_not_what_its_digest_says_never_ends_as_if_whole(
    executor, size, quota, liars, upstreams, crowd, seed
) -> None:
    data = pattern(size, seed)
    members = FakeSource(data, liars, kind=SourceKind.PEER, executor=executor)
    upstream = FakeSource(data, [*upstreams, Conduct(good)], executor=executor)

    async def whole(it: Heart, content: Content, entry) -> bytes | None:
        with it.reader.reading(content, entry) as reading:
            try:
                return await read(reading)
            except PeerdError:
                return None

    async def ignoring_outcome(it: Heart, content: Content, entry, client: Client) -> None:
        with it.reader.reading(content, entry) as reading, contextlib.suppress(PeerdError):
            await read(reading, client.wanted(size), slowly=client.slowly)

    async def story(root: Path) -> None:
        async with heart(root, [members, upstream], quota=quota * CHUNK) as it:
            content, entry = it.content(data, digest=Digest.of(data))
            others = (ignoring_outcome(it, content, entry, client) for client in crowd)
            first, second, *_ = await asyncio.gather(whole(it, content, entry), whole(it, content, entry), *others)
            assert first in (None, data)
            assert second in (None, data)
            await it.settled()
            # Until it is whole and right; each try that fails sets the members aside.
            upstream.conducts = [Conduct(good)]
            for _ in range(3):
                again = it.cache.get(content.key) or it.cache.get(type(content.key).of_digest(content.digest))
                entry = again or it.content(data, digest=content.digest)[1]
                got = await whole(it, content, entry)
                assert got in (None, data)
                if got is not None:
                    break
            assert got == data
            await it.assert_nothing_is_left_behind()

    with tempfile.TemporaryDirectory() as root:
        asyncio.run(story(Path(root)))
