"""What happens to a simulated cluster, and what is made of it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from app.swarm.simulation.choices import Choices
from app.swarm.simulation.cluster import AS_SHIPPED, Cluster, Pull
from app.swarm.simulation.network import CHUNK_SIZE_BYTES, NODE_BYTES_PER_S, UPSTREAM_BYTES_PER_S, SimulatedContent

START_WITHIN_SECONDS = 0.1
CHUNKS = 512
CONTENTS_AT_ONCE = 3
"""containerd's `max_concurrent_downloads`."""

KNOWN_AFTER_SECONDS = 1.2
"""A node that joins is known to all by then, and its first pod starts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Attributes:
        slowest, median: time of nodes that are neither slow nor died, as a multiple of their line's time.
        upstream_copies: chunks that upstream sent, over those that there are.
        zone_copies: the most copies that came into one zone from outside, upstream's included.
        requests_per_chunk: between members, for each chunk that a node got.
        hedges: requests beside one to a slow member, in all.
        copies_in_vain: chunks that came to nodes where nobody reads, over those that there are.
        doubles: chunks that upstream was asked for while it was sending them to another member.
        landings: when a node had a chunk, in seconds, in order; chunk by chunk, those first that were first somewhere.
    """

    slowest: float
    median: float
    upstream_copies: float
    zone_copies: float
    requests_per_chunk: float
    hedges: int
    copies_in_vain: float
    doubles: tuple[tuple[str, int], ...]
    landings: tuple[Sequence[float], ...]


def flash_crowd(
    nodes: int,
    *,
    seed: int,
    chunks: int = CHUNKS,
    contents: int = 1,
    zones: int = 1,
    slow: int = 0,
    killed: int = 0,
    back_after: float | None = None,
    upstream_bytes_per_s: float = UPSTREAM_BYTES_PER_S,
    readers: int | None = None,
    choices: Choices = AS_SHIPPED,
) -> Outcome:
    """All nodes begin within a tenth of a second to read the same contents, each node all of them, three at a time.

    Of more than `readers` nodes only so many read. `slow` nodes have a fifth of the line. `killed` die in the middle, half of them without power, and come back after
    `back_after` seconds, if at all.
    """
    cluster = Cluster(
        nodes, seed=seed, zones=zones, slow=slow, upstream_bytes_per_s=upstream_bytes_per_s, choices=choices
    )
    wanted = [SimulatedContent(f"content-{number}", chunks // contents) for number in range(contents)]
    cluster.settle(cluster.members)
    for member in cluster.members[:readers]:
        start = cluster.rng.uniform(0, START_WITHIN_SECONDS)
        cluster.pull_at(start, member, wanted, CONTENTS_AT_ONCE)
    line_seconds = chunks * CHUNK_SIZE_BYTES / NODE_BYTES_PER_S
    for number, member in enumerate(cluster.rng.sample(cluster.members, killed)):
        when = line_seconds * cluster.rng.uniform(0.1, 0.9)
        cluster.kill_at(when, member, without_power=number % 2 == 0, back_after=back_after)
    cluster.run()
    return _outcome(cluster, cluster.pulls, wanted)


def rolling(nodes: int, *, seed: int, at_once: int = 1, chunks: int = CHUNKS, zones: int = 1) -> Outcome:
    """Nodes join so many at once, and those that come next when those before have all; times are of all but the first."""
    cluster = Cluster(nodes, seed=seed, zones=zones)
    content = SimulatedContent("content", chunks)
    for first in range(0, nodes, at_once):
        for member in cluster.members[first : first + at_once]:
            cluster.join(member)
            start = cluster.events.now + KNOWN_AFTER_SECONDS + cluster.rng.uniform(0, START_WITHIN_SECONDS)
            cluster.pull_at(start, member, [content], CONTENTS_AT_ONCE)
        cluster.run()
    return _outcome(cluster, cluster.pulls[at_once:], [content])


def _outcome(cluster: Cluster, pulls: Iterable[Pull], contents: Iterable[SimulatedContent]) -> Outcome:
    # Who reads several contents has one line for all of them.
    seconds: defaultdict[str, float] = defaultdict(float)
    line_seconds: defaultdict[str, float] = defaultdict(float)
    for pull in pulls:
        if pull.healthy:
            seconds[pull.node] = max(seconds[pull.node], pull.seconds)
            line_seconds[pull.node] += pull.line_seconds
    of_line = [seconds[node] / line_seconds[node] for node in seconds]
    chunks = sum(content.chunks for content in contents)
    sent = cluster.upstream.sent.total()
    return Outcome(
        slowest=max(of_line),
        median=median(of_line),
        upstream_copies=sent / chunks,
        zone_copies=max(cluster.copies_into.values()) / chunks,
        requests_per_chunk=cluster.requests / (len(cluster.members) * chunks),
        hedges=cluster.hedges,
        copies_in_vain=cluster.chunks_in_vain / chunks,
        doubles=tuple(cluster.upstream.doubles),
        landings=tuple(sorted(cluster.landings.values(), key=lambda times: times[0])),
    )
