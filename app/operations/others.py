"""What operations need of the other members; `swarm` has the one that speaks to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.operations.documents import BringOrder, BringProgress, Forgotten, Load, PurgeOrder


@dataclass(frozen=True, slots=True)
class OtherNode:
    """Another live member."""

    name: str
    zone: str


class Others(Protocol):
    """The other live members. Everything but `live` asks over the network and raises SourceError when there is no answer."""

    def live(self) -> Sequence[OtherNode]:
        """Those that are alive now."""

    async def purge(self, name: str, order: PurgeOrder) -> Forgotten:
        """Have a member forget something; returns when it has."""

    async def bring(self, name: str, order: BringOrder) -> None:
        """Have a member begin to bring content onto itself; returns at once."""

    async def progress(self, name: str, identity: str) -> BringProgress:
        """How far an order is that the member was given."""

    async def load(self, name: str) -> Load:
        """What a member holds and has moved."""


class Alone:
    """There is nobody else."""

    def live(self) -> Sequence[OtherNode]:
        """Nobody."""
        return ()

    async def purge(self, name: str, order: PurgeOrder) -> Forgotten:  # noqa: ARG002
        """Nobody can be asked."""
        raise LookupError(name)

    async def bring(self, name: str, order: BringOrder) -> None:  # noqa: ARG002
        """Nobody can be asked."""
        raise LookupError(name)

    async def progress(self, name: str, identity: str) -> BringProgress:  # noqa: ARG002
        """Nobody can be asked."""
        raise LookupError(name)

    async def load(self, name: str) -> Load:
        """Nobody can be asked."""
        raise LookupError(name)
