"""One node's door, spoken to over HTTP/1.1.

Owns: connections and the meaning of error documents. Each request has a connection of its own: the node is on this machine,
and a broken one harms nobody else. The standard library's client is used because it sends the target byte for byte: a URL
behind /blobs may carry a signature over its exact escapes.
"""

import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from app.content.json_text import parsed
from app.errors import BadRequest, PeerdError

# Silence, not duration: the longest that a node lets a client wait for a byte is its own upstream deadline.
_SILENCE_SECONDS: Final = 60.0
_ERROR_BYTES_MAX: Final = 65536
# What a request line can not carry; everything else of a URL is sent as it was given.
_UNSENDABLE: Final = re.compile(r"[^\x21-\x7e]+")


class NodeUnreachable(PeerdError):
    """No node answers at this address."""


class NodeRefused(PeerdError):
    """The node answered with an error.

    Attributes:
        status: of the answer.
        retry_after_seconds: what its `Retry-After` says, if anything.
    """

    def __init__(self, message: str, *, status: int, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Node:
    """A node by the URL of its door, e.g. `http://127.0.0.1:5000`, and how long its silence is borne."""

    url: str
    silence_seconds: float = _SILENCE_SECONDS

    def __post_init__(self) -> None:
        """Refuse what is no door's URL."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
            raise BadRequest(f"{self.url!r} is no node's URL; right would be http://127.0.0.1:5000")

    @contextmanager
    def request(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer of success, its body not yet read.

        Raises:
            NodeUnreachable: nothing listens, or what does is silent.
            NodeRefused: the status is 400 or above.
            OSError, http.client.HTTPException: the body broke off while the caller read it.
        """
        connection = self._connection()
        try:
            answer = self._exchange(
                connection, method, _UNSENDABLE.sub(lambda match: quote(match[0]), target), headers or {}, body
            )
            if answer.status >= 400:
                raise _refusal(answer, f"{method} {target.partition('?')[0]}")
            yield answer
        finally:
            connection.close()

    def get_json(self, target: str) -> bytes:
        """The JSON text of a GET; raises as `request` does."""
        return self._whole("GET", target, None)

    def post_json(self, target: str, document: object) -> bytes:
        """The JSON text that answers a POST of `document`; raises as `request` does."""
        return self._whole("POST", target, json.dumps(document).encode())

    def delete(self, target: str) -> bytes:
        """The JSON text that answers a DELETE; raises as `request` does."""
        return self._whole("DELETE", target, None)

    def _whole(self, method: str, target: str, body: bytes | None) -> bytes:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            with self.request(method, target, headers=headers, body=body) as answer:
                return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NodeUnreachable(f"{self.url} broke off its answer to {method} {target}: {error!r}") from error

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(str(parts.hostname), parts.port, timeout=self.silence_seconds)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> http.client.HTTPResponse:
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request(method, target, body=body, headers={"User-Agent": "peerd-cli", **headers})
            return connection.getresponse()
        except ConnectionRefusedError as error:
            raise NodeUnreachable(
                f"nothing listens at {self.url}: start a node (`peerd serve`), or name another with --node or PEERD_NODE"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NodeUnreachable(f"{self.url} does not answer {method}: {error!r}") from error


def _refusal(answer: http.client.HTTPResponse, what: str) -> NodeRefused:
    """The answer's own reason: an OCI error document (distribution-spec, Error Codes) or a problem document (RFC 9457)."""
    try:
        document = parsed(answer.read(_ERROR_BYTES_MAX))
    except (ValueError, OSError, http.client.HTTPException):
        document = None
    reason = answer.reason
    if isinstance(document, dict):
        errors = document.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            reason = f"{errors[0].get('code', reason)}: {errors[0].get('message', '')}"
        elif "detail" in document or "title" in document:
            reason = "; ".join(str(document[name]) for name in ("detail", "advice") if document.get(name)) or str(
                document["title"]
            )
    retry_after = answer.headers.get("Retry-After", "")
    return NodeRefused(
        f"{what} was answered {answer.status}: {reason}",
        status=answer.status,
        retry_after_seconds=float(retry_after) if retry_after.isdigit() else None,
    )
