"""A node's state as the documents of the API: what `operations` answers and the page shows."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from app.api.models import (
    Bytes,
    BytesBySource,
    Cache,
    Content,
    Doors,
    ImageList,
    LoggedError,
    Member,
    MemberCounts,
    MemberList,
    MemberLoad,
    Preheat,
    PreheatNode,
    Purge,
    PurgedNode,
    ReceivedBytes,
    Status,
    Transfer,
    TransferList,
)
from app.api.models import Image as ImageFacts
from app.api.models import Node as NodeFacts
from app.content.entry import Entry
from app.content.source import SourceKind
from app.observability.copies import images_in, together
from app.operations import preheat as preheats
from app.operations.documents import Load
from app.operations.loads import load_of
from app.operations.purge import NodePurge
from app.routes.node import Node

IMAGES_SHOWN = 20


def status_of(node: Node) -> Status:
    """The node itself."""
    settings = node.settings
    load = member_load_of(load_of(node.cache, node.metrics))
    by_state = Counter(member.state for member in members_of(node).members)
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
        bytes=Bytes(served=load.served, received=load.received, uploaded=load.uploaded),
        members=MemberCounts(alive=by_state["alive"], failed=by_state["failed"], left=by_state["left"]),
        transfers=len(node.transfers),
        saved_upstream_bytes=sum(load.served.model_dump().values()) - load.received.upstream,
        recent_errors=[
            LoggedError(at=datetime.fromtimestamp(one.at, UTC), message=one.message, count=one.count)
            for one in node.recent_errors.newest_first()
        ],
    )


def _by_source(counts: Mapping[SourceKind, int]) -> BytesBySource:
    return BytesBySource(**{kind.value: count for kind, count in counts.items()})


def member_load_of(load: Load) -> MemberLoad:
    """What a member holds and has moved."""
    return MemberLoad(
        cache_used_bytes=load.cache_used,
        cache_quota_bytes=load.cache_quota,
        served=BytesBySource(
            cache=load.served_cache,
            containerd=load.served_containerd,
            peer=load.served_peer,
            upstream=load.served_upstream,
        ),
        received=ReceivedBytes(peer=load.received_peer, upstream=load.received_upstream),
        uploaded=load.uploaded,
    )


def members_of(node: Node) -> MemberList:
    """The members that it knows, itself included."""
    settings, gossip = node.settings, node.gossip
    own = member_load_of(load_of(node.cache, node.metrics))
    if gossip is None:
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
            load=own,
        )
        return MemberList(members=[alone])
    members = []
    for member, state in gossip.members():
        me = member.name == gossip.me.name
        known = node.loads.of(member.name)
        members.append(
            Member(
                name=member.name,
                zone=member.zone or None,
                state=state.value,
                me=me,
                peer_address=member.peer_addr or None,
                gossip_address=member.gossip_addr or None,
                version=member.version or None,
                keys=gossip.keys_held_by(member),
                round_trip_seconds=gossip.round_trip_estimate(member),
                load=own if me else member_load_of(known) if known is not None else None,
            )
        )
    return MemberList(members=members)


def content_of(entry: Entry) -> Content:
    """One content of the cache."""
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


def transfers_of(node: Node) -> TransferList:
    """What its clients are being sent, and were lately."""
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


def images_of(node: Node) -> ImageList:
    """What upstream sent of images and files, to this node and those that were asked."""
    now = int(time.time())
    images = images_in(together([*node.copies.newest_first(), *node.loads.from_upstream]))
    return ImageList(
        members=1 + node.loads.answered,
        images=[
            ImageFacts(
                name=one.name,
                size_bytes=one.size,
                upstream_bytes=one.received,
                distinct_bytes=one.distinct,
                copies=round(one.copies, 3),
                # Another member's clock may be ahead.
                last_at=datetime.fromtimestamp(min(one.at, now), UTC),
            )
            for one in images[:IMAGES_SHOWN]
        ],
    )


def purge_of(target: str, nodes: Sequence[NodePurge]) -> Purge:
    """What a purge did."""
    return Purge(
        target=target,
        forgotten_bytes=sum(one.forgotten.freed for one in nodes),
        forgotten_contents=sum(one.forgotten.contents for one in nodes),
        nodes=[
            PurgedNode(
                name=one.node,
                forgotten_bytes=one.forgotten.freed,
                forgotten_contents=one.forgotten.contents,
                error=one.error,
            )
            for one in nodes
        ],
    )


def preheat_of(preheat: preheats.Preheat) -> Preheat:
    """How far a preheat is."""
    nodes = [(part.name, part.now) for part in preheat.nodes]
    return Preheat(
        id=preheat.id,
        references=preheat.shown,
        state="running"
        if not preheat.ended
        else "failed"
        if any(now.state == "failed" for _, now in nodes)
        else "finished",
        started_at=datetime.fromtimestamp(preheat.started_at, UTC),
        finished_at=datetime.fromtimestamp(preheat.finished_at, UTC) if preheat.finished_at is not None else None,
        nodes=[
            PreheatNode(name=name, state=now.state, done_bytes=now.done, total_bytes=now.total, error=now.error)
            for name, now in nodes
        ],
    )
