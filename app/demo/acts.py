"""What the demo does, and what it found: an image through each node in turn, another through all at once, ranges of a file.

Owns: the measurements and the judgement. Seconds are the client's; bytes by source are the nodes' own counters, before and
after; how often a blob left the registry is the registry's count; that bytes are right is checked here.
"""

import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from app.client.manifest import Platform
from app.client.pull import pull_image
from app.client.reference import ImageReference
from app.client.tally import Tally
from app.demo.image import Document, Image
from app.demo.nodes import Cluster, NodeFailed, RunningNode
from app.demo.registry import Registry

PEER_SHARE_MIN: Final = 0.95
# A node may learn a blob's size by asking for its first byte (`bytes=0-0`) before it asks for the blob.
_PROBE_BYTES: Final = 1
_RANGES_A_NODE: Final = 48
_RANGE_BYTES_MAX: Final = 512 * 1024
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Row:
    """What one node did: `served` are its bytes to the client by source, `received` what it took from elsewhere."""

    node: str
    seconds: float
    size: int
    checked: str
    served: dict[str, int]
    received: dict[str, int]

    @property
    def peer_share(self) -> float:
        """The part of the bytes that came from peers."""
        return self.served.get("peer", 0) / self.size


@dataclass(frozen=True, slots=True)
class SentBlob:
    """What the registry sent of one document."""

    name: str
    size: int
    requests: int
    sent: int

    @property
    def copies(self) -> float:
        """How often it left the registry."""
        return self.sent / self.size

    @property
    def once(self) -> bool:
        """Whether it left the registry whole and no more than once."""
        return self.size <= self.sent <= self.size + _PROBE_BYTES


@dataclass(frozen=True, slots=True)
class Act:
    """One part of the demo: a row for each node, and what the registry sent for it."""

    title: str
    rows: tuple[Row, ...]
    blobs: tuple[SentBlob, ...]

    @property
    def copies(self) -> float:
        """How often the content left the registry, all blobs together."""
        return sum(blob.sent for blob in self.blobs) / sum(blob.size for blob in self.blobs)

    def received(self, source: str) -> int:
        """Bytes that all nodes together took from `peer` or `upstream`, for clients and for each other."""
        return sum(row.received.get(source, 0) for row in self.rows)


def pull_in_turn(
    cluster: Cluster, registry: Registry, reference: ImageReference, image: Image, platform: Platform
) -> Act:
    """The image through one node after the other."""
    rows = []
    for node in cluster.nodes:
        rows.append(_measured(node, partial(_pull, node, reference, image, platform)))
        cluster.agree()
    return Act("An image through each node in turn", tuple(rows), _sent(registry, image.blobs))


def pull_at_once(
    nodes: list[RunningNode], registry: Registry, reference: ImageReference, image: Image, platform: Platform
) -> Act:
    """A fresh image through all nodes at the same time."""
    with ThreadPoolExecutor(max_workers=len(nodes)) as threads:
        pulls = [threads.submit(_measured, node, partial(_pull, node, reference, image, platform)) for node in nodes]
        rows = tuple(pull.result() for pull in pulls)
    return Act("A fresh image through all nodes at once", rows, _sent(registry, image.blobs))


def read_ranges(nodes: list[RunningNode], registry: Registry, file: Document, url: str, rng: random.Random) -> Act:
    """As overlaybd reads a layer: no HEAD, the size from `bytes=0-0`, then ranges here and there."""
    rows = tuple(_measured(node, partial(_read, node, file, url, rng)) for node in nodes)
    return Act("Ranges of a file through each node, as overlaybd reads", rows, _sent(registry, (file,)))


def faults(in_turn: Act) -> list[str]:
    """What the pulls in turn should have shown and did not; bytes that do not verify end the demo before."""
    found = [
        f"{row.node} took {row.peer_share:.1%} of the image's bytes from peers, not {PEER_SHARE_MIN:.0%}"
        for row in in_turn.rows[1:]
        if row.peer_share < PEER_SHARE_MIN
    ]
    found += [
        f"the registry sent {blob.sent} bytes of {blob.name}, which has {blob.size}: not one copy"
        for blob in in_turn.blobs
        if not blob.once
    ]
    return found


def _measured(node: RunningNode, act: Callable[[], tuple[int, str]]) -> Row:
    before = node.counters()
    began = time.monotonic()
    size, checked = act()
    seconds = time.monotonic() - began
    after = node.counters()
    delta = {key: int(value - before.get(key, 0)) for key, value in after.items()}
    served = {source: count for (metric, source), count in delta.items() if metric == "peerd_served_bytes_total"}
    received = {source: count for (metric, source), count in delta.items() if metric == "peerd_received_bytes_total"}
    return Row(node.name, seconds, size, checked, served, received)


def _pull(node: RunningNode, reference: ImageReference, image: Image, platform: Platform) -> tuple[int, str]:
    """Raises DigestMismatch and its kin when a byte is wrong."""
    pulled = pull_image(node.client, reference, Tally(), platform=platform)
    got = {str(fetched.digest) for fetched in (pulled.root, *pulled.parts)}
    expected = {str(one.digest) for one in (image.index, image.manifest, *image.blobs)}
    if got != expected:
        raise NodeFailed(f"{node.name} gave {len(got)} documents of {reference}, and not the {len(expected)} pushed")
    return pulled.size, f"{len(got)} digests"


def _read(node: RunningNode, file: Document, url: str, rng: random.Random) -> tuple[int, str]:
    total, size = 0, _read_range(node, file, url, 0, 1)
    for _ in range(_RANGES_A_NODE):
        start = rng.randrange(size)
        stop = min(size, start + rng.randint(1, _RANGE_BYTES_MAX))
        _read_range(node, file, url, start, stop)
        total += stop - start
    return total + 1, f"{_RANGES_A_NODE + 1} ranges"


def _read_range(node: RunningNode, file: Document, url: str, start: int, stop: int) -> int:
    """The file's size as the answer tells it; raises NodeFailed when the bytes are not those of the file."""
    asked = f"bytes={start}-{stop - 1}"
    with node.client.request("GET", f"/blobs/{url}", headers={"Range": asked}) as answer:
        data = answer.read()
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status != 206 or not match or int(match[1]) != start or data != file.data[start:stop]:
        raise NodeFailed(f"{node.name} was asked for {asked} and answered {answer.status} with {len(data)} other bytes")
    return int(match[3])


def _sent(registry: Registry, documents: tuple[Document, ...]) -> tuple[SentBlob, ...]:
    return tuple(
        SentBlob(
            str(document.digest)[:19],
            len(document.data),
            registry.requests_for(document),
            registry.bytes_sent_of(document),
        )
        for document in documents
    )
