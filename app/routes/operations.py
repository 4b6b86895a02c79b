"""What operators, probes, the commands and the page ask."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from fastapi import Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from app.api.models import (
    Bytes,
    BytesBySource,
    Cache,
    Content,
    ContentList,
    Doors,
    Member,
    MemberCounts,
    MemberList,
    ReceivedBytes,
    Status,
    Transfer,
    TransferList,
)
from app.api.models import Node as NodeFacts
from app.content.entry import Entry
from app.content.source import SourceKind
from app.routes.answers import problem
from app.routes.gauges import refresh
from app.routes.node import Node, node_of

EVENT_SECONDS = 1.0


async def get_health(_request: Request) -> Response:
    """Alive: the loop turns."""
    return PlainTextResponse("ok\n")


async def get_readiness(request: Request) -> Response:
    """Ready to serve; a node that is alone is."""
    node = node_of(request)
    if node.state == "ready":
        return PlainTextResponse("ready\n")
    return problem(503, "Service Unavailable", f"the node is {node.state}", headers={"Retry-After": "1"})


async def get_metrics(request: Request, *, accept: str | None) -> Response:
    """Metrics, in Prometheus' text format or OpenMetrics."""
    node = node_of(request)
    refresh(node)
    if accept and "application/openmetrics-text" in accept:
        text: bytes = openmetrics.generate_latest(node.metrics.registry)  # type: ignore[no-untyped-call]
        return Response(text, media_type=openmetrics.CONTENT_TYPE_LATEST)
    return Response(generate_latest(node.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def get_status(request: Request) -> Status:
    """This node."""
    return _status(node_of(request))


async def list_members(request: Request) -> MemberList:
    """The members of the cluster, this node first."""
    return _members(node_of(request))


async def list_contents(request: Request, *, limit: int, after: str | None) -> ContentList:
    """What is in the cache, by key."""
    node = node_of(request)
    entries = sorted(node.cache, key=lambda entry: entry.meta.key.text)
    rest = [entry for entry in entries if after is None or entry.meta.key.text > after]
    shown = rest[:limit]
    return ContentList(
        contents=[_content(entry) for entry in shown],
        total=len(entries),
        next=shown[-1].meta.key.text if len(rest) > limit else None,
    )


async def list_transfers(request: Request) -> TransferList:
    """What is being sent to clients now, and what lately was."""
    return _transfers(node_of(request))


async def stream_events(request: Request) -> Response:
    """Snapshots as server-sent events: all at once on connect, then what changed, at most once a second."""
    node = node_of(request)

    async def events() -> AsyncIterator[str]:
        sent: dict[str, str] = {}
        while node.state != "draining":
            for name, snapshot in (
                ("status", _status(node)),
                ("members", _members(node)),
                ("transfers", _transfers(node)),
            ):
                data = json.dumps(snapshot.model_dump(mode="json"), separators=(",", ":"))
                if sent.get(name) != data:
                    sent[name] = data
                    yield f"event: {name}\ndata: {data}\n\n"
            await asyncio.sleep(EVENT_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _status(node: Node) -> Status:
    settings, metrics = node.settings, node.metrics
    served = {kind: int(counter._value.get()) for kind, counter in metrics.served.items()}  # noqa: SLF001 -- no public way
    received = {kind: int(counter._value.get()) for kind, counter in metrics.received.items()}  # noqa: SLF001
    by_state = Counter(member.state for member in _members(node).members)
    return Status(
        node=NodeFacts(
            name=settings.node_name,
            zone=settings.zone or None,
            version=node.version,
            state=node.state,
            membership="alone" if node.gossip is None else settings.membership,
            doors=Doors.model_validate(node.doors),
            started_at=datetime.fromtimestamp(node.started_at, UTC),
            uptime_seconds=round(time.time() - node.started_at, 3),
        ),
        cache=Cache(
            used_bytes=node.cache.used_bytes,
            quota_bytes=node.cache.quota,
            contents=len(node.cache),
            chunks=node.cache.chunks,
        ),
        bytes=Bytes(
            served=_by_source(served),
            received=ReceivedBytes(peer=received[SourceKind.PEER], upstream=received[SourceKind.UPSTREAM]),
            uploaded=int(metrics.uploaded._value.get()),  # noqa: SLF001
        ),
        members=MemberCounts(alive=by_state["alive"], failed=by_state["failed"], left=by_state["left"]),
        transfers=len(node.transfers),
        saved_upstream_bytes=sum(served.values()) - received[SourceKind.UPSTREAM],
    )


def _by_source(counts: Mapping[SourceKind, int]) -> BytesBySource:
    return BytesBySource(**{kind.value: count for kind, count in counts.items()})


def _members(node: Node) -> MemberList:
    settings = node.settings
    if node.gossip is None:
        alone = Member(
            name=settings.node_name,
            zone=settings.zone or None,
            state="alive",
            me=True,
            peer_address=None,
            gossip_address=None,
            version=node.version,
            keys=0,
            round_trip_seconds=None,
        )
        return MemberList(members=[alone])
    gossip = node.gossip
    return MemberList(
        members=[
            Member(
                name=member.name,
                zone=member.zone or None,
                state=state.value,
                me=member.name == gossip.me.name,
                peer_address=member.peer_addr or None,
                gossip_address=member.gossip_addr or None,
                version=member.version or None,
                keys=gossip.keys_held_by(member),
                round_trip_seconds=gossip.round_trip_estimate(member),
            )
            for member, state in gossip.members()
        ]
    )


def _content(entry: Entry) -> Content:
    meta = entry.meta
    read = entry.last_read_wall
    return Content(
        key=meta.key.text,
        kind=meta.kind,
        digest=str(meta.digest) if meta.digest else None,
        size_bytes=meta.size,
        held_bytes=entry.held_bytes,
        whole=entry.whole,
        verified=entry.verified,
        media_type=meta.media_type,
        source=meta.source,
        last_read_at=datetime.fromtimestamp(read, UTC) if read else None,
    )


def _transfers(node: Node) -> TransferList:
    now = node.transfers.clock()
    return TransferList(
        transfers=[
            Transfer(
                id=one.id,
                key=one.key,
                kind=one.kind,
                door=one.door,
                state=one.state,
                done_bytes=one.done,
                total_bytes=one.total,
                source_bytes=_by_source(one.by_source),
                rate_bytes_per_second=round(one.rate(now), 1),
                started_at=datetime.fromtimestamp(one.started_at, UTC),
                correlation_id=one.correlation_id,
            )
            for one in node.transfers
        ]
    )
