"""Fetching chunks: one fetch for all who wait, from source to source, and nothing shown that must not be."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest

from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.location import FileAtUrl
from app.content.source import SourceKind
from app.errors import PeerdError, SourceUnavailable, Unobtainable, UpstreamRefused
from tests.content.faults import consistent_liar, honest, says_no_checksum
from tests.content.heart import CHUNK, Conduct, FakeSource, good, heart, ignores_ranges, pattern, read

DATA = pattern(6 * CHUNK + 100)


def liar_waits(told: threading.Event):
    """A member that sends wrong bytes, of which it says a true checksum that they do not have, and then waits."""

    def then(conduct, data, span, sink) -> None:
        sink.expect_checksum(hashlib.sha256(b"something else").digest())
        sink.write(bytes(len(span) - 1))
        told.wait(10)
        raise SourceUnavailable("gone")

    return then


async def test_concurrent_readers_cause_one_fetch_for_each_chunk(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA)
        got = await asyncio.gather(*(it.read(content, entry) for _ in range(10)))
        assert set(got) == {DATA}
        assert sorted(chunk for chunk, _ in upstream.fetched) == list(range(7))
        await it.settled()  # Readers are shown a chunk's last byte a moment before its fetch has ended and is counted.
        assert it.counts.received[SourceKind.UPSTREAM] == len(DATA)
        await it.assert_nothing_is_left_behind()


async def test_who_leaves_ends_his_own_wait_only(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = FakeSource(DATA, gate=gate)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA)
        leaver = asyncio.create_task(it.read(content, entry))
        stayer = asyncio.create_task(it.read(content, entry))
        while not upstream.fetched:
            await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        gate.set()
        assert await stayer == DATA
        assert len(upstream.fetched) == 7
        await it.assert_nothing_is_left_behind()


async def test_what_was_fetched_for_one_who_left_is_kept(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = FakeSource(DATA, gate=gate)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA)
        leaver = asyncio.create_task(it.read(content, entry, ByteRange(0, 10)))
        while not upstream.fetched:
            await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        gate.set()
        await it.settled()
        assert it.cache.get(content.key) is entry
        assert entry.has(0)


async def test_the_next_source_goes_on_at_the_same_byte(tmp_path: Path) -> None:
    from tests.content.faults import dies

    upstream = FakeSource(DATA, [Conduct(dies, right=300), Conduct(good)])
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA)
        assert await it.read(content, entry, ByteRange(0, CHUNK)) == DATA[:CHUNK]
        assert upstream.fetched == [(0, ByteRange(0, CHUNK)), (0, ByteRange(300, CHUNK))]
        await it.settled()
        assert it.counts.from_upstream == [ByteRange(0, 300), ByteRange(300, CHUNK)]


async def test_what_members_sent_is_not_told_as_upstream_s(tmp_path: Path) -> None:
    upstream, members = FakeSource(DATA), FakeSource(DATA, [Conduct(honest)], kind=SourceKind.PEER)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA)
        assert await it.read(content, entry, ByteRange(0, CHUNK)) == DATA[:CHUNK]
        members.conducts = []
        assert await it.read(content, entry, ByteRange(CHUNK, 2 * CHUNK)) == DATA[CHUNK : 2 * CHUNK]
        await it.settled()
        assert it.counts.from_upstream == [ByteRange(CHUNK, 2 * CHUNK)]


async def test_a_member_is_not_believed_without_a_checksum(tmp_path: Path) -> None:
    member = FakeSource(DATA, [Conduct(says_no_checksum)], kind=SourceKind.PEER)
    async with heart(tmp_path, [member]) as it:
        content, entry = it.content(DATA)
        with pytest.raises(Unobtainable):
            await it.read(content, entry)
        assert not entry.present


async def test_what_was_proved_is_taken_from_nobody_who_says_something_else(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    members = FakeSource(DATA, [], kind=SourceKind.PEER)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA, digest=Digest.of(DATA))
        assert await it.read(content, entry) == DATA
        assert entry.verified
        it.cache._drop(entry, 2)
        members.conducts, upstream.conducts = [Conduct(consistent_liar)], []
        with pytest.raises(Unobtainable):
            await it.read(content, entry, ByteRange(2 * CHUNK, 3 * CHUNK))
        assert it.counts.corrupt == dict.fromkeys(SourceKind, 0) | {SourceKind.PEER: 1}
        members.conducts.append(Conduct(honest))
        assert await it.read(content, entry, ByteRange(2 * CHUNK, 3 * CHUNK)) == DATA[2 * CHUNK : 3 * CHUNK]


async def test_what_a_client_was_shown_is_not_written_over_by_the_next_fetch(tmp_path: Path) -> None:
    """A slow client still sends the beginning of a chunk whose fetch failed, when another one begins it anew."""
    from tests.content.faults import dies

    told = threading.Event()
    upstream = FakeSource(DATA, [Conduct(dies, right=600)])
    members = FakeSource(DATA, [], kind=SourceKind.PEER)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA)
        with it.reader.reading(content, entry) as reading:
            slices = reading.slices(ByteRange(0, CHUNK))
            shown = await anext(slices)
            await it.settled()
            members.conducts, upstream.conducts = [Conduct(liar_waits(told))], [Conduct(good)]
            other = asyncio.create_task(it.read(content, entry, ByteRange(0, CHUNK)))
            while not members.fetched:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            assert os.pread(shown.file.fileno(), shown.count, shown.offset) == DATA[: shown.count]
            told.set()
            assert await other == DATA[:CHUNK]
            await slices.aclose()
        await it.assert_nothing_is_left_behind()


async def test_a_refusal_of_one_credential_is_not_that_of_another(tmp_path: Path) -> None:
    """Two clients with signatures of their own: the first one's has expired."""
    gate = asyncio.Event()

    class Signed(FakeSource):
        def offers(self, content, chunk):
            for offer in super().offers(content, chunk):
                if content.location.authorization != "right":
                    offer.conduct = Conduct(refuse)
                yield offer

    def refuse(conduct, data, span, sink) -> None:
        raise UpstreamRefused("403", status=403)

    upstream = Signed(DATA, gate=gate)
    async with heart(tmp_path, [upstream]) as it:
        wrong, entry = it.content(DATA, location=FileAtUrl("http://upstream.test/", None, "wrong"))
        right, _ = it.content(DATA, location=FileAtUrl("http://upstream.test/", None, "right"))
        refused = asyncio.create_task(it.read(wrong, entry))
        while not upstream.fetched:
            await asyncio.sleep(0)
        served = asyncio.create_task(it.read(right, entry))
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(UpstreamRefused):
            await refused
        assert await served == DATA
        await it.assert_nothing_is_left_behind()


