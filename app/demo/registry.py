"""A registry just large enough for the demo, which counts what it sends.

Owns: pulling (OCI distribution-spec 1.1, "Pull") with single ranges, from memory. It is the witness: how often a blob left
the registry is told here, by the one who sent it.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from app.demo.image import Document, Image

_PIECE_BYTES: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_TARGET: Final = re.compile(r"/v2/(?P<name>[a-z0-9/._-]+)/(?P<kind>manifests|blobs)/(?P<version>[^/?]+)(?:\?.*)?")


class Registry:
    """What it has, and what it sent. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._manifests: dict[tuple[str, str], Document] = {}
        self._blobs: dict[str, Document] = {}
        self._requests: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self.port = 0

    def push(self, repository: str, tag: str, image: Image) -> None:
        """Have an image under a tag."""
        with self._lock:
            for version in (tag, str(image.index.digest)):
                self._manifests[repository, version] = image.index
            self._manifests[repository, str(image.manifest.digest)] = image.manifest
        for blob in image.blobs:
            self.push_blob(blob)

    def push_blob(self, blob: Document) -> None:
        """Have a blob, in every repository."""
        with self._lock:
            self._blobs[str(blob.digest)] = blob

    def find(self, repository: str, kind: str, version: str) -> Document | None:
        """A manifest or a blob, if it is there."""
        with self._lock:
            return self._manifests.get((repository, version)) if kind == "manifests" else self._blobs.get(version)

    def requested(self, document: Document) -> None:
        """Count a GET."""
        with self._lock:
            self._requests[str(document.digest)] += 1

    def sent(self, document: Document, count: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self._sent[str(document.digest)] += count

    def requests_for(self, document: Document) -> int:
        """How many GETs asked for it, or a range of it."""
        with self._lock:
            return self._requests[str(document.digest)]

    def bytes_sent_of(self, document: Document) -> int:
        """How many of its bytes were sent, all answers together."""
        with self._lock:
            return self._sent[str(document.digest)]


@contextmanager
def serving(registry: Registry) -> Iterator[None]:
    """The registry answers on 127.0.0.1, at a port that it chose, until the block ends."""

    class Handler(_Handler):
        pass

    Handler.registry = registry
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="registry", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    registry: Registry
    protocol_version = "HTTP/1.1"
    # Headers and body in few packets: unbuffered, each header line would be one of its own.
    wbufsize = -1
    timeout = 60

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """What it sent is in its counts."""

    def _answer(self, *, body: bool) -> None:
        if self.path in {"/v2", "/v2/"}:
            self._send_headers(
                HTTPStatus.OK, {"Docker-Distribution-Api-Version": "registry/2.0", "Content-Length": "0"}
            )
            return
        match = _TARGET.fullmatch(self.path)
        document = self.registry.find(match["name"], match["kind"], match["version"]) if match else None
        if document is None:
            self._send_error(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", body=body)
            return
        self._send(document, body=body)

    def _send(self, document: Document, *, body: bool) -> None:
        size = len(document.data)
        headers = {
            "Content-Type": document.media_type,
            "Docker-Content-Digest": str(document.digest),
            "ETag": f'"{document.digest}"',
            "Accept-Ranges": "bytes",
        }
        start, stop, status = 0, size, HTTPStatus.OK
        asked = _RANGE.fullmatch(self.headers.get("Range", "")) if body else None
        if asked:
            start, stop = int(asked[1]), min(size, int(asked[2]) + 1 if asked[2] else size)
            if start >= stop:
                headers = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
                self._send_headers(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
                return
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._send_headers(status, {**headers, "Content-Length": str(stop - start)})
        if body:
            self._send_body(document, start, stop)

    def _send_body(self, document: Document, start: int, stop: int) -> None:
        self.registry.requested(document)
        view = memoryview(document.data)
        try:
            for offset in range(start, stop, _PIECE_BYTES):
                piece = view[offset : min(stop, offset + _PIECE_BYTES)]
                # Counted first: who has a byte finds it counted.
                self.registry.sent(document, len(piece))
                self.wfile.write(piece)
        except ConnectionError:
            self.close_connection = True

    def _send_headers(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_error(self, status: HTTPStatus, code: str, *, body: bool) -> None:
        text = f'{{"errors":[{{"code":"{code}","message":"the demo has no such thing","detail":null}}]}}'.encode()
        self._send_headers(status, {"Content-Type": "application/json", "Content-Length": str(len(text))})
        if body:
            self.wfile.write(text)
