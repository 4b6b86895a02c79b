"""The small parts of the store: bursts of events, checksums, differences of inventories."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.containerd.advertise import keys_gone, keys_held, resolutions
from app.containerd.checksums import ChunkChecksums
from app.containerd.events import Coalescer
from app.containerd.inventory import Change, Inventory, SharedBlob, difference
from app.content import advertised
from app.content.digest import Digest
from app.content.names import Name, Resolution


async def test_a_burst_of_touches_is_one_burst() -> None:
    coalescer = Coalescer(quiet_seconds=0.02, max_seconds=60.0)
    for _ in range(100):
        coalescer.touch()
    assert await coalescer.burst(timeout_seconds=60.0)
    assert not await coalescer.burst(timeout_seconds=0.0)


async def test_a_trickle_that_does_not_end_is_acted_on_at_the_maximum() -> None:
    coalescer = Coalescer(quiet_seconds=60.0, max_seconds=0.05)

    async def trickle() -> None:
        while True:
            coalescer.touch()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        trickling = tasks.create_task(trickle())
        assert await coalescer.burst(timeout_seconds=60.0)
        trickling.cancel()


async def test_no_touch_is_no_burst() -> None:
    assert not await Coalescer(quiet_seconds=0.0, max_seconds=0.0).burst(timeout_seconds=0.0)


async def test_a_deadline_in_the_past_is_no_burst_either() -> None:
    assert not await Coalescer(quiet_seconds=0.0, max_seconds=0.0).burst(timeout_seconds=-1.0)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1), st.integers(1, 64))
def test_checksums_do_not_depend_on_how_the_bytes_come(data: bytes, steps: list[int], chunk_size: int) -> None:
    checksums = ChunkChecksums(Digest.of(data), chunk_size)
    done = turn = 0
    while done < len(data):
        step = steps[turn % len(steps)]
        checksums.update(data[done : done + step])
        done, turn = done + step, turn + 1
    want = [bytes.fromhex(Digest.of(data[i : i + chunk_size]).hex) for i in range(0, len(data), chunk_size)]
    assert checksums.finish() == tuple(want)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_one_flipped_bit_is_found(data: bytes, draw: st.DataObject) -> None:
    rotten = bytearray(data)
    rotten[draw.draw(st.integers(0, len(data) - 1))] ^= 1
    checksums = ChunkChecksums(Digest.of(data), 16)
    checksums.update(bytes(rotten))
    assert checksums.finish() is None


DIGESTS = [Digest.of(bytes([number])) for number in range(5)]
BLOBS = st.builds(SharedBlob, st.sampled_from(DIGESTS), st.integers(0, 2), st.sampled_from(["a", "b"]))
INVENTORIES = st.builds(
    Inventory,
    st.lists(BLOBS).map(lambda blobs: {blob.digest: blob for blob in blobs}),
    st.dictionaries(st.sampled_from("xyz"), st.sampled_from(DIGESTS)),
)


@given(INVENTORIES, INVENTORIES)
def test_a_difference_leads_from_one_inventory_to_the_other(before: Inventory, after: Inventory) -> None:
    change = difference(before, after)
    blobs = {digest: blob for digest, blob in before.blobs.items() if digest not in change.removed}
    blobs |= {blob.digest: blob for blob in change.added}
    tags = {tag: digest for tag, digest in before.tags.items() if tag not in change.tags_removed}
    tags |= change.tags_added
    assert (blobs, tags) == (after.blobs, after.tags)
    assert bool(change) is (before != after)


def test_what_the_others_are_told_is_what_they_look_for() -> None:
    blob = SharedBlob(DIGESTS[0], 7, "type")
    change = Change((blob,), (DIGESTS[1],), {"ghcr.io/org/app:v1": DIGESTS[0]}, ("ghcr.io/org/app:v0",))
    names = {tag: Name.of_tag("ghcr.io", "org/app", tag) for tag in ("v0", "v1")}
    assert keys_held(change) == [str(DIGESTS[0]), advertised.name(names["v1"].identity)]
    assert keys_gone(change) == [str(DIGESTS[1]), advertised.name(names["v0"].identity)]
    inventory = Inventory({DIGESTS[0]: blob}, change.tags_added)
    assert resolutions(inventory) == {names["v1"]: Resolution(7, DIGESTS[0], "type")}


@pytest.mark.parametrize("inventory", [Inventory(), Inventory({DIGESTS[0]: SharedBlob(DIGESTS[0], 1, "a")}, {})])
def test_nothing_changes_when_nothing_changed(inventory: Inventory) -> None:
    assert not difference(inventory, inventory)
