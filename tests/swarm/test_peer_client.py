"""Asking a member for a chunk, over a socket: bytes that come now and then, and what becomes of its thread when the node ends."""

import datetime as dt
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.cli.authority import new_authority
from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.errors import SourceUnavailable
from app.server.certificates import Certificates
from app.swarm import protocol
from app.swarm.peer_client import PeerClient
from app.swarm.race import Aside, Lane
from peerd_gossip import Member
from tests.support.certificates import written

DATA = bytes(range(256)) * 4096
KEY = ContentKey("url:test")
NAME = "speaker"

KIB = 1 << 10


class Speaker:
    """A member that answers each request for a chunk with the beginning of DATA, and says it in its own way.

    `say` is called with the connection, and with how many bytes the chunk has, once the head was sent.
    """

    def __init__(self, say: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None, *headers: str) -> None:
        self._say = say
        self._headers = headers
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.connections = 0
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.member = Member(NAME, 1, address, address)
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with self._tls.wrap_socket(connection, server_side=True) if self._tls is not None else connection as spoken:
                while request := spoken.recv(65536):
                    self._answer(spoken, request)
        except OSError:
            return

    def _answer(self, connection: socket.socket, request: bytes) -> None:
        """`request` has come whole: it is short."""
        last = request.lower().partition(b"bytes=0-")[2].split(b"\r\n")[0]
        size = int(last) + 1 if last else len(DATA)
        head = (
            f"HTTP/1.1 206 Partial Content\r\nContent-Length: {size}\r\n"
            f"Content-Range: bytes 0-{size - 1}/{len(DATA)}\r\n"
            f"Content-Digest: {protocol.content_digest(hashlib.sha256(DATA[:size]).digest())}\r\n"
        )
        connection.sendall((head + "".join(f"{header}\r\n" for header in self._headers) + "\r\n").encode())
        self._say(connection, size)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def speaking(
    say: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None, *headers: str
) -> Iterator[Speaker]:
    speaker = Speaker(say, tls, *headers)
    try:
        yield speaker
    finally:
        speaker.close()


@pytest.fixture(scope="module", params=[False, True], ids=["in the clear", "over TLS"])
def certificates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Certificates | None:
    """For both ends; None: none are used."""
    folder: Path = tmp_path_factory.mktemp("papers")
    return (
        Certificates(written(folder, new_authority(days=10, now=dt.datetime.now(dt.UTC)), NAME))
        if request.param
        else None
    )


@pytest.mark.parametrize(
    "size", [1, 64 * KIB, 64 * KIB + 1, 88 * KIB, 88 * KIB + 2, 152 * KIB, 152 * KIB + 2, 1024 * KIB]
)
def test_the_last_bytes_of_a_chunk_are_waited_for_however_few(certificates: Certificates | None, size: int) -> None:
    """The thread is not woken for few bytes while more are to come; nothing comes after the last ones."""
    late = [1, 17, 5_000, 20_000, 40_000, 65_536, 65_537, 100_000]

    def say(connection: socket.socket, size: int) -> None:
        last = min(late.pop(0), size)
        connection.sendall(DATA[: size - last])
        time.sleep(0.05)
        connection.sendall(DATA[size - last : size])

    chunk = ByteRange(0, size)
    client = PeerClient("me", certificates)
    with speaking(say, certificates.door if certificates is not None else None) as speaker:
        while late:
            came = Aside()
            client.get_chunk(speaker.member, KEY, chunk, chunk, Lane(came))
            assert came.data == DATA[:size]
        assert speaker.connections == 1, "it is kept"
        client.close()


@pytest.mark.parametrize("size", [1, 1024 * KIB])
def test_a_member_that_closes_after_its_answer_is_asked_anew(certificates: Certificates | None, size: int) -> None:
    chunk = ByteRange(0, size)
    client = PeerClient("me", certificates)

    def say(connection: socket.socket, size: int) -> None:
        connection.sendall(DATA[:size])
        connection.close()

    with speaking(say, certificates.door if certificates is not None else None, "Connection: close") as speaker:
        for asked in (1, 2):
            came = Aside()
            client.get_chunk(speaker.member, KEY, chunk, chunk, Lane(came))
            assert came.data == DATA[:size]
            assert speaker.connections == asked
        client.close()


def test_no_thread_outlives_the_client() -> None:
    over, saying = threading.Event(), threading.Event()

    def drip(connection: socket.socket, size: int) -> None:
        saying.set()
        for at in range(size):
            if over.wait(0.05):
                return
            connection.sendall(DATA[at : at + 1])

    whole = ByteRange(0, len(DATA))
    client = PeerClient("me", None)
    with speaking(drip) as slow, ThreadPoolExecutor(2) as threads:
        asked = [
            threads.submit(client.get_chunk, slow.member, KEY, whole, whole, Lane(Aside())),
            threads.submit(client.get_document, slow.member, protocol.stat_path(KEY)),
        ]
        assert saying.wait(10)
        time.sleep(0.2)
        client.close()
        for one in asked:
            with pytest.raises(SourceUnavailable):
                one.result(10)
        over.set()
