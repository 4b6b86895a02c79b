"""The registry mirror: `/v2`, for containerd and every other client of registries.

From OCI names and digests to contents. A mirror must never turn a pull that would have worked without it into one that fails:
what can not be had within `--mirror-timeout` is a 404, and success is answered only with bytes in hand.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from fastapi import Request
from starlette.responses import Response

from app.content.digest import Digest
from app.content.location import BlobInRegistry, ManifestInRegistry
from app.content.manifests import FoundManifest
from app.errors import ContentUnknown, Unobtainable
from app.observability.request import correlation_id
from app.routes import reference as references
from app.routes.answers import API_VERSION, oci_error
from app.routes.conditions import if_match_holds, if_none_match_holds, if_range_holds
from app.routes.http_range import parse_range
from app.routes.node import Node, node_of
from app.routes.sending import CACHE_STATUS, ContentAnswer, answer_with, first_slice
from app.server.sendfile import outlet_of

_BLOB_TYPE = "application/octet-stream"


async def get_version(_request: Request) -> Response:
    """`/v2/`: this is a registry."""
    return Response("{}", media_type="application/json", headers=API_VERSION)


async def refuse_unknown(request: Request) -> Response:
    """Anything else under `/v2`: catalogues and lists of tags are the registry's own business."""
    message = f"{request.scope['path']} is not mirrored: manifests and blobs are"
    return oci_error(404, "UNSUPPORTED", message)


async def refuse_write(_request: Request) -> Response:
    """Anything that writes."""
    return oci_error(
        405, "UNSUPPORTED", "a mirror is read only; push to the registry itself", headers={"Allow": "GET, HEAD"}
    )


async def get_manifest(
    request: Request,
    *,
    name: str,
    reference: str,
    ns: str | None,
    oci_namespace: str | None,
    accept: str | None,  # noqa: ARG001 -- a digest names one manifest, whatever its client accepts
    if_none_match: str | None,
    if_match: str | None,
    authorization: str | None,
) -> Response:
    """A manifest by tag or digest; see openapi/peerd.yaml."""
    node = node_of(request)
    location = ManifestInRegistry(
        _registry(node, ns, oci_namespace),
        references.repository(name),
        references.tag_or_digest(reference),
        authorization,
    )
    async with _patience(node):
        find = node.manifests.describe if request.method == "HEAD" else node.manifests.find
        found = await find(location)
    headers = _headers(location.registry, found.digest)
    if not if_match_holds(if_match, f'"{found.digest}"'):
        return oci_error(412, "MANIFEST_INVALID", f"the manifest is {found.digest} by now", headers=headers)
    if not if_none_match_holds(if_none_match, f'"{found.digest}"'):
        return Response(status_code=304, headers=headers)
    if request.method == "GET":
        node.plans.remember(request, found, headers, media_type=found.media_type, kind="manifest")
    headers |= {"Content-Type": found.media_type, "Content-Length": str(found.size)}
    if request.method == "HEAD":
        return Response(headers=headers)
    return await _send_manifest(request, node, found, headers)


async def _send_manifest(request: Request, node: Node, found: FoundManifest, headers: dict[str, str]) -> Response:
    async with AsyncExitStack() as stack:
        transfer = stack.enter_context(
            node.transfers.transfer(
                str(found.digest),
                kind="manifest",
                door="mirror",
                total=found.size,
                correlation_id=correlation_id(request.scope),
            )
        )
        slices = await stack.enter_async_context(aclosing(node.manifests.slices(found)))
        first = await first_slice(slices, lambda: 0, node.settings.mirror_timeout)
        if first is not None:
            headers["Cache-Status"] = CACHE_STATUS[first.kind]
        return ContentAnswer(
            200,
            headers,
            first=first,
            parts=[slices],
            transfer=transfer,
            transfers=node.transfers,
            life=stack.pop_all(),
        )


async def get_blob(
    request: Request,
    *,
    name: str,
    digest: str,
    ns: str | None,
    oci_namespace: str | None,
    range_: str | None,
    if_range: str | None,
    if_none_match: str | None,
    if_match: str | None,
    authorization: str | None,
) -> Response:
    """A blob or ranges of it; see openapi/peerd.yaml."""
    node = node_of(request)
    wanted = Digest.parse(digest)
    location = BlobInRegistry(_registry(node, ns, oci_namespace), references.repository(name), wanted, authorization)
    async with _patience(node):
        found = await node.library.find(location)
    headers = _headers(location.registry, wanted) | {"Accept-Ranges": "bytes"}
    etag = f'"{wanted}"'
    if not if_match_holds(if_match, etag):
        return oci_error(412, "BLOB_UNKNOWN", f"the blob is {wanted}, and can be no other", headers=headers)
    if not if_none_match_holds(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    size = found.content.stat.size
    if size is None:
        raise ContentUnknown(f"{location.registry} does not say how long {wanted} is, so its end could not be proved")
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(size), "Content-Type": _BLOB_TYPE})
    node.plans.remember(request, found, headers, media_type=_BLOB_TYPE, kind="blob")
    return await answer_with(
        found,
        parse_range(range_) if if_range_holds(if_range, etag, None) else None,
        headers=headers,
        media_type=_BLOB_TYPE,
        kind="blob",
        correlation_id=correlation_id(request.scope),
        library=node.library,
        transfers=node.transfers,
        patience_seconds=node.settings.mirror_timeout,
        outlet=outlet_of(request.scope),
    )


@asynccontextmanager
async def _patience(node: Node) -> AsyncIterator[None]:
    """Finding a content must not keep containerd waiting for longer than `--mirror-timeout`."""
    seconds = node.settings.mirror_timeout
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unobtainable(f"nobody answered within {seconds:g} s") from error


def _registry(node: Node, ns: str | None, oci_namespace: str | None) -> str:
    """The registry that is meant; raises ContentUnknown where it is none of those that are mirrored."""
    registry = references.registry(ns or oci_namespace or node.settings.default_registry)
    mirrored = {one.name for one in node.settings.hosts}
    if mirrored and "_default" not in mirrored and registry not in mirrored:
        raise ContentUnknown(f"{registry} is not mirrored by this node (--hosts)")
    return registry


def _headers(registry: str, digest: Digest) -> dict[str, str]:
    return {
        **API_VERSION,
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        "OCI-Namespace": registry,
    }
