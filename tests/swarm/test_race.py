"""A member that is slow, and another asked beside it: whose bytes come in, and who is left."""

import asyncio
import contextlib
import gc
import hashlib
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.source import Abandoned
from app.errors import SourceUnavailable
from app.swarm.race import ChunkRequest, Lane, Race
from tests.swarm.members import member

DATA = bytes(range(256)) * 4
CHUNK = ByteRange(1024, 2048)
FIRST_HALF, SECOND_HALF = DATA[:512], DATA[512:]

Script = Callable[[Lane], Awaitable[None]]


def request(name: str) -> ChunkRequest:
    return ChunkRequest(member(name), ContentKey("url:test"), "content", CHUNK)


@dataclass
class Sink:
    """What came in."""

    data: bytearray = field(default_factory=bytearray)
    checksums: list[bytes] = field(default_factory=list)

    def expect_checksum(self, sha256: bytes) -> None:
        self.checksums.append(sha256)

    def write(self, data: bytes | memoryview) -> None:
        self.data += data


@dataclass
class Cluster:
    """Members that answer by script, and what was made of them. The first is asked, the others beside it."""

    scripts: dict[str, Script]
    usual: float | None = 0.01
    spans: dict[str, ByteRange] = field(default_factory=dict)
    lagging: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    liars: list[str] = field(default_factory=list)
    hedges: int = 0

    async def ask(self, asked: ChunkRequest, span: ByteRange, lane: Lane) -> None:
        self.spans[asked.member.name] = span
        lane.begin()
        await self.scripts[asked.member.name](lane)

    def usual_seconds(self, _size: int) -> float | None:
        return self.usual

    def lags(self, asked: ChunkRequest, _size: int, _seconds: float) -> None:
        self.lagging.add(asked.member.name)

    def stalled(self, asked: ChunkRequest) -> None:
        self.left.append(asked.member.name)

    def lied(self, asked: ChunkRequest) -> None:
        self.liars.append(asked.member.name)

    def hedged(self) -> None:
        self.hedges += 1

    @property
    def request(self) -> ChunkRequest:
        return request(next(iter(self.scripts)))

    def beside(self) -> ChunkRequest | None:
        others = [name for name in list(self.scripts)[1:] if name not in self.spans]
        return request(others[0]) if others else None

    async def race(self, span: ByteRange = CHUNK) -> Sink:
        sink = Sink()
        async with asyncio.timeout(20):
            await Race(self, self, span, sink).run()
        return sink


def sends(*pieces: bytes, of: bytes = DATA, then: Script | None = None) -> Script:
    async def script(lane: Lane) -> None:
        lane.expect_checksum(hashlib.sha256(of).digest())
        for piece in pieces:
            lane.came(len(piece))
            lane.write(piece)
        if then is not None:
            await then(lane)

    return script


async def hangs(_lane: Lane) -> None:
    await asyncio.Event().wait()


async def fails(_lane: Lane) -> None:
    raise SourceUnavailable("refused")


async def test_a_quick_member_is_not_hedged() -> None:
    cluster = Cluster({"a": sends(DATA), "b": sends(DATA)})
    assert (await cluster.race()).data == DATA
    assert cluster.hedges == 0


async def test_the_rest_comes_from_the_second_at_the_same_byte() -> None:
    cluster = Cluster({"a": sends(FIRST_HALF, then=hangs), "b": sends(DATA)})
    sink = await cluster.race()
    assert sink.data == DATA, "half of each"
    assert set(sink.checksums) == {hashlib.sha256(DATA).digest()}
    assert (cluster.hedges, cluster.lagging, cluster.left) == (1, {"a"}, [])


async def test_a_fetch_that_begins_in_the_middle_of_a_chunk_ends_as_one() -> None:
    cluster = Cluster({"a": hangs, "b": sends(DATA)})
    sink = await cluster.race(ByteRange(CHUNK.start + 512, CHUNK.stop))
    assert sink.data == SECOND_HALF
    assert cluster.spans["b"] == CHUNK, "its checksum is over the whole"


