"""How much a node of a cluster asks of upstream at the same time, for a client that reads a file from its beginning to its end."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node
from tests.support.origin import Origin, file
from tests.upstream.conversation import Asked, Wire

CHUNKS = 48
SIZE = CHUNKS << 20
AWAITED, AT_FIRST, BEHIND, AT_MOST = 1, 2, 7, 8
"""What a client waits for is asked for at once, and may be one of those that are fetched behind it."""
PATIENCE_SECONDS = 30

pytestmark = [pytest.mark.xdist_group("conversations")]


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """One of two; the other wants nothing."""
    return cluster(2)[0]


class Held:
    """A file of which as many chunks are sent as a test allows, in the order in which they were asked for.

    What counts as asked for at once has no answer begun, and a client that waits for it: who has a chunk's last byte asks for the next
    before it is seen here that it was sent.
    """

    def __init__(self, data: bytes) -> None:
        self._send = file(data, ETag='"1"')
        self._queue: list[Wire] = []
        self._allowed = threading.Semaphore(0)
        self.asked = self.at_once_max = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        first, _, last = asked.headers.get("range", "").removeprefix("bytes=").partition("-")
        if asked.method != "GET" or not last or int(last) - int(first) < 1000:  # The first look at it.
            await self._send(asked, wire)
            return
        self._queue.append(wire)
        self.asked += 1
        self.at_once_max = max(self.at_once_max, self.waiting)
        try:
            while not (self._queue[0] is wire and self._allowed.acquire(blocking=False)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await wire.gone()
                    return
        finally:
            self._queue.remove(wire)
        await self._send(asked, wire)

    def wait_for(self, waiting: int) -> None:
        _until(lambda: self.waiting >= waiting, f"not {waiting} are asked for at once")

    def allow(self, chunks: int) -> None:
        self._allowed.release(chunks)

    def allow_one(self) -> None:
        """One chunk is sent, and one more asked for."""
        asked = self.asked
        self.allow(1)
        _until(lambda: self.asked > asked, "no more is asked for")


def _until(there: Callable[[], bool], otherwise: str) -> None:
    began = time.monotonic()
    while not there():
        assert time.monotonic() - began < PATIENCE_SECONDS, otherwise
        time.sleep(0.01)


def test_it_begins_with_few_chunks_and_goes_on_with_one_more_for_each_that_came(node: Node, origin: Origin) -> None:
    data = made.content("window", SIZE)
    held = Held(data)
    url = origin.at("/disk.img", held)
    with ThreadPoolExecutor(1) as client:
        try:
            reply = client.submit(node.ask, f"/blobs/{url}")
            held.wait_for(AT_FIRST)
            time.sleep(1)
            assert held.waiting <= AWAITED + AT_FIRST
            for came in range(1, BEHIND - AT_FIRST + 1):
                held.allow_one()
                held.wait_for(AT_FIRST + came)
            for _ in range(2 * AT_MOST):
                held.allow_one()
        finally:
            held.allow(CHUNKS)
        assert reply.result(PATIENCE_SECONDS).body == data
    assert held.at_once_max <= AWAITED + AT_MOST
