"""Asking a member for a chunk, over a socket: what becomes of its thread when the node ends."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.errors import SourceUnavailable
from app.swarm import protocol
from app.swarm.peer_client import PeerClient
from app.swarm.race import Aside, Lane
from peerd_gossip import Member

DATA = bytes(range(256)) * 4096
CHUNK = ByteRange(0, len(DATA))
KEY = ContentKey("url:test")


class Dripping:
    """A member that answers with all that is right, a byte now and then."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sending = threading.Event()
        self._start(self._accept)

    def _start(self, work: object, *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            head = (
                f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(DATA)}\r\n"
                f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}\r\n"
                f"Content-Digest: {protocol.content_digest(hashlib.sha256(DATA).digest())}\r\n\r\n"
            )
            try:
                connection.sendall(head.encode())
                self.sending.set()
                for at in range(len(DATA)):
                    if self._over.wait(0.05):
                        return
                    connection.sendall(DATA[at : at + 1])
            except OSError:
                return

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def member() -> Iterator[Dripping]:
    dripping = Dripping()
    yield dripping
    dripping.close()


def test_no_thread_outlives_the_client(member: Dripping) -> None:
    client = PeerClient("me", None)
    with ThreadPoolExecutor(2) as threads:
        slow = Member("slow", 1, member.address, member.address)
        asked = [
            threads.submit(client.get_chunk, slow, KEY, CHUNK, CHUNK, Lane(Aside())),
            threads.submit(client.get_document, slow, protocol.stat_path(KEY)),
        ]
        assert member.sending.wait(10)
        time.sleep(0.2)
        client.close()
        for one in asked:
            with pytest.raises(SourceUnavailable):
                one.result(10)