async def test_who_was_left_can_write_nothing_more() -> None:
    late: list[Lane] = []

    async def remembers(lane: Lane) -> None:
        late.append(lane)
        await hangs(lane)

    cluster = Cluster({"a": remembers, "b": sends(DATA)})
    sink = await cluster.race()
    with pytest.raises(Abandoned):
        late[0].write(b"too late")
    assert sink.data == DATA


async def test_where_the_first_is_done_before_the_second_is_left() -> None:
    second_asked = asyncio.Event()

    async def waits(lane: Lane) -> None:
        await second_asked.wait()
        lane.write(SECOND_HALF)

    async def asked(lane: Lane) -> None:
        second_asked.set()
        await hangs(lane)

    cluster = Cluster({"a": sends(FIRST_HALF, then=waits), "b": asked})
    assert (await cluster.race()).data == DATA
    assert cluster.hedges == 1


async def test_a_second_that_lies_is_found_out_and_a_third_is_asked() -> None:
    cluster = Cluster({"a": hangs, "b": sends(b"x" * 1024), "c": sends(DATA)})
    assert (await cluster.race()).data == DATA
    assert cluster.liars == ["b"]


async def test_bytes_of_two_that_do_not_have_the_same_are_not_mixed() -> None:
    other = bytes(1024)
    cluster = Cluster({"a": sends(FIRST_HALF, then=hangs), "b": sends(other, of=other)})
    with pytest.raises(SourceUnavailable, match="not have the same"):
        await cluster.race()


async def test_a_member_that_stalls_is_left_though_nobody_else_has_it() -> None:
    cluster = Cluster({"a": hangs})
    with pytest.raises(SourceUnavailable, match="sends nothing"):
        await cluster.race()
    assert cluster.left == ["a"]


async def test_when_the_first_fails_the_second_goes_on_alone() -> None:
    asked = asyncio.Event()

    async def fails_later(lane: Lane) -> None:
        await asked.wait()
        await fails(lane)

    async def second(lane: Lane) -> None:
        asked.set()
        await asyncio.sleep(0)
        await sends(DATA)(lane)

    cluster = Cluster({"a": fails_later, "b": second})
    assert (await cluster.race()).data == DATA


async def test_what_the_first_answered_is_told_where_nobody_helped() -> None:
    with pytest.raises(SourceUnavailable, match="refused"):
        await Cluster({"a": fails, "b": sends(DATA)}).race()


async def test_a_race_that_is_given_up_leaves_nobody_running() -> None:
    before = asyncio.all_tasks()
    cluster = Cluster({"a": sends(FIRST_HALF, then=hangs), "b": hangs})
    race = asyncio.create_task(cluster.race())
    while not cluster.hedges:
        await asyncio.sleep(0.01)
    race.cancel()
    await asyncio.wait([race])
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    "scripts",
    [
        {"a": sends(FIRST_HALF, then=hangs), "b": sends(DATA)},
        {"a": hangs},
        {"a": fails},
        {"a": sends(FIRST_HALF, then=hangs), "b": fails},
        {"a": hangs, "b": sends(b"x" * 1024)},
    ],
    ids=["overtaken", "stalled", "failed", "both fail", "lied"],
)
async def test_nothing_holds_the_sink_once_it_is_over(scripts: dict[str, Script]) -> None:
    """A sink holds a file open: it is let go of at once, not when the garbage collector comes by."""
    cluster, sink = Cluster(scripts), Sink()
    held = weakref.ref(sink)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(SourceUnavailable):
            await Race(cluster, cluster, CHUNK, sink).run()
        del sink
        # The thread that put the rest in lets go of it a moment after it has said so.
        async with asyncio.timeout(10):
            while held() is not None:
                await asyncio.sleep(0.001)
    finally:
        gc.enable()
