"""A registry of one image that remembers what it was asked. Stands for peerd, for a cache, and for the registry itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from app.content.digest import Digest
from tests.containerd.oci import OciImage


class TinyRegistry:
    """Answers `/v2` for `image`, or 404 to everything when it has none."""

    def __init__(self, host: str, port: int, image: OciImage | None) -> None:
        self.port = port
        self.url = f"http://{host}:{port}"
        self.image = image
        self.asked: list[str] = []
        self.namespaces: set[str] = set()


@contextmanager
def tiny_registry(
    image: OciImage | None, order: list[str] | None = None, address: str = "127.0.0.1"
) -> Iterator[TinyRegistry]:
    """One that listens within this block. Its URL is appended to `order` at each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            registry.asked.append(f"{self.command} {parts.path}")
            registry.namespaces.update(parse_qs(parts.query).get("ns", []))
            if order is not None:
                order.append(registry.url)
            found = None if registry.image is None else lookup(registry.image, parts.path.rsplit("/", 1)[-1])
            if found is None:
                self.send_error(404)
                return
            digest, media_type, data = found
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            if start:  # containerd's ranges go to the end.
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                data = data[start:]
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", str(digest))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with Server((address, 0), Handler) as server:
        registry = TinyRegistry(address, server.server_port, image)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def lookup(image: OciImage, reference: str) -> tuple[Digest, str, bytes] | None:
    digest = Digest.parse(reference) if reference.startswith("sha256:") else image.target
    if digest not in image.blobs:
        return None
    return digest, image.media_types[digest], image.blobs[digest]
