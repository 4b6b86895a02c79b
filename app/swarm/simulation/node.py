"""One node of the simulated cluster: the deciding code of a real one, with heap and lines in place of threads and sockets.

What it decides with is the shipped code: `Question`, `Knowledge`, `Conduct`, `Watch`, `home`. What stands here is what
`content/flight.py`, `content/prefetch.py`, `swarm.py` and `peers.py` do between two decisions. `door` is the answering side.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from app.content.advertised import STRETCH_SIZE_BYTES
from app.content.prefetch import BUSY_SECONDS, CHUNKS_AT_ONCE
from app.content.slots import SlotQueue
from app.swarm.asking import Answer, Ask, PutBack, Question, Role
from app.swarm.hedging import HEDGES_MAX, LOOK_SECONDS, Verdict, Watch
from app.swarm.home import Rendezvous, Roster
from app.swarm.knowledge import Knowledge
from app.swarm.ranking import Conduct
from app.swarm.simulation.around import Around
from app.swarm.simulation.choices import Choices
from app.swarm.simulation.door import Door
from app.swarm.simulation.flight import Flight, Holding, Request, Told
from app.swarm.simulation.network import CHUNK_SIZE_BYTES, LATENCY_SECONDS, Downlink, SimulatedContent
from app.swarm.window import Window
from peerd_gossip import Member

CHUNKS_PER_STRETCH = STRETCH_SIZE_BYTES // CHUNK_SIZE_BYTES


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
        choices: Choices,
    ) -> None:
        self.member = member
        self.alive = True
        self.without_power = False
        self.down = Downlink(bytes_per_s)
        self.holdings = {} if holdings is None else holdings
        self.knowledge = Knowledge(rng)
        self.conduct = Conduct(cluster.events.clock, rng)
        self.roster = Roster(member, members)
        self.knows_change = 0
        self.door = Door(
            member, self.holdings, cluster.events, bytes_per_s, self._progress, self._fetch_for_others, choices
        )
        self._choices = choices
        self._cluster = cluster
        self._events = cluster.events
        self._rng = rng
        self._flights: dict[tuple[str, int], Flight] = {}
        self._is_looking = False
        self._slots = CHUNKS_AT_ONCE
        self._queue: SlotQueue[Holding] = SlotQueue()
        self._pulls = 0
        self._window = Window()
        self._for_upstream: list[Flight] = []

    def __repr__(self) -> str:
        held = {name: holding.bits.bit_count() for name, holding in self.holdings.items()}
        return (
            f"<Node {self.member.name} {'alive' if self.alive else 'dead'} holds={held} flights={len(self._flights)}>"
        )

    # The client, who reads in order, and what is fetched behind its back

    def pull(self, content: SimulatedContent) -> None:
        """A client begins to read a content from its beginning to its end."""
        holding = self.holdings.setdefault(content.name, Holding(content))
        self._pulls += 1
        holding.begun = self._pulls
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
            self._queue.put(holding.begun if self._choices.eldest else 0, holding)

    def _take(self, holding: Holding) -> None:
        wanted = holding.content.every & ~(holding.bits | holding.pending)
        if not wanted:
            self._release()
            return
        first = (wanted & -wanted).bit_length() - 1
        chunk = self.knowledge.choose(holding.content.name, wanted) if self._choices.by_chance else first
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
            self._work(self._queue.take())

    def _fetch_for_others(self, content: SimulatedContent, chunk: int) -> None:
        """As a home without leases: nobody here wants the chunk, and it is not put back."""
        self._join(self.holdings.setdefault(content.name, Holding(content)), chunk, awaited=True)

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
        elif flight.awaited or self._upstream_has_room(flight):
            self._ask_upstream(flight)
        else:
            self._for_upstream.append(flight)

    def _upstream_has_room(self, flight: Flight) -> bool:
        content = flight.holding.content
        others = self.knowledge.fetching(content.name, content.every)
        return not self._choices.window or (not self._for_upstream and self._window.has_room(others))

    def _ask_upstream(self, flight: Flight) -> None:
        self._window.begin(self._events.now)
        flight.from_upstream = self._cluster.upstream.send(
            flight.holding.content.name, flight.chunk, self.member.name, self.down, partial(self._from_upstream, flight)
        )

    def _from_upstream(self, flight: Flight) -> None:
        if not self.alive:
            return
        self._cluster.upstream.ended(flight.holding.content.name, flight.chunk, self.member.name)
        self._cluster.carried(None, self.member)
        self._window.end(self._events.now, came=True)
        waiting, self._for_upstream = sorted(self._for_upstream, key=lambda one: not one.awaited), []
        for one in waiting:
            if one.awaited or self._upstream_has_room(one):
                self._ask_upstream(one)
            else:
                self._for_upstream.append(one)
        self._land(flight)

    def _land(self, flight: Flight) -> None:
        holding, content = flight.holding, flight.holding.content
        stretch = flight.chunk // CHUNKS_PER_STRETCH
        if not holding.bits >> stretch * CHUNKS_PER_STRETCH & ((1 << CHUNKS_PER_STRETCH) - 1):
            self._cluster.advertise(self, f"{content.name}#{stretch}")
        holding.bits |= 1 << flight.chunk
        self._cluster.landed(content.name, flight.chunk)
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

    def _progress(self, holding: Holding) -> int:
        """A number of bytes that grows as long as anything of a content comes in."""
        under_way = sum(flight.received for flight in self._flights.values() if flight.holding is holding)
        return holding.bits.bit_count() * CHUNK_SIZE_BYTES + under_way

    # Asking other members

    def _ask(self, flight: Flight, step: Ask) -> None:
        if self.alive and flight.question is not None:
            without = flight.question.without() if step.role is Role.HOME else frozenset()
            flight.main = self._request(flight, step.member, step.role, without)

    def _request(self, flight: Flight, member: str, role: Role, without: frozenset[str] = frozenset()) -> Request:
        self._cluster.asked()
        server = self._cluster.node(member)
        watch = Watch(self.conduct.usual_seconds(CHUNK_SIZE_BYTES), self._events.now)
        request = Request(self, server, flight, role, self._events.now, without, watch)
        flight.requests.append(request)
        self.conduct.begin(server.member)
        self._events.after(LATENCY_SECONDS, server.reached, request)
        if not self._is_looking:
            self._is_looking = True
            self._events.after(LOOK_SECONDS, self._look)
        return request

    def _look(self) -> None:
        """See `race.Race`, which does the same for each request by itself; here it is one event for all that are under way."""
        self._is_looking = self.alive and bool(self._flights)
        if self._is_looking:
            for flight in tuple(self._flights.values()):
                for request in tuple(flight.requests):
                    if not request.done:
                        self._judge(request)
            self._events.after(LOOK_SECONDS, self._look)

    def _judge(self, request: Request) -> None:
        flight = request.flight
        match request.watch.look(request.received, self._events.now):
            case Verdict.STALLED:
                self.hear(request, Answer.FAILED)
            case Verdict.SLOW:
                self.conduct.lags(request.server.member, request.received, request.watch.waited)
                if request is flight.main and len(flight.requests) == 1:
                    self._hedge(flight)
            case Verdict.GOING:
                pass

    def _hedge(self, flight: Flight) -> None:
        if flight.question is None or flight.hedges >= HEDGES_MAX or not self._choices.hedging:
            return
        other = flight.question.hedge()
        if other is not None:
            flight.hedges += 1
            self._cluster.hedged()
            self._request(flight, other, Role.HOLDER)

    def hear(
        self,
        request: Request,
        answer: Answer,
        alternates: Sequence[str] = (),
        told: Told | None = None,
        received: int = 0,
    ) -> None:
        """The server answered, and not with the chunk; or failed."""
        if request.done:
            return
        self._is_over(request)
        member, flight = request.server.member, request.flight
        name = flight.holding.content.name
        if told is None:
            self.conduct.failed(member)
            self.knowledge.forget(name, member.name)
        else:
            bits, uploads = told
            self.conduct.served(member)
            self.conduct.has_to_do(member, uploads)
            if bits is not None:
                self.knowledge.learn(name, member.name, bits)
            elif answer is Answer.LACKS:
                self.conduct.denied(member, name)
        if request is flight.main:
            flight.outcome = member.name, answer, alternates, received
        elif flight.main is not None and not flight.main.done:
            self._judge(flight.main)
        if not flight.requests and flight.outcome is not None and flight.question is not None:
            outcome, flight.outcome = flight.outcome, None
            flight.question.answered(*outcome)
            flight.hedges = 0
            self._go_on(flight)

    def _is_over(self, request: Request) -> None:
        request.done = True
        request.flight.requests.remove(request)
        request.server.door.forget(request)
        self.conduct.end(request.server.member)

    def arrive(self, request: Request, told: Told) -> None:
        """The chunk is here."""
        if request.done or not self.alive:
            return
        self._is_over(request)
        server, flight = request.server, request.flight
        self.conduct.served(server.member)
        if request.role is Role.HOLDER:
            self.conduct.sent(server.member, CHUNK_SIZE_BYTES, self._events.now - request.sent_at)
        bits, uploads = told
        self.conduct.has_to_do(server.member, uploads)
        self.knowledge.learn(flight.holding.content.name, server.member.name, bits or 0)
        self._cluster.carried(server.member, self.member)
        for slower in tuple(flight.requests):
            self._is_over(slower)
        self._land(flight)

    def reached(self, request: Request) -> None:
        """A request of another member has come."""
        if self.alive:
            self.door.receive(request)
        elif not self.without_power:  # Its machine says that nobody listens.
            self._events.after(LATENCY_SECONDS, request.asker.hear, request, Answer.FAILED)

    # Death

    def die(self, *, without_power: bool) -> None:
        """Killed, so that whoever asks is refused at once; or without power, so that they hear nothing."""
        self.alive = False
        self.without_power = without_power
        self.down.dead = True
        for name, chunk in self._flights:
            self._cluster.upstream.ended(name, chunk, self.member.name)
        self.door.close(without_power=without_power)
        for holding in self.holdings.values():
            holding.pending = 0


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
        return self.node.door.lessee(self.content, chunk)

    def in_order(self, members: Iterable[str], *, across: bool) -> list[str]:
        found = map(self.cluster.member, members)
        order = self.node.conduct.order(found, self.content, zone=self.node.member.zone, across=across)
        return [member.name for member in order]

    def _holders(self, chunk: int, key: str) -> Iterator[str]:
        me, knowledge = self.node.member.name, self.node.knowledge
        for name in self.cluster.holders(key):
            if name != me and knowledge.has(self.content, name, chunk) is not False:
                yield name
