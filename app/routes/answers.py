"""Errors to statuses and documents: one table for each door.

Under `/v2` errors are OCI documents (distribution-spec, Error Codes) and whatever sends containerd on to the registry by itself
is a 404; it repeats 408 and 429 at once at the same host and brings no credentials after a 401, so those, and 403, are never
answered there. Elsewhere they are problem documents (RFC 9457), and upstream's own word is passed on.
"""

import http
import logging
from dataclasses import dataclass

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.errors import (
    BadRequest,
    ContentChanged,
    ContentUnknown,
    PeerdError,
    RangeNotSatisfiable,
    UpstreamForbidden,
    UpstreamRefused,
    UpstreamUnavailable,
)
from app.observability.request import correlation_id, shown_target
from app.routes.http_range import unsatisfied
from app.routes.node import node_of

log = logging.getLogger(__name__)

API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


@dataclass(frozen=True, slots=True)
class _Row:
    """How an error is answered: on `/v2` by status and OCI code, elsewhere by status, with what can be done about it."""

    mirror: int
    code: str
    elsewhere: int
    advice: str | None = None


_GO_ON = "containerd goes on to the registry by itself"
_TABLE: tuple[tuple[type[PeerdError], _Row], ...] = (
    (BadRequest, _Row(400, "UNSUPPORTED", 400)),
    (RangeNotSatisfiable, _Row(416, "SIZE_INVALID", 416, "ask for a range within the size that Content-Range names")),
    (ContentUnknown, _Row(404, "BLOB_UNKNOWN", 404, _GO_ON)),
    (
        UpstreamRefused,
        _Row(404, "DENIED", 403, "send a credential that upstream accepts, or give the node one with --registry-auth"),
    ),
    (
        UpstreamForbidden,
        _Row(404, "DENIED", 403, "let this host be asked with --upstream-allow, or name it with --registry"),
    ),
    (
        UpstreamUnavailable,
        _Row(404, "UNAVAILABLE", 502, "try again; if it goes on, check that this node reaches upstream"),
    ),
    (ContentChanged, _Row(404, "UNAVAILABLE", 503, "ask again: the next answer is of the new version")),
    (PeerdError, _Row(404, "UNAVAILABLE", 502, "try again; the node's log says which sources failed and why")),
)


def is_mirror(request: Request) -> bool:
    """Whether a request came to the door of the registry mirror."""
    path: str = request.scope["path"]
    return path == "/v2" or path.startswith("/v2/")


def answer_error(request: Request, error: PeerdError) -> Response:
    """The answer to a request that failed before its first byte; logged where somebody should know of it."""
    answer = _answer(request, error)
    if answer.status_code >= 500 or (
        is_mirror(request) and answer.status_code == 404 and not _is_ordinary(request, error)
    ):
        log.warning(
            "%s %s is answered %d: %s",
            request.method,
            _asked_for(request),
            answer.status_code,
            error,
            extra={"status": answer.status_code, "correlationid": correlation_id(request.scope)},
        )
    return answer


def _asked_for(request: Request) -> str:
    """The target without its query, which may hold what signs it; of a mirror's, the registry is told, as it has been parsed."""
    registry = request.query_params.get("ns") if is_mirror(request) else None
    return shown_target(request.scope) + (f"?ns={registry}" if registry else "")


def _is_ordinary(request: Request, error: PeerdError) -> bool:
    """Whether containerd is sent on to the registry with nothing being wrong."""
    # With --consent upstream a client without a credential is refused first, and pulls on from the registry with one.
    asks_consent = isinstance(error, UpstreamRefused) and node_of(request).settings.consent == "upstream"
    return isinstance(error, ContentUnknown) or asks_consent


def _answer(request: Request, error: PeerdError) -> Response:
    row = next(row for kind, row in _TABLE if isinstance(error, kind))
    headers: dict[str, str] = {}
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = unsatisfied(error.size)
    if is_mirror(request):
        code = error.code if isinstance(error, BadRequest) else row.code
        if code == "BLOB_UNKNOWN" and "/manifests/" in request.scope["path"]:
            code = "MANIFEST_UNKNOWN"
        return oci_error(row.mirror, code, str(error), advice=row.advice, headers=headers)
    status = row.elsewhere
    if isinstance(error, UpstreamRefused):
        status = error.status
        if error.challenge and status == 401:
            headers["WWW-Authenticate"] = error.challenge
    elif isinstance(error, UpstreamUnavailable) and error.retry_after_seconds is not None:
        status = 503
        headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
    elif status == 503:
        headers["Retry-After"] = "1"
    return problem(status, _title(status), str(error), advice=row.advice if status != 404 else None, headers=headers)


def oci_error(
    status: int, code: str, message: str, *, advice: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An OCI error document."""
    detail = {"advice": advice} if advice else None
    document = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return JSONResponse(document, status, {**API_VERSION, **(headers or {})})


def problem(
    status: int, title: str, detail: str, *, advice: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem document."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if advice:
        document["advice"] = advice
    return JSONResponse(document, status, headers, media_type="application/problem+json")


def _title(status: int) -> str:
    """The status' own phrase: RFC 9457, section 4.2.1, asks for that with about:blank."""
    return http.HTTPStatus(status).phrase


async def on_peerd_error(request: Request, error: Exception) -> Response:
    """Exception handler for everything that peerd raises on purpose."""
    if not isinstance(error, PeerdError):
        raise TypeError("registered for PeerdError only") from error
    return answer_error(request, error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Exception handler for what the router says: unknown route, wrong method."""
    if not isinstance(error, HTTPException):
        raise TypeError("registered for HTTPException only") from error
    headers = dict(error.headers or {})
    if is_mirror(request):
        return oci_error(error.status_code, "UNSUPPORTED", str(error.detail), headers=headers)
    detail = (
        f"{request.method} {request.scope['path']} is not served here"
        if error.status_code == 404
        else str(error.detail)
    )
    advice = "GET /docs lists what is" if error.status_code == 404 else None
    return problem(error.status_code, _title(error.status_code), detail, advice=advice, headers=headers)


async def on_invalid(_request: Request, error: Exception) -> Response:
    """Exception handler for parameters and bodies that do not validate."""
    if not isinstance(error, RequestValidationError):
        raise TypeError("registered for RequestValidationError only") from error
    faults = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
    return problem(422, _title(422), faults, advice="GET /docs shows what is expected")


async def on_defect(request: Request, _error: Exception) -> Response:
    """Exception handler for our own mistakes: logged by the server, told to the client without a stack trace."""
    if is_mirror(request):
        return oci_error(500, "UNKNOWN", "peerd made a mistake; its log tells which")
    return problem(
        500, _title(500), "peerd made a mistake; its log tells which", advice="please report it with the log"
    )
