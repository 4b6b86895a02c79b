"""How much a node of a cluster asks of upstream at the same time, for a client that reads a file from its beginning to its end."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node
from tests.support.origin import Origin, file
from tests.upstream.conversation import Asked, Wire

SIZE = 24 << 20
AWAITED, AT_FIRST, AT_MOST = 1, 2, 8
PATIENCE_SECONDS = 30

pytestmark = [pytest.mark.xdist_group("conversations")]


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """One of two; the other wants nothing."""
    return cluster(2)[0]


class Held:
    """A file whose chunks are sent when a test says so."""

    def __init__(self, data: bytes) -> None:
        self._send = file(data, ETag='"1"')
        self.may_go = threading.Event()
        self.waiting = self.at_once_max = 0

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        first, _, last = asked.headers.get("range", "").removeprefix("bytes=").partition("-")
        if asked.method != "GET" or not last or int(last) - int(first) < 1000:  # The first look at it.
            await self._send(asked, wire)
            return
        self.waiting += 1
        self.at_once_max = max(self.at_once_max, self.waiting)
        await asyncio.to_thread(self.may_go.wait, PATIENCE_SECONDS)
        await self._send(asked, wire)
        self.waiting -= 1


def test_it_begins_with_few_chunks_and_goes_on_with_more(node: Node, origin: Origin) -> None:
    data = made.content("window", SIZE)
    held = Held(data)
    url = origin.at("/disk.img", held)
    with ThreadPoolExecutor(1) as client:
        try:
            reply = client.submit(node.ask, f"/blobs/{url}")
            time.sleep(2)
            assert AT_FIRST <= held.waiting <= AWAITED + AT_FIRST
        finally:
            held.may_go.set()
        assert reply.result(PATIENCE_SECONDS).body == data
    assert AWAITED + AT_FIRST < held.at_once_max <= AWAITED + AT_MOST
