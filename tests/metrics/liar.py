"""A member whose filter says that it holds what it does not: real gossip, and a peer door behind which there is nothing."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from peerd_gossip import Gossip, GossipConfig, Member, StaticMembership, key_hash
from tests.support.nodes import Node
from tests.support.origin import Origin

GOSSIP_ADDRESS = "127.0.0.99:0"


@contextmanager
def running_liar(seed: Node, texts: Iterable[str]) -> Iterator[None]:
    """One that joins at a node within this block, and advertises these, as `app.content.advertised` writes them."""
    keys = [key_hash(text) for text in texts]
    ended: asyncio.Event
    loop: asyncio.AbstractEventLoop
    joined = threading.Event()

    async def lie(peer_address: str) -> None:
        nonlocal ended, loop
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        config = GossipConfig(Member("liar", time.time_ns() // 1_000_000, peer_address, GOSSIP_ADDRESS), GOSSIP_ADDRESS)
        async with Gossip.running(config, StaticMembership([f"{seed.host}:{seed.gossip_port}"])) as gossip:
            gossip.advertise(keys)
            joined.set()
            await ended.wait()

    with Origin.running() as nothing:  # It answers 404 to whatever nobody told it of.
        thread = threading.Thread(target=lambda: asyncio.run(lie(nothing.netloc)), name="liar")
        thread.start()
        try:
            assert joined.wait(10), "the liar's gossip did not start"
            seed.program.wait_until(
                lambda: seed.members().get("liar", {}).get("keys") == len(keys), "told what the liar says to hold"
            )
            yield
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join()
