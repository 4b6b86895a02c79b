"""One node of the simulated cluster: the deciding code of a real one, with heap and lines in place of threads and sockets.

What it decides with is the shipped code: `Question`, `Knowledge`, `Conduct`, `Admission`, `Leases`, `home`. What stands here is what
`content/flight.py`, `content/prefetch.py`, `peers.py` and `door.py` do between two decisions.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from app.content.advertised import STRETCH_SIZE_BYTES
from app.content.prefetch import BUSY_SECONDS, CHUNKS_AT_ONCE
from app.swarm.admission import Admission
from app.swarm.asking import Answer, Ask, PutBack, Question, Role
from app.swarm.home import Rendezvous, Roster
from app.swarm.knowledge import Knowledge
from app.swarm.leases import Leases, Leave, Taken
from app.swarm.peer_client import CONNECT_SECONDS, STALL_SECONDS
from app.swarm.ranking import Conduct
from app.swarm.simulation.around import Around
from app.swarm.simulation.network import CHUNK_SIZE_BYTES, LATENCY_SECONDS, Line, SimulatedContent
from peerd_gossip import Member

UPLOADS_MAX = 16
CHUNKS_PER_STRETCH = STRETCH_SIZE_BYTES // CHUNK_SIZE_BYTES


@dataclass(slots=True)
class Holding:
    """One content on one node."""

    content: SimulatedContent
    bits: int = 0
    pending: int = 0


@dataclass(slots=True, eq=False)
class Flight:
    """One fetch for all who wait for a chunk."""

    holding: Holding
    chunk: int
    awaited: bool
    question: Question | None = None
    waiters: list[Callable[[bool], None]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Request:
    """One member asking another for a chunk."""

    asker: "Node"
    server: "Node"
    flight: Flight
    step: Ask
    sent_at: float
    without: frozenset[str]
    done: bool = False


class Node:
    """One life of one member."""

    def __init__(
        self,
        cluster: Around,
        member: Member,
        members: Rendezvous,
        *,
        bytes_per_s: float,
        rng: random.Random,
        holdings: dict[str, Holding] | None = None,
    ) -> None:
        self.member = member
        self.alive = True
        self.without_power = False
        self.up, self.down = Line(bytes_per_s), Line(bytes_per_s)
        self.holdings = {} if holdings is None else holdings
        self.knowledge = Knowledge(rng)
        self.conduct = Conduct(cluster.events.clock, rng)
        self.roster = Roster(member, members)
        self._cluster = cluster
        self._events = cluster.events
        self._rng = rng
        self._admission = Admission(uploads_max=UPLOADS_MAX, rate_max=None, clock=cluster.events.clock)
        self._leases = Leases()
        self._flights: dict[tuple[str, int], Flight] = {}
        self._asked_of_me: dict[Request, None] = {}
        self._slots = CHUNKS_AT_ONCE
        self._queue: deque[Holding] = deque()

    def __repr__(self) -> str:
        held = {name: holding.bits.bit_count() for name, holding in self.holdings.items()}
        return (
            f"<Node {self.member.name} {'alive' if self.alive else 'dead'} holds={held} flights={len(self._flights)}>"
        )

    # The client, who reads in order, and what is fetched behind its back

    def pull(self, content: SimulatedContent) -> None:
        """A client begins to read a content from its beginning to its end."""
        holding = self.holdings.setdefault(content.name, Holding(content))
        self._read(holding)
        for _ in range(CHUNKS_AT_ONCE):
            self._work(holding)

    def _read(self, holding: Holding, _landed: bool = True) -> None:
        if not self.alive:
            return
        lack = holding.content.every & ~holding.bits
        if not lack:
            self._cluster.pulled(self, holding.content)
            return
        first = (lack & -lack).bit_length() - 1
        self._join(holding, first, awaited=True).waiters.append(partial(self._read, holding))

    def _work(self, holding: Holding) -> None:
        if not self.alive:
            return
        if self._slots:
            self._slots -= 1
            self._take(holding)
        else:
            self._queue.append(holding)

    def _take(self, holding: Holding) -> None:
        wanted = holding.content.every & ~(holding.bits | holding.pending)
        if not wanted:
            self._release()
            return
        chunk = self.knowledge.choose(holding.content.name, wanted)
        flight = self._join(holding, chunk, awaited=False)
        flight.waiters.append(partial(self._worked, holding))

    def _worked(self, holding: Holding, landed: bool) -> None:
        self._release()
        if landed:
            self._work(holding)
        else:
            self._events.after(BUSY_SECONDS, self._work, holding)

    def _release(self) -> None:
        self._slots += 1
        if self._queue:
            self._work(self._queue.popleft())

    # Fetching

    def _join(self, holding: Holding, chunk: int, *, awaited: bool) -> Flight:
        name = holding.content.name
        flight = self._flights.get((name, chunk))
        if flight is not None:
            flight.awaited |= awaited
            return flight
        flight = Flight(holding, chunk, awaited)
        flight.question = Question(
            _Surroundings(self, self._cluster, name),
            chunk,
            self._cluster.hash_of(name, chunk),
            self._rng,
            awaited=lambda: flight.awaited,
        )
        self._flights[name, chunk] = flight
        holding.pending |= 1 << chunk
        # Not at once: who joins wants to be heard of what comes of it.
        self._events.after(0.0, self._go_on, flight)
        return flight

    def _go_on(self, flight: Flight) -> None:
        if not self.alive or flight.question is None:
            return
        step = flight.question.next()
        if isinstance(step, PutBack):
            self._end(flight, False)
        elif isinstance(step, Ask):
            self._events.after(step.delay, self._ask, flight, step)
        else:
            name = flight.holding.content.name
            arrival = self._cluster.upstream.send(name, flight.chunk, self.member.name, self.down)
            self._events.at(arrival, self._from_upstream, flight)

    def _from_upstream(self, flight: Flight) -> None:
        if self.alive:
            self._cluster.upstream.ended(flight.holding.content.name, flight.chunk, self.member.name)
            self._cluster.carried(None, self.member)
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        holding, content = flight.holding, flight.holding.content
        stretch = flight.chunk // CHUNKS_PER_STRETCH
        if not holding.bits >> stretch * CHUNKS_PER_STRETCH & ((1 << CHUNKS_PER_STRETCH) - 1):
            self._cluster.advertise(self, f"{content.name}#{stretch}")
        holding.bits |= 1 << flight.chunk
        if holding.bits == content.every:
            self._cluster.advertise(self, content.name)
        self._end(flight, True)

    def _end(self, flight: Flight, landed: bool) -> None:
        if not self.alive:
            return
        del self._flights[flight.holding.content.name, flight.chunk]
        flight.holding.pending &= ~(1 << flight.chunk)
        flight.question = None
        for waiter in flight.waiters:
            waiter(landed)

    # Asking other members

    def _ask(self, flight: Flight, step: Ask) -> None:
        if not self.alive:
            return
        self._cluster.asked()
        server = self._cluster.node(step.member)
        without = flight.question.without() if flight.question is not None else frozenset()
        request = Request(self, server, flight, step, self._events.now, without)
        self.conduct.begin(server.member)
        if server.alive:
            server._asked_of_me[request] = None
            self._events.after(LATENCY_SECONDS, server._receive, request)
        else:
            patience = CONNECT_SECONDS if server.without_power else 2 * LATENCY_SECONDS
            self._events.after(patience, self._hear, request, Answer.FAILED, (), None)

    def _hear(self, request: Request, answer: Answer, alternates: Iterable[str], bits: int | None) -> None:
        """The server answered, and not with the chunk; or failed."""
        if request.done:
            return
        self._is_over(request)
        member, flight = request.server.member, request.flight
        name = flight.holding.content.name
        if answer is Answer.FAILED:
            self.conduct.failed(member)
            self.knowledge.forget(name, member.name)
        else:
            self.conduct.served(member)
            if bits is not None:
                self.knowledge.learn(name, member.name, bits)
            elif answer is Answer.LACKS:
                self.conduct.denied(member, name)
        if flight.question is not None:
            flight.question.answered(member.name, answer, list(alternates))
        self._go_on(flight)

    def _is_over(self, request: Request) -> None:
        request.done = True
        request.server._asked_of_me.pop(request, None)
        self.conduct.end(request.server.member)

    def _arrive(self, request: Request, bits: int) -> None:
        """The chunk is here."""
        if request.done:
            return
        self._is_over(request)
        server, flight = request.server, request.flight
        self.conduct.served(server.member)
        if request.step.role is Role.HOLDER:
            self.conduct.sent(server.member, CHUNK_SIZE_BYTES, self._events.now - request.sent_at)
        self.knowledge.learn(flight.holding.content.name, server.member.name, bits)
        self._cluster.carried(server.member, self.member)
        if self.alive:
            self._land(flight)

    # Being asked

    def _receive(self, request: Request) -> None:
        if request.done:
            return
        content, chunk = request.flight.holding.content, request.flight.chunk
        holding = self.holdings.get(content.name)
        if holding is not None and holding.bits >> chunk & 1:
            self._give(request, holding)
        elif request.step.role is Role.HOLDER:
            coming = holding is not None and bool(holding.pending >> chunk & 1)
            bits = None if holding is None else holding.bits
            self._answer(request, Answer.COMING if coming else Answer.LACKS, bits=bits)
        else:
            self._lease(request, holding)

    def _lease(self, request: Request, holding: Holding | None) -> None:
        """This node is the chunk's home, and does not have it."""
        name, chunk, asker = request.flight.holding.content.name, request.flight.chunk, request.asker.member.name
        bits = None if holding is None else holding.bits
        if holding is not None and holding.pending >> chunk & 1:
            self._answer(request, Answer.COMING, bits=bits)
            return
        same_zone = request.asker.member.zone == self.member.zone
        match self._leases.ask(name, chunk, asker, same_zone=same_zone, without=request.without):
            case Taken(lessee):
                self._answer(request, Answer.TAKEN, [lessee], bits)
            case Leave(ahead):
                self._answer(request, Answer.LEASE, [ahead] if ahead else [], bits)

    def lessee(self, content: str, chunk: int) -> str | None:
        """Whom this node gave leave to fetch a chunk."""
        return self._leases.lessee(content, chunk)

    def _answer(
        self, request: Request, answer: Answer, alternates: Iterable[str] = (), bits: int | None = None
    ) -> None:
        self._events.after(LATENCY_SECONDS, request.asker._hear, request, answer, alternates, bits)

    def _give(self, request: Request, holding: Holding) -> None:
        name, chunk, asker = holding.content.name, request.flight.chunk, request.asker
        if not self._admission.admit(CHUNK_SIZE_BYTES):
            alternates = self._admission.alternates(name, chunk, asker.member.name)
            self._answer(request, Answer.BUSY, alternates, holding.bits)
            return
        begun = max(self._events.now, self.up.free_at)
        through = max(self.up.carry(self._events.now), asker.down.carry(begun))
        self._events.at(through, self._given, name, chunk, asker.member.name)
        self._events.at(through + LATENCY_SECONDS, asker._arrive, request, holding.bits)

    def _given(self, name: str, chunk: int, asker: str) -> None:
        self._admission.ended()
        self._admission.gave(name, chunk, asker)

    # Death

    def die(self, *, without_power: bool) -> None:
        """Killed, so that whoever asks is refused at once; or without power, so that they hear nothing."""
        self.alive = False
        self.without_power = without_power
        for name, chunk in self._flights:
            self._cluster.upstream.ended(name, chunk, self.member.name)
        for request in self._asked_of_me:
            self._events.after(STALL_SECONDS if without_power else LATENCY_SECONDS, request.asker._lost, request)
        for holding in self.holdings.values():
            holding.pending = 0

    def _lost(self, request: Request) -> None:
        self._hear(request, Answer.FAILED, (), None)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """See `Surroundings`; what `swarm.py` is on a real node."""

    node: Node
    cluster: Around
    content: str

    def roster(self) -> Roster:
        return self.node.roster

    def failing(self) -> frozenset[str]:
        return self.node.conduct.failing()

    def known_holders(self, chunk: int) -> Iterable[str]:
        return self.node.knowledge.holders(self.content, chunk)

    def whole_holders(self, chunk: int) -> Iterator[str]:
        return self._holders(chunk, self.content)

    def near_holders(self, chunk: int) -> Iterator[str]:
        return self._holders(chunk, f"{self.content}#{chunk // CHUNKS_PER_STRETCH}")

    def lessee(self, chunk: int) -> str | None:
        return self.node.lessee(self.content, chunk)

    def in_order(self, members: Iterable[str], *, across: bool) -> list[str]:
        found = map(self.cluster.member, members)
        order = self.node.conduct.order(found, self.content, zone=self.node.member.zone, across=across)
        return [member.name for member in order]

    def _holders(self, chunk: int, key: str) -> Iterator[str]:
        me, knowledge = self.node.member.name, self.node.knowledge
        for name in self.cluster.holders(key):
            if name != me and knowledge.has(self.content, name, chunk) is not False:
                yield name
