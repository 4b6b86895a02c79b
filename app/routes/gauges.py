"""Metrics that are read from the node when they are asked for, rather than counted as things happen."""

import asyncio

from app.routes.node import Node
from peerd_gossip import MemberState


def refresh(node: Node) -> None:
    """Bring gauges, and counters that gossip keeps, up to what they are now."""
    metrics = node.metrics
    metrics.cache_bytes.set(node.cache.used_bytes)
    metrics.tasks.set(len(asyncio.all_tasks()))
    if node.certificates is not None:
        node.certificates.refresh()
        metrics.certificate_expiry.set(node.certificates.expires_at)
    if node.gossip is None:
        metrics.set_members([("alive", 1), ("failed", 0), ("left", 0)])
        return
    seen = node.gossip.statistics()
    metrics.set_members((state.value, seen.members.get(state, 0)) for state in MemberState)
    metrics.index_keys.set(seen.index_keys)
    for counter, value in (
        (metrics.gossip_bytes.labels("sent"), seen.bytes_sent),
        (metrics.gossip_bytes.labels("received"), seen.bytes_received),
        (metrics.gossip_deltas.labels("sent"), seen.deltas_sent),
        (metrics.gossip_deltas.labels("received"), seen.deltas_received),
        *((metrics.filters_refused.labels(reason), count) for reason, count in seen.refused.items()),
    ):
        counter.inc(max(0.0, value - counter._value.get()))  # noqa: SLF001 -- no public way to read one