async def test_clients_of_one_credential_are_refused_together(tmp_path: Path) -> None:
    def refuse(conduct, data, span, sink) -> None:
        raise UpstreamRefused("403", status=403)

    gate = asyncio.Event()
    upstream = FakeSource(DATA, [Conduct(refuse)], gate=gate)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA)
        clients = [asyncio.create_task(it.read(content, entry, ByteRange(0, 10))) for _ in range(5)]
        while not upstream.fetched:
            await asyncio.sleep(0)
        gate.set()
        for client in clients:
            with pytest.raises(UpstreamRefused):
                await client
        assert len(upstream.fetched) == 1


async def test_the_quota_counts_what_is_on_its_way(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = FakeSource(DATA, gate=gate)
    async with heart(tmp_path, [upstream], quota=8 * CHUNK) as it:
        old, old_entry = it.content(DATA)
        gate.set()
        await it.read(old, old_entry)
        gate.clear()
        digest = Digest.of(DATA)
        content, entry = it.content(DATA, digest=digest)
        for index in range(4):
            it.flights.join(content, entry, index)
        assert it.cache.used_bytes + 4 * CHUNK <= it.cache.quota
        gate.set()
        await it.settled()
        await it.assert_nothing_is_left_behind()


# A disk that takes nothing


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def no_space(fd: int, data, offset: int) -> int:
        if "memfd" in os.readlink(f"/proc/self/fd/{fd}"):
            return pwrite(fd, data, offset)
        if offset % CHUNK >= 300:  # It becomes full in the middle of a chunk.
            raise OSError(28, "No space left on device")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", no_space)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("conduct", [good, ignores_ranges])
async def test_a_full_disk_costs_the_cache_and_no_client(tmp_path: Path, conduct) -> None:
    upstream = FakeSource(DATA, [Conduct(conduct)] * 3)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA, digest=Digest.of(DATA))
        assert await it.read(content, entry) == DATA
        assert not entry.has(0)
        await it.settled()
        assert it.counts.not_kept == 6, "the last chunk is so short that it has room"


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_does_not_make_a_proof_fetch_it_all_again(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA, digest=Digest.of(DATA))
        assert await it.read(content, entry) == DATA
        assert len(upstream.fetched) == 7


