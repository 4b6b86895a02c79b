"""The answering side of a simulated node: what `app/swarm/door.py` is on a real one."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from app.swarm.admission import QUEUE_SECONDS_MAX, SENDING_AT_ONCE, Admission
from app.swarm.asking import Answer, Role
from app.swarm.door import TAKE_SECONDS
from app.swarm.leases import Leases, Leave, Taken
from app.swarm.simulation.choices import Choices
from app.swarm.simulation.events import Events
from app.swarm.simulation.flight import Holding, Request, Told
from app.swarm.simulation.network import CHUNK_SIZE_BYTES, LATENCY_SECONDS, SimulatedContent, Transfer, Uplink
from peerd_gossip import Member

UPLOADS_MAX = 16
"""The default of `--max-uploads`."""


class Door:
    """What one node answers others."""

    def __init__(
        self,
        member: Member,
        holdings: Mapping[str, Holding],
        events: Events,
        bytes_per_s: float,
        progress: Callable[[Holding], int],
        fetch: Callable[[SimulatedContent, int], None],
        choices: Choices,
    ) -> None:
        self._member = member
        self._holdings = holdings
        self._progress = progress
        self._fetch = fetch
        self._choices = choices
        self._events = events
        self._up = Uplink(events, bytes_per_s, at_once=SENDING_AT_ONCE, patience_seconds=TAKE_SECONDS)
        self._admission = Admission(
            uploads_max=UPLOADS_MAX if choices.busy else sys.maxsize,
            rate_max=None,
            clock=events.clock,
            queue_seconds_max=QUEUE_SECONDS_MAX if choices.busy else math.inf,
        )
        self._leases = Leases()
        self._requests: dict[Request, None] = {}

    def receive(self, request: Request) -> None:
        """A request has come."""
        if request.done:
            return
        self._requests[request] = None
        content, chunk = request.flight.holding.content, request.flight.chunk
        holding = self._holdings.get(content.name)
        bits = None if holding is None else holding.bits
        if holding is not None and holding.bits >> chunk & 1:
            self._give(request, holding)
        elif holding is not None and holding.pending >> chunk & 1:
            self._answer(request, Answer.COMING, bits=bits, received=self._progress(holding))
        elif request.role is Role.HOLDER:
            self._answer(request, Answer.LACKS, bits=bits)
        else:
            self._lease(request, bits)

    def lessee(self, content: str, chunk: int) -> str | None:
        """Whom this node gave leave to fetch a chunk."""
        return self._leases.lessee(content, chunk)

    def forget(self, request: Request) -> None:
        """The asker does not wait any more."""
        self._requests.pop(request, None)
        if request.transfer is not None and not request.transfer.given_up and request.transfer.left:
            self._up.give_up(request.transfer)
            self._admission.ended()

    def close(self, *, without_power: bool) -> None:
        """The node died; whoever waits is told so by its machine, or by nobody."""
        for request in tuple(self._requests):
            if request.transfer is not None:
                self._up.give_up(request.transfer)
            if not without_power:
                self._events.after(LATENCY_SECONDS, request.asker.hear, request, Answer.FAILED)

    def _lease(self, request: Request, bits: int | None) -> None:
        """This node is the chunk's home, and does not have it."""
        if not self._choices.leases:
            self._fetch(request.flight.holding.content, request.flight.chunk)
            self._answer(request, Answer.COMING, bits=bits)
            return
        name, chunk, asker = request.flight.holding.content.name, request.flight.chunk, request.asker.member
        same_zone = asker.zone == self._member.zone
        match self._leases.ask(name, chunk, asker.name, same_zone=same_zone, without=request.without):
            case Taken(lessee):
                self._answer(request, Answer.TAKEN, [lessee], bits)
            case Leave(ahead):
                self._answer(request, Answer.LEASE, [ahead] if ahead else [], bits)

    def _answer(
        self,
        request: Request,
        answer: Answer,
        alternates: Sequence[str] = (),
        bits: int | None = None,
        received: int = 0,
    ) -> None:
        told = self._told(bits)
        self._events.after(LATENCY_SECONDS, request.asker.hear, request, answer, alternates, told, received)

    def _told(self, bits: int | None) -> Told:
        uploads = self._admission.under_way if self._choices.loads else 0
        return (bits if self._choices.bit_fields else None), uploads

    def _give(self, request: Request, holding: Holding) -> None:
        name, chunk, asker = holding.content.name, request.flight.chunk, request.asker
        if not self._admission.admit(CHUNK_SIZE_BYTES):
            alternates = self._admission.alternates(name, chunk, asker.member.name)
            self._answer(request, Answer.BUSY, alternates, holding.bits)
            return
        told = self._told(holding.bits)
        request.transfer = Transfer(asker.down, partial(self._given, request, told), partial(self.forget, request))
        self._up.send(request.transfer)

    def _given(self, request: Request, told: Told) -> None:
        self._admission.ended()
        self._admission.gave(request.flight.holding.content.name, request.flight.chunk, request.asker.member.name)
        request.asker.arrive(request, told)
