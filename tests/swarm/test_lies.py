"""What a member sent and nobody could believe is held against it."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from app.content.key import ContentKey
from app.content.location import FileAtUrl
from app.content.source import Content, Offer, Stat, Want
from app.observability.metrics import Metrics
from app.swarm.knowledge import Knowledge
from app.swarm.leases import Leases
from app.swarm.peer_client import PeerClient
from app.swarm.peers import PeerOffer, Peers
from app.swarm.ranking import Conduct
from app.swarm.swarm import Swarm
from peerd_gossip import Member, MemberState
from tests.swarm.members import Clock, members

CHUNK_SIZE = 1 << 20
CONTENT = Content(ContentKey("url:test"), None, CHUNK_SIZE, Stat(CHUNK_SIZE, None), FileAtUrl("http://upstream.test/x"))


class Gossip:
    """Everybody is alive, and all but this node hold everything."""

    def __init__(self, everybody: list[Member]) -> None:
        self.me, *self._others = everybody

    def members(self) -> list[tuple[Member, MemberState]]:
        return [(one, MemberState.ALIVE) for one in (self.me, *self._others)]

    def holders(self, _key: int) -> list[Member]:
        return self._others

    def member(self, name: str) -> Member | None:
        return next((one for one in (self.me, *self._others) if one.name == name), None)


class Upstream:
    def offers(self, _content: Content, _chunk: int) -> Iterator[Offer]:
        return iter(())


def test_whose_chunk_was_not_believed_is_asked_for_nothing_for_a_while() -> None:
    conduct = Conduct(Clock(), random.Random(1))
    with ThreadPoolExecutor(1) as executor:
        metrics = Metrics("node-0")
        client = PeerClient("node-0", None)
        peers = Peers(
            Gossip(members(4)), client, conduct, Knowledge(random.Random(1)), executor=executor, metrics=metrics
        )
        swarm = Swarm(peers, [], Upstream(), Leases(), chunk_size=CHUNK_SIZE, rng=random.Random(1), metrics=metrics)
        offers = swarm.offers(CONTENT, 0, Want(awaited=True))
        first = next(offers)
        assert isinstance(first, PeerOffer)
        first.arrived = (
            True  # As after a fetch that brought all of the chunk; that it is asked on says that it was not right.
        )
        second = next(offers)
        assert conduct.failing() == {first.name}
        assert second.name != first.name
