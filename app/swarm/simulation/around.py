"""What a simulated node sees of its cluster."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from app.swarm.simulation.events import Events
from app.swarm.simulation.network import SimulatedContent, Upstream
from peerd_gossip import Member

if TYPE_CHECKING:
    from app.swarm.simulation.node import Node


class Around(Protocol):
    """What a node sees of its cluster."""

    events: Events
    upstream: Upstream

    def node(self, name: str) -> "Node":
        """The node of that name, in its present life."""

    def member(self, name: str) -> Member:
        """The member of that name."""

    def hash_of(self, content: str, chunk: int) -> int:
        """`home.chunk_hash`."""

    def holders(self, key: str) -> Iterable[str]:
        """Members that advertise a key, as far as word of it has come."""

    def advertise(self, node: "Node", key: str) -> None:
        """Tell the others, which takes a while."""

    def asked(self) -> None:
        """A request is made; to be counted."""

    def hedged(self) -> None:
        """Another member is asked beside one that is slow; to be counted."""

    def carried(self, server: Member | None, asker: Member) -> None:
        """A chunk was sent by a member, or by upstream; to be counted."""

    def landed(self, content: str, chunk: int) -> None:
        """Some node has a chunk whole; to be measured."""

    def pulled(self, node: "Node", content: SimulatedContent) -> None:
        """A client has all that it wanted."""
