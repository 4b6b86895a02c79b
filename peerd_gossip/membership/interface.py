"""What a membership engine promises, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from peerd_gossip.member import Member, MemberState
from peerd_gossip.messages import Roster

Report = Callable[[Member, MemberState], None]
"""To be called, on the event loop, with each thing that an engine finds out; what is known already does no harm."""


class Greeter(Protocol):
    """Asks another node over gRPC who it is and whom it knows."""

    async def greet(self, address: str, name: str | None, *, leaving: bool = False, timeout_s: float) -> Roster:
        """Greet the node at `address`; the first entry of the answer is the node itself.

        With TLS the node must have a certificate for `name`, or, without a name, for the address. Raises
        PeerUnavailable when it does not answer and MessageRefused when it answers nonsense.
        """


class Membership(Protocol):
    """An engine that knows who is alive."""

    def running(self, me: Member, greeter: Greeter, report: Report) -> AbstractAsyncContextManager[None]:
        """Find out who is alive for as long as the context lasts. Errors of a start that can not succeed are raised."""

    def heard_from(self, member: Member) -> None:
        """This member has spoken to us over gRPC; an engine that finds out for itself need not care."""

    def is_still_here(self, member: Member) -> None:
        """A live member has sent a message; an engine that asks whether it is alive may save itself the question."""

    async def leave(self) -> None:
        """Tell the others that this member goes for good; bounded in time, raises nothing that can be waited out."""

    def round_trip_estimate(self, name: str) -> float | None:
        """Seconds to the member and back, where the engine estimates them."""
