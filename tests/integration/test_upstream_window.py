"""How much a node of a cluster asks of upstream at the same time, for a client that reads a file from its beginning to its end."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node
from tests.support.origin import Origin, file
from tests.upstream.conversation import Asked, Wire

CHUNK, CHUNKS = 256 << 10, 96
SIZE = CHUNKS * CHUNK
AWAITED, AT_FIRST, AT_MOST = 1, 2, 8
PATIENCE_SECONDS = 30

pytestmark = [pytest.mark.xdist_group("conversations")]


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """One of two; the other wants nothing."""
    return cluster(2)[0]


class Held:
    """A file of which as many chunks are sent as a test allows."""

    def __init__(self, data: bytes) -> None:
        self._send = file(data, ETag='"1"')
        self.allowed = self.waiting = self.at_once_max = 0

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        first, _, last = asked.headers.get("range", "").removeprefix("bytes=").partition("-")
        if asked.method != "GET" or not last or int(last) - int(first) < 1000:  # The first look at it.
            await self._send(asked, wire)
            return
        self.waiting += 1
        self.at_once_max = max(self.at_once_max, self.waiting)
        while not self.allowed:
            await asyncio.sleep(0.01)
        self.allowed -= 1
        await self._send(asked, wire)
        self.waiting -= 1

    def wait_for(self, waiting: int) -> None:
        began = time.monotonic()
        while self.waiting < waiting:
            assert time.monotonic() - began < PATIENCE_SECONDS, f"no more than {self.waiting} are asked for at once"
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
            begun = held.waiting
            assert begun <= AWAITED + AT_FIRST
            for more in range(1, AT_MOST - AT_FIRST + 1):
                held.allowed += 1
                held.wait_for(begun + more)
        finally:
            held.allowed = CHUNKS
        assert reply.result(PATIENCE_SECONDS).body == data
    assert held.at_once_max <= AWAITED + AT_MOST
