"""The file proxy: `/blobs/<URL>`, for overlaybd and anything else that speaks HTTP.

The URL behind the slash is taken byte for byte, its query string included: a changed escape breaks a signature.
"""

import re
from urllib.parse import unquote, urlsplit

from fastapi import Request
from starlette.responses import Response

from app.content.location import FileAtUrl
from app.content.url_digest import digest_in_url
from app.errors import BadRequest
from app.observability.request import correlation_id
from app.routes.answers import problem
from app.routes.conditions import if_match_holds, if_none_match_holds, if_range_holds
from app.routes.http_range import parse_range
from app.routes.node import node_of
from app.routes.sending import answer_with
from app.server.sendfile import outlet_of

_PREFIX = "/blobs/"
_ESCAPED_SCHEME = re.compile(r"https?(?:%3a|:%2f)", re.IGNORECASE)
_ONE_SLASH = re.compile(r"(https?:)/(?!/)", re.IGNORECASE)
_URL_LENGTH_MAX = 16 << 10
_DEFAULT_TYPE = "application/octet-stream"


async def get_file(
    request: Request,
    *,
    range_: str | None,
    if_range: str | None,
    if_none_match: str | None,
    if_match: str | None,
    authorization: str | None,
) -> Response:
    """The bytes behind a URL; see openapi/peerd.yaml."""
    node = node_of(request)
    url = upstream_url(request.scope["raw_path"], request.scope["query_string"])
    location = FileAtUrl(url, digest_in_url(url, registry_hosts=node.registry_hosts), authorization)
    found = await node.library.find(location)
    stat, etag = found.content.stat, found.etag
    headers = {"Accept-Ranges": "bytes"}
    if etag is not None:
        headers["ETag"] = etag
    if found.content.digest is not None:
        headers["Docker-Content-Digest"] = str(found.content.digest)
    if stat.last_modified is not None:
        headers["Last-Modified"] = stat.last_modified
    if not if_match_holds(if_match, etag):
        return problem(412, "Precondition Failed", "the file has another version by now", headers=headers)
    if not if_none_match_holds(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    media_type = stat.media_type or _DEFAULT_TYPE
    if request.method == "HEAD":
        head = Response(headers={**headers, "Content-Type": media_type})
        if stat.size is None:
            del head.headers[
                "Content-Length"
            ]  # Starlette's own, of a body that is not sent; and how long it is nobody knows.
        else:
            head.headers["Content-Length"] = str(stat.size)
        return head
    node.plans.remember(request, found, headers, media_type=media_type, kind="file")
    return await answer_with(
        found,
        parse_range(range_) if if_range_holds(if_range, etag, stat.last_modified) else None,
        headers=headers,
        media_type=media_type,
        kind="file",
        correlation_id=correlation_id(request.scope),
        library=node.library,
        transfers=node.transfers,
        patience_seconds=None,
        outlet=outlet_of(request.scope),
    )


def upstream_url(raw_path: bytes, query: bytes) -> str:
    """The URL that a request target behind `/blobs/` names; raises BadRequest.

    Escaped as a whole or not; a hop before us may have turned `http://` into `http:/`.
    """
    try:
        text = raw_path.decode("ascii")[len(_PREFIX) :].removeprefix("/")
        query_text = query.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("the URL behind /blobs/ holds bytes that no URL has; escape them with %") from None
    if _ESCAPED_SCHEME.match(text):
        text = unquote(text)
    text = _ONE_SLASH.sub(r"\1//", text, count=1)
    url = f"{text}?{query_text}" if query_text else text
    if len(url) > _URL_LENGTH_MAX:
        raise BadRequest(f"the URL behind /blobs/ is longer than {_URL_LENGTH_MAX} bytes")
    if any(character <= " " or character == "\x7f" or character > "~" for character in url):
        raise BadRequest("the URL behind /blobs/ holds blanks or control characters; escape them with %")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"the URL behind /blobs/ can not be parsed: {error}") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise BadRequest("what stands behind /blobs/ is no http or https URL, as in /blobs/https://host/path")
    return url
