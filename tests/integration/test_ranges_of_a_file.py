"""A file of 256 MiB in a real blob store, read in random ranges by several clients through three nodes."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.blob_store import BlobStore
from tests.support.nodes import Node
from tests.support.wire import Reply, Wire, byteranges

pytestmark = [pytest.mark.xdist_group("ranges of a file")]

SIZE = 256 << 20
REQUESTS = 1_000
CLIENTS = 8
LARGEST = 8 << 20

Signature = Callable[[int], str]


@dataclass(frozen=True)
class Ask:
    """One request of a client: some ranges of the file, in order of their places, as first and last byte."""

    ranges: list[tuple[int, int]]
    query: str


@pytest.fixture(scope="module")
def data(new_folder: Callable[[], Path]) -> bytes:
    return made.content("a file of 256 MiB", SIZE)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> list[Node]:
    return cluster(3)


def unsigned(_number: int) -> str:
    return ""


def azure_sas(number: int) -> str:
    """A URL that was signed anew for each request, as Azure's clients do."""
    signature = random.Random(number).randbytes(32).hex()
    return (
        f"?sv=2022-11-02&st=2026-01-01T00%3A00%3A00Z&se=2026-01-02T00%3A{number // 60 % 60:02}%3A{number % 60:02}Z"
        f"&sr=b&sp=r&sig={signature}%3D"
    )


def s3_presigned(number: int) -> str:
    signature = random.Random(number).randbytes(32).hex()
    return (
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=key%2F20260101%2Feu%2Fs3%2Faws4_request"
        f"&X-Amz-Date=20260101T{number:06}Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
    )


def asks(chance: random.Random, signature: Signature) -> Iterator[Ask]:
    """Sizes from one byte to `LARGEST`, small ones as often as large ones; up to four ranges in one of eight requests."""
    for number in count():
        ranges = []
        for place in range(chance.randint(2, 4) if number % 8 == 0 else 1):
            size = min(LARGEST, int(2 ** chance.uniform(0, 24)))
            # Each has a quarter of the file of its own: where ranges overlap, the whole may be sent instead.
            low, high = (place * SIZE // 4, (place + 1) * SIZE // 4) if number % 8 == 0 else (0, SIZE)
            first = chance.randrange(low, high - size + 1)
            ranges.append((first, first + size - 1))
        yield Ask(ranges, signature(number))


def wrong(ask: Ask, reply: Reply, data: memoryview) -> str | None:
    """What is not as it should be of an answer; None where all is."""
    if not (reply.status == 206 and reply.correct):
        return f"{ask}: {reply.status}, {len(reply.body)} bytes, ended {reply.end.value}"
    if len(ask.ranges) == 1:
        parts = [(reply.headers["content-range"], memoryview(reply.body))]
    else:
        parts = [(said, memoryview(body)) for said, body in byteranges(reply)]
    if [said for said, _ in parts] != [f"bytes {first}-{last}/{SIZE}" for first, last in ask.ranges]:
        return f"{ask}: other ranges: {[said for said, _ in parts]}"
    if any(body != data[first : last + 1] for (first, last), (_, body) in zip(ask.ranges, parts, strict=True)):
        return f"{ask}: other bytes"
    return None


@pytest.mark.parametrize("signature", [unsigned, azure_sas, s3_presigned])
def test_random_ranges_are_those_of_the_file_and_upstream_sends_no_byte_twice_to_a_node(
    nodes: list[Node],
    blob_store: BlobStore,
    data: bytes,
    signature: Signature,
    record_property: Callable[[str, object], None],
) -> None:
    path = f"/{signature.__name__}.bin"
    (blob_store.files / path[1:]).write_bytes(data)
    chance = random.Random(signature.__name__)
    source = asks(chance, signature)
    todo = [next(source) for _ in range(REQUESTS)]
    whole = memoryview(data)

    def client(number: int) -> list[str]:
        node = nodes[number % len(nodes)]
        with node.connect() as wire:
            return [fault for ask in todo[number::CLIENTS] if (fault := one(wire, ask))]

    def one(wire: Wire, ask: Ask) -> str | None:
        header = ",".join(f"{first}-{last}" for first, last in ask.ranges)
        target = f"/blobs/{blob_store.url}{path}{ask.query}"
        return wrong(ask, wire.ask(target, headers={"Range": f"bytes={header}"}), whole)

    with ThreadPoolExecutor(CLIENTS) as pool:
        faults = [fault for found in pool.map(client, range(CLIENTS)) for fault in found]

    assert not faults, f"{len(faults)} of {REQUESTS}; the first: {faults[0]}"
    from_upstream = blob_store.sent_of(path)
    record_property("copies from upstream", from_upstream / SIZE)
    assert from_upstream <= len(nodes) * SIZE * 1.02
