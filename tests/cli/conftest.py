"""Doubles that speak HTTP: a node that says what a test tells it, and the demo's registry in a node's place."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.cli import main
from app.client.manifest import Platform
from app.client.node import Node
from app.demo.image import Image, make_image
from app.demo.registry import Registry, serving

Said = tuple[int, dict[str, str], bytes]
"""One answer: status, headers and body, sent word for word; then the connection is closed, whether it was all or not."""


def encoded(said: Said) -> bytes:
    status, headers, body = said
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


class ScriptedNode:
    """A server that gives the answers of a script, one a connection, and remembers what it was asked."""

    def __init__(self, script: list[Said]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._url = "http://{}:{}".format(*self._listener.getsockname())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def node(self) -> Node:
        return Node(self._url)

    def close(self) -> None:
        with suppress(OSError):  # it is closed already when the script was played to its end
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for said in self._script:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                request, *lines = head.decode().split("\r\n\r\n")[0].split("\r\n")
                self.asked.append((request, dict(line.split(": ", 1) for line in lines)))
                connection.sendall(encoded(said))
        self._listener.close()


@pytest.fixture
def scripted_node() -> Iterator[Callable[..., ScriptedNode]]:
    nodes: list[ScriptedNode] = []

    def start(*script: Said) -> ScriptedNode:
        nodes.append(ScriptedNode(list(script)))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


@dataclass
class ApiNode:
    """A node of which only /api/v1 is there: `documents` by method and path; what was asked is in `asked`."""

    url: str
    documents: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def says(self, request: str, *texts: str, status: int = 200) -> None:
        """These answers in turn, the last of them from then on."""
        self.documents[request] = [(status, text) for text in texts]


@pytest.fixture
def api_node() -> Iterator[ApiNode]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            request = f"{self.command} {self.path}"
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            node.asked.append((request, body))
            answers = node.documents.get(
                request, [(404, '{"title": "Not Found", "status": 404, "detail": "no such thing"}')]
            )
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    node = ApiNode(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield node
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    """The demo's registry; it speaks what a node's /v2 speaks, so a client can take it for one."""
    registry = Registry()
    with serving(registry):
        yield registry


@pytest.fixture(scope="session")
def image() -> Image:
    return make_image(256 * 1024, Platform("linux", "amd64"))


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def peerd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command line, with no option set from outside."""
    for name in [name for name in os.environ if name.startswith("PEERD_")]:
        monkeypatch.delenv(name)

    def run(*words: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words), prog_name="peerd")
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run
