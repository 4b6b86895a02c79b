"""Every metric of a node, and its labels. Nothing else registers one.

Labels never hold a URL, a digest or a credential. `self` is the node's name, as in Azure/peerd, so that its dashboards go on
working.
"""

from collections.abc import Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from app.content.source import SourceKind

# Azure/peerd's buckets are linear and end at 0.4 s and 3 GiB/s; these keep their reach with a tenth of the series.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DISCOVERY_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.025, 0.1, 0.4)
_MIB_PER_SECOND = (1, 2.5, 5, 10, 16, 31, 46, 61, 76, 91, 121, 151, 226, 301, 451, 601, 901, 1201, 2986)

# A counter is there from the start with each of its reasons, at 0: Prometheus sees no increase in a series that begins at 1.
FILTER_REFUSALS = ("claims_everything", "impostor", "index_full", "malformed", "member", "oversize", "protocol")
UPSTREAM_REFUSALS = ("address", "host", "redirect", "scheme", "userinfo")


class Metrics:
    """The metrics of one node, in a registry of its own, so that several nodes live in one test."""

    def __init__(self, node: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._node = node
        self.request_duration = Histogram(
            "peerd_request_duration_seconds",
            "Requests on the doors, from the first byte of the question to the last of the answer.",
            ["method", "handler", "code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._short: dict[tuple[str, int], Histogram] = {}
        self.discovery_duration = Histogram(
            "peerd_peer_discovery_duration_seconds",
            "How long it took to know which members may hold a chunk (memory only).",
            ["self"],
            buckets=_DISCOVERY_SECONDS,
            registry=registry,
        )
        peer_speed = Histogram(
            "peerd_peer_response_speed_mib_per_second",
            "Speed of answers from peers, from the question to the last byte.",
            ["self", "op"],
            buckets=_MIB_PER_SECOND,
            registry=registry,
        )
        upstream_speed = Histogram(
            "peerd_upstream_response_speed_mib_per_second",
            "Speed of answers from upstream, from the question to the last byte.",
            ["self", "op"],
            buckets=_MIB_PER_SECOND,
            registry=registry,
        )
        self._speed_of = {SourceKind.PEER: peer_speed, SourceKind.UPSTREAM: upstream_speed}
        self._speeds: dict[SourceKind, Histogram] = {}
        served = Counter(
            "peerd_served_bytes_total",
            "Bytes sent to this node's clients, by where they came from when they were first sent.",
            ["source"],
            registry=registry,
        )
        received = Counter(
            "peerd_received_bytes_total", "Bytes that came in over the network.", ["source"], registry=registry
        )
        self.served = {kind: served.labels(kind.value) for kind in SourceKind}
        self.received = {kind: received.labels(kind.value) for kind in (SourceKind.PEER, SourceKind.UPSTREAM)}
        self.uploaded = Counter("peerd_uploaded_bytes_total", "Bytes sent to other members.", registry=registry)
        self.cache_bytes = Gauge("peerd_cache_bytes", "Bytes that the chunk cache holds.", registry=registry)
        self.evicted = Counter(
            "peerd_cache_evicted_bytes_total",
            "Bytes evicted from the chunk cache to stay within its size.",
            registry=registry,
        )
        self.corrupt = Counter(
            "peerd_corrupt_chunks_total",
            "Chunks that did not hash to what they must, by where they came from.",
            ["source"],
            registry=registry,
        )
        for kind in SourceKind:
            self.corrupt.labels(kind.value)
        self._not_kept = Counter(
            "peerd_chunks_not_kept_total",
            "Chunks that the cache's disk did not take: they were served from memory and are not held.",
            registry=registry,
        )
        self.members = Gauge(
            "peerd_members", "Members of the cluster, this node included.", ["state"], registry=registry
        )
        self.index_keys = Gauge(
            "peerd_index_keys", "Keys known of all members, by their filters' own counts.", registry=registry
        )
        self.false_positives = Counter(
            "peerd_filter_false_positives_total",
            "Members that were asked because of their filter and did not have it.",
            registry=registry,
        )
        self.gossip_bytes = Counter("peerd_gossip_bytes_total", "Bytes of gossip.", ["direction"], registry=registry)
        self.gossip_deltas = Counter(
            "peerd_gossip_deltas_total", "Deltas of filters.", ["direction"], registry=registry
        )
        self.filters_refused = Counter(
            "peerd_filters_refused_total",
            "Filters and messages of gossip that were refused, and members that were.",
            ["reason"],
            registry=registry,
        )
        for reason in FILTER_REFUSALS:
            self.filters_refused.labels(reason)
        self.cross_zone_bytes = Counter(
            "peerd_cross_zone_bytes_total",
            "Bytes to and from members of other zones.",
            ["direction"],
            registry=registry,
        )
        for direction in ("sent", "received"):
            self.gossip_bytes.labels(direction)
            self.gossip_deltas.labels(direction)
            self.cross_zone_bytes.labels(direction)
        self.hedged = Counter(
            "peerd_hedged_requests_total",
            "Requests repeated elsewhere because their source stalled.",
            registry=registry,
        )
        self.upstream_refused = Counter(
            "peerd_upstream_refused_total", "Upstreams that policy did not let be asked.", ["reason"], registry=registry
        )
        for reason in UPSTREAM_REFUSALS:
            self.upstream_refused.labels(reason)
        self._consents = Counter(
            "peerd_consents_total",
            "Questions whether upstream gives a content to a client (--consent upstream), and who answered them.",
            ["answer", "source"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "peerd_certificate_expiry_timestamp_seconds",
            "When this node's certificate ends, in seconds since the epoch; 0 without one.",
            registry=registry,
        )
        self.tasks = Gauge(
            "peerd_tasks",
            "Tasks on the event loop; what grows and does not shrink when nobody asks leaks.",
            registry=registry,
        )
        self.node_door_exposed = Gauge(
            "peerd_node_door_exposed", "1 where --http-addr can be reached from other hosts.", registry=registry
        )

    def was_answered(self, handler: Literal["files", "oci"], status: int, seconds: float) -> None:
        """A GET on a door, where FastAPI did not see it."""
        child = self._short.get((handler, status))
        if child is None:
            child = self._short[handler, status] = self.request_duration.labels("GET", handler, str(status))
        child.observe(seconds)

    def answered(self, kind: SourceKind, count: int, seconds: float) -> None:
        """One answer of a peer or upstream: `count` bytes in `seconds`; of others nothing is told."""
        if seconds <= 0 or kind not in self._speed_of:
            return
        child = self._speeds.get(kind)
        if child is None:
            child = self._speeds[kind] = self._speed_of[kind].labels(self._node, "pread")
        child.observe(count / (1 << 20) / seconds)

    def was_corrupt(self, kind: SourceKind) -> None:
        """A chunk from such a source did not hash to what it must."""
        self.corrupt.labels(kind.value).inc()

    def was_not_kept(self) -> None:
        """The disk did not take a chunk."""
        self._not_kept.inc()

    def refused(self, reason: str) -> None:
        """An upstream was not asked, because policy does not let it."""
        self.upstream_refused.labels(reason).inc()

    def consent(self, answer: str, source: str) -> None:
        """Whether upstream gives a content to a client was `given`, `refused` or `unknown`, by `memory` or `upstream`."""
        self._consents.labels(answer, source).inc()

    def came_in(self, kind: SourceKind, count: int) -> None:
        """Bytes that were received, whether or not their chunk was completed, and those that are passed on only."""
        counter = self.received.get(kind)
        if counter is not None:
            counter.inc(count)

    def set_members(self, counts: Iterable[tuple[str, int]]) -> None:
        """Members by state."""
        for state, count in counts:
            self.members.labels(state).set(count)
