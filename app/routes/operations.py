"""What operators, probes, the commands and the page ask."""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from app.api.models import (
    ContentList,
    ImageList,
    MemberList,
    NodeCount,
    Preheat,
    PreheatRequest,
    Purge,
    Status,
    TransferList,
)
from app.operations.shelf import Full
from app.operations.targets import parse_target
from app.routes.answers import problem
from app.routes.gauges import refresh
from app.routes.node import node_of
from app.routes.snapshots import content_of, images_of, members_of, preheat_of, purge_of, status_of, transfers_of

EVENT_SECONDS = 1.0
RETRY_MILLISECONDS = 2000
"""After which a browser whose connection broke connects again."""


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
    return status_of(node_of(request))


async def list_members(request: Request) -> MemberList:
    """The members of the cluster, this node first."""
    return members_of(node_of(request))


async def list_contents(request: Request, *, limit: int, after: str | None) -> ContentList:
    """What is in the cache, by key."""
    node = node_of(request)
    entries = sorted(node.cache, key=lambda entry: entry.meta.key.text)
    rest = [entry for entry in entries if after is None or entry.meta.key.text > after]
    shown = rest[:limit]
    return ContentList(
        contents=[content_of(entry) for entry in shown],
        total=len(entries),
        next=shown[-1].meta.key.text if len(rest) > limit else None,
    )


async def list_transfers(request: Request) -> TransferList:
    """What is being sent to clients now, and what lately was."""
    return transfers_of(node_of(request))


async def list_images(request: Request) -> ImageList:
    """How often upstream sent the same bytes, image by image."""
    return images_of(node_of(request))


async def stream_events(request: Request) -> Response:
    """Snapshots as server-sent events: all at once on connect, then what changed, at most once a second."""
    node = node_of(request)

    async def events() -> AsyncIterator[str]:
        sent: dict[str, str] = {}
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        with node.loads.watched():
            while node.state != "draining":
                for name, snapshot in (
                    ("status", status_of(node)),
                    ("members", members_of(node)),
                    ("transfers", transfers_of(node)),
                    ("images", images_of(node)),
                ):
                    data = json.dumps(snapshot.model_dump(mode="json"), separators=(",", ":"))
                    if sent.get(name) != data:
                        sent[name] = data
                        yield f"event: {name}\ndata: {data}\n\n"
                await asyncio.sleep(EVENT_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def start_preheat(request: Request, *, body: PreheatRequest) -> Response:
    """Begin to bring content onto nodes."""
    node = node_of(request)
    count = body.nodes.root if isinstance(body.nodes, NodeCount) else None
    try:
        preheat = node.preheats.start(body.references, count)
    except Full as error:
        return problem(
            503, "Service Unavailable", str(error), advice="wait for one to end", headers={"Retry-After": "5"}
        )
    headers = {"Location": f"/api/v1/preheat/{preheat.id}"}
    return JSONResponse(preheat_of(preheat).model_dump(mode="json"), 202, headers)


async def get_preheat(request: Request, *, id_: str) -> Preheat | Response:
    """How far a preheat is."""
    preheat = node_of(request).preheats.get(id_)
    if preheat is None:
        detail = f"no preheat {id_} is known on this node"
        return problem(404, "Not Found", detail, advice="ask the node that started it, within the hour")
    return preheat_of(preheat)


async def purge_content(request: Request, *, key: str, all_nodes: bool) -> Purge | Response:
    """Forget content here, or everywhere."""
    target = str(parse_target(key))
    nodes = await node_of(request).purges.purge(key, all_nodes=all_nodes)
    if not any(one.forgotten or one.error for one in nodes):
        where = "by any member" if all_nodes else "here"
        advice = None if all_nodes else "all_nodes=true asks every member"
        return problem(404, "Not Found", f"{target} is not held {where}", advice=advice)
    return purge_of(target, nodes)
