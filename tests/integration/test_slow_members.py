"""How long the peer door lets a member take a chunk that it reads slowly, or not at all: plain, and over mutual TLS."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Cluster
from tests.integration.test_mutual_tls import authority, stranger
from tests.support import made
from tests.support.origin import Origin, file

__all__ = ["authority"]

SIZE = 32 << 20
"""Of one chunk: more than the sockets between hold."""

SLOW_SECONDS = 8.0
"""More than the door waits for one that takes nothing."""

PATIENCE_SECONDS = 60

DATA = made.content("disk", SIZE)

pytestmark = [pytest.mark.xdist_group("slow members")]

AskForChunk = Callable[[], socket.socket]


@pytest.fixture(scope="module", params=["plain", "tls"])
def ask_for_chunk(request: pytest.FixtureRequest, cluster: Cluster, authority: Path, origin: Origin) -> AskForChunk:
    """Asks a node for the chunk that it holds, as another member; what comes is to be read from the connection."""
    trust = [
        [part for option, end in (("ca", "ca.crt"), ("cert", f"{name}.crt"), ("key", f"{name}.key"))
         for part in (f"--tls-{option}", str(authority / end))]
        for name in ("node-1", "node-2")
    ]  # fmt: skip
    is_plain = request.param == "plain"
    node, _ = cluster(2, "--chunk-size", str(SIZE), trust=None if is_plain else trust)
    url = origin.at("/disk.img", file(DATA, ETag='"1"'))
    reply = node.ask(f"/blobs/{url}")
    assert reply.correct
    [key] = [content["key"] for content in json.loads(node.ask("/api/v1/contents").body)["contents"]]

    def ask() -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        client.settimeout(PATIENCE_SECONDS)
        client.connect((node.host, node.peer_port))
        connection = client if is_plain else stranger(authority).wrap_socket(client)
        head = (f"GET /contents/{quote(key, safe='')} HTTP/1.1", "Host: peer", f"Range: bytes=0-{SIZE - 1}", "", "")
        connection.sendall("\r\n".join(head).encode())
        return connection

    return ask


def test_a_member_that_reads_slowly_gets_the_whole_chunk(ask_for_chunk: AskForChunk) -> None:
    with ask_for_chunk() as connection:
        head, got = head_of(connection)
        assert b" 206 " in head
        began = time.monotonic()
        while len(got) < SIZE:
            time.sleep(max(0.0, len(got) / SIZE * SLOW_SECONDS - (time.monotonic() - began)))
            piece = connection.recv(1 << 20)
            assert piece, f"broken off after {len(got)} bytes"
            got += piece
    assert got == DATA


def test_a_member_that_takes_nothing_is_cut_off(ask_for_chunk: AskForChunk) -> None:
    with ask_for_chunk() as connection:
        _, got = head_of(connection)
        time.sleep(SLOW_SECONDS)
        assert len(got) + len(the_rest(connection)) < SIZE


def head_of(connection: socket.socket) -> tuple[bytes, bytearray]:
    """The head of an answer, and what came with it of the body."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    head, _, body = data.partition(b"\r\n\r\n")
    return bytes(head), body


def the_rest(connection: socket.socket) -> bytearray:
    """All that comes until the connection ends, however it does."""
    data = bytearray()
    try:
        while piece := connection.recv(1 << 20):
            data += piece
    except OSError:  # ssl.SSLError is one: an end without goodbye.
        pass
    return data