# Sources that can only be read from the beginning on


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.content.sequential.PATIENCE_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_one_pass_serves_all_readers(tmp_path: Path) -> None:
    upstream = FakeSource(DATA, [Conduct(ignores_ranges)])
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA)
        wanted = [ByteRange(start, len(DATA)) for start in range(0, len(DATA), 700)]
        got = await asyncio.gather(*(it.read(content, entry, one) for one in wanted))
        assert got == [DATA[one.start :] for one in wanted]
        assert [span for _, span in upstream.fetched].count(ByteRange(0, len(DATA))) == 1
        await it.assert_nothing_is_left_behind()
        came = it.counts.from_upstream
        assert [one.start for one in came] == [0, *(one.stop for one in came[:-1])]
        assert came[-1].stop == len(DATA)


@pytest.mark.usefixtures("impatient")
async def test_a_reader_that_goes_back_gets_what_was_evicted(tmp_path: Path) -> None:
    """The pass has gone by and the cache is small: another pass is begun."""
    data = pattern(40 * CHUNK)
    upstream = FakeSource(data, [Conduct(ignores_ranges)])
    async with heart(tmp_path, [upstream], quota=4 * CHUNK) as it:
        content, entry = it.content(data)
        for start in (30, 2, 35, 0, 20):
            wanted = ByteRange(start * CHUNK, start * CHUNK + 1500)
            assert await it.read(content, entry, wanted) == data[wanted.start : wanted.stop]
        await it.assert_nothing_is_left_behind()


@pytest.mark.usefixtures("impatient")
async def test_a_pass_leaves_out_what_another_source_is_filling(tmp_path: Path) -> None:
    """Two writers in one place could put a liar's bytes under a right checksum."""
    told = threading.Event()
    upstream = FakeSource(DATA, [Conduct(ignores_ranges)])
    members = FakeSource(DATA, [Conduct(liar_waits(told))], kind=SourceKind.PEER)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA)
        slow = asyncio.create_task(it.read(content, entry, ByteRange(CHUNK, 2 * CHUNK)))
        while not members.fetched:
            await asyncio.sleep(0.001)
        members.conducts = []
        assert await it.read(content, entry, ByteRange(2 * CHUNK, len(DATA))) == DATA[2 * CHUNK :]
        assert not entry.has(1)
        told.set()
        assert await slow == DATA[CHUNK : 2 * CHUNK]
        await it.assert_nothing_is_left_behind()


@pytest.mark.usefixtures("impatient")
async def test_a_pass_does_not_put_other_bytes_into_what_was_proved(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA, digest=Digest.of(DATA))
        assert await it.read(content, entry) == DATA
        for index in range(entry.meta.chunks):
            it.cache._drop(entry, index)
        upstream.data, upstream.conducts = pattern(len(DATA), seed=7), [Conduct(ignores_ranges)]
        with pytest.raises(PeerdError):
            await it.read(content, entry)
        assert not entry.present


async def test_a_reading_of_nothing_gives_nothing(tmp_path: Path) -> None:
    async with heart(tmp_path, [FakeSource(b"")]) as it:
        content, entry = it.content(b"")
        with it.reader.reading(content, entry) as reading:
            assert await read(reading) == b""
