"""A content with a digest is whole when it was seen to be, and not before."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest

from app.content import proof
from app.content.byte_range import ByteRange
from app.content.cache import TRUST_SECONDS
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.source import SourceKind
from app.errors import DigestMismatch
from tests.content.faults import consistent_liar, honest
from tests.content.heart import CHUNK, Conduct, FakeSource, good, heart, pattern, read

DATA = pattern(6 * CHUNK + 100)
DIGEST = Digest.of(DATA)


async def test_a_blob_that_is_right_becomes_its_digests_content(tmp_path: Path) -> None:
    async with heart(tmp_path, [FakeSource(DATA)]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        assert await it.read(content, entry) == DATA
        assert it.cache.get(ContentKey.of_digest(DIGEST)) is entry
        assert it.cache.get(content.key) is None
        assert entry.verified
        assert entry.is_known


async def test_sha512(tmp_path: Path) -> None:
    digest = Digest.of(DATA, "sha512")
    async with heart(tmp_path, [FakeSource(DATA)]) as it:
        content, entry = it.content(DATA, digest=digest)
        assert await it.read(content, entry) == DATA
        assert entry.verified


async def test_a_wrong_blob_never_ends_as_if_whole(tmp_path: Path) -> None:
    async with heart(tmp_path, [FakeSource(pattern(len(DATA), seed=9))]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        got = bytearray()
        with it.reader.reading(content, entry) as reading, pytest.raises(DigestMismatch):
            async for part in reading.slices():
                got += os.pread(part.file.fileno(), part.count, part.offset)
        assert len(got) <= 6 * CHUNK
        assert it.cache.get(content.key) is None
        await it.assert_nothing_is_left_behind()


async def test_after_that_members_are_not_asked_and_a_good_upstream_mends_it(tmp_path: Path) -> None:
    members = FakeSource(DATA, [Conduct(consistent_liar)], kind=SourceKind.PEER)
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        with pytest.raises(DigestMismatch):
            await it.read(content, entry)
        asked = len(members.fetched)
        content, entry = it.content(DATA, digest=DIGEST)
        assert await it.read(content, entry) == DATA
        assert len(members.fetched) == asked


async def test_after_a_while_members_are_asked_again(tmp_path: Path) -> None:
    members = FakeSource(DATA, [Conduct(consistent_liar)], kind=SourceKind.PEER)
    async with heart(tmp_path, [members]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        with pytest.raises(DigestMismatch):
            await it.read(content, entry)
        it.clock.now += 61
        members.conducts = [Conduct(honest)]
        content, entry = it.content(DATA, digest=DIGEST)
        assert await it.read(content, entry) == DATA


async def test_it_is_disproved_once_for_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = FakeSource(DATA, [Conduct(consistent_liar)], kind=SourceKind.PEER)
    async with heart(tmp_path, [members]) as it:
        suspected, suspect = [], it.reader.flights.suspect
        monkeypatch.setattr(it.reader.flights, "suspect", lambda key: (suspected.append(key), suspect(key)))
        content, entry = it.content(DATA, digest=DIGEST)
        ends = await asyncio.gather(*(it.read(content, entry) for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ends] == 3 * [DigestMismatch]
        await it.settled()
        assert suspected == [content.key]


async def test_the_last_chunk_waits_for_the_proof_even_if_it_is_the_only_one(tmp_path: Path) -> None:
    async with heart(tmp_path, [FakeSource(b"wrong")]) as it:
        content, entry = it.content(b"right", digest=Digest.of(b"right"))
        with it.reader.reading(content, entry) as reading, pytest.raises(DigestMismatch):
            await anext(reading.slices())


async def test_a_reader_of_a_footer_does_not_wait_for_the_whole(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        await it.reader.flights.landed(content, entry, 6)
        wanted = ByteRange(len(DATA) - 10, len(DATA))
        assert await it.read(content, entry, wanted) == DATA[-10:]
        await it.settled()
        assert {chunk for chunk, _ in upstream.fetched} == {6}, "nor has it the rest fetched"


async def test_who_reads_on_to_the_end_has_the_rest_fetched(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        assert await it.read(content, entry, ByteRange(CHUNK, len(DATA))) == DATA[CHUNK:]
        assert {chunk for chunk, _ in upstream.fetched} == set(range(7))


async def test_who_stops_waiting_in_the_middle_of_a_chunk_spoils_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    update = proof._update

    def slow_update(running, part):
        begun.set()
        go_on.wait(10)
        return update(running, part)

    async with heart(tmp_path, [FakeSource(DATA)]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        for index in range(entry.meta.chunks):
            await it.flights.landed(content, entry, index)
        await it.settled()
        # Begin anew, as after a restart.
        assert entry.verified
    async with heart(tmp_path / "again", [FakeSource(DATA)]) as it:
        monkeypatch.setattr(proof, "_update", slow_update)
        content, entry = it.content(DATA, digest=DIGEST)
        leaver = asyncio.create_task(it.proofs.prove(content, entry))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        go_on.set()
        await it.proofs.prove(content, entry)
        assert entry.verified


async def test_what_came_back_different_is_hashed_anew(tmp_path: Path) -> None:
    """A chunk is hashed, evicted, and fetched again from a liar: what is promoted is what is here."""
    upstream, members = FakeSource(DATA), FakeSource(DATA, [], kind=SourceKind.PEER)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        for index in range(3):
            await it.flights.landed(content, entry, index)
        await it.settled()
        it.cache._drop(entry, 1)
        members.conducts = [Conduct(consistent_liar)]
        await it.flights.landed(content, entry, 1)
        members.conducts = []
        with pytest.raises(DigestMismatch):
            await it.proofs.prove(content, entry)
        assert not entry.verified


async def test_a_client_that_was_shown_something_else_is_broken_off(tmp_path: Path) -> None:
    """The proof holds in the end, but not of what this client has."""
    members, upstream = FakeSource(DATA, [], kind=SourceKind.PEER), FakeSource(DATA)
    async with heart(tmp_path, [members, upstream]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        members.conducts = [Conduct(consistent_liar)]
        with it.reader.reading(content, entry) as reading:
            slices = reading.slices()
            await anext(slices)
            await it.settled()
            members.conducts = []
            for index in range(entry.meta.chunks):
                if entry.has(index):
                    it.cache._drop(entry, index)
            with pytest.raises(DigestMismatch):
                async for _ in slices:
                    pass


async def test_one_rotten_chunk_is_fetched_again_and_the_rest_is_kept(tmp_path: Path) -> None:
    upstream = FakeSource(DATA)
    async with heart(tmp_path, [upstream]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        await it.read(content, entry, ByteRange(CHUNK, len(DATA) - 1))
        await it.settled()
        file = entry.file()
        os.pwrite(file.fileno(), b"rot", 3 * CHUNK)
        it.clock.now += TRUST_SECONDS + 1
        upstream.fetched.clear()
        assert await it.read(content, entry) == DATA
        assert sorted({chunk for chunk, _ in upstream.fetched}) == [0, 3]
        assert entry.verified


async def test_a_file_larger_than_the_cache_is_proved_as_it_passes(tmp_path: Path) -> None:
    data = pattern(60 * CHUNK)
    upstream = FakeSource(data)
    async with heart(tmp_path, [upstream], quota=8 * CHUNK) as it:
        content, entry = it.content(data, digest=Digest.of(data))
        with it.reader.reading(content, entry) as reading:
            assert await read(reading) == data
        assert entry.verified
        await it.assert_nothing_is_left_behind()


async def test_a_proof_that_has_to_fetch_is_not_disturbed_by_eviction(tmp_path: Path) -> None:
    data = pattern(12 * CHUNK)
    async with heart(tmp_path, [FakeSource(data)], quota=2 * CHUNK) as it:
        content, entry = it.content(data, digest=Digest.of(data))
        await it.read(content, entry, ByteRange(6 * CHUNK, 7 * CHUNK))
        await it.proofs.prove(content, entry)
        assert entry.verified


async def test_poison_stays_with_its_host(tmp_path: Path) -> None:
    """Acceptance 6 of both doors: a host that claims a digest it has not is no danger to others' readers."""
    lying = FakeSource(pattern(len(DATA), seed=5))
    async with heart(tmp_path, [lying]) as it:
        content, entry = it.content(DATA, digest=DIGEST, host="lying.test")
        await it.read(content, entry, ByteRange(0, 2 * CHUNK))
        honest_content, honest_entry = it.content(DATA, digest=DIGEST, host="honest.test")
        assert honest_entry is not entry
        assert not honest_entry.present
        lying.data = DATA
        assert await it.read(honest_content, honest_entry) == DATA
        assert honest_entry.verified
        assert hashlib.sha256(await it.read(honest_content, honest_entry)).hexdigest() == DIGEST.hex


async def test_nothing_is_remembered_of_what_was_forgotten(tmp_path: Path) -> None:
    async with heart(tmp_path, [FakeSource(DATA, [Conduct(good)])]) as it:
        content, entry = it.content(DATA, digest=DIGEST)
        await it.read(content, entry, ByteRange(0, 10))
        await it.settled()
        assert len(it.proofs._running) == 1
        it.cache.forget(entry)
        del content, entry
        import gc

        gc.collect()
        assert not len(it.proofs._running)
