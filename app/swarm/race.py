"""One chunk asked of one member, and of a second beside it where the first keeps this node waiting.

Owns: the race. The first member's bytes pass into the flight's sink as they come. Those of the second are kept in memory until it has
sent all, and are right; then the rest is taken from them, at the byte where the first one is, and the first is left. When the first
one is done before, the second is left. Upstream is never asked beside a member. Whether a member is slow is `hedging`'s to say.
"""

import asyncio
import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.source import Abandoned, Sink
from app.errors import SourceError, SourceLied, SourceUnavailable, anew, without_frames
from app.swarm.hedging import HEDGES_MAX, LOOK_SECONDS, Verdict, Watch
from peerd_gossip import Member


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """One chunk, of a member that may have it; or of its home, for leave: then `lease_without` says who failed."""

    member: Member
    key: ContentKey
    content: str
    chunk: ByteRange
    lease_without: frozenset[str] | None = None


class Lane:
    """The way of one request's bytes into a sink. Closed when the request is given up: nothing passes any more."""

    def __init__(self, sink: Sink) -> None:
        self.began = 0.0
        self.received = 0
        self.written = 0
        self.checksum: bytes | None = None
        self._sink = sink
        self._closed = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A thread has taken the request on."""
        self.began = time.perf_counter()

    def expect_checksum(self, sha256: bytes) -> None:
        """See `Sink`."""
        with self._lock:
            if self._closed:
                raise Abandoned
            self.checksum = sha256
            self._sink.expect_checksum(sha256)

    def came(self, count: int) -> None:
        """So many bytes more have come, and will be written. Raises Abandoned."""
        if self._closed:
            raise Abandoned
        self.received += count

    def write(self, data: bytes | memoryview) -> None:
        """See `Sink`."""
        with self._lock:
            if self._closed:
                raise Abandoned
            self._sink.write(data)
            self.written += len(data)

    def close(self) -> None:
        """Whoever still sends is not heard any more."""
        with self._lock:
            self._closed = True


class Aside:
    """A sink in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.checksum: bytes | None = None

    def expect_checksum(self, sha256: bytes) -> None:
        """See `Sink`."""
        self.checksum = sha256

    def is_right(self) -> bool:
        """Whether the whole chunk is here, and hashes to what it must."""
        return hashlib.sha256(self.data).digest() == self.checksum

    def write(self, data: bytes | memoryview) -> None:
        """See `Sink`."""
        self.data += data


class Asking(Protocol):
    """What is needed of `Peers`."""

    async def ask(self, request: ChunkRequest, span: ByteRange, lane: Lane) -> None:
        """Have one member send a chunk. Raises SourceError."""

    def usual_seconds(self, size: int) -> float | None:
        """How long members usually take for so many bytes."""

    def lags(self, request: ChunkRequest, size: int, seconds: float) -> None:
        """The member is slow."""

    def stalled(self, request: ChunkRequest) -> None:
        """The member sends nothing."""

    def lied(self, request: ChunkRequest) -> None:
        """What the member sent is not what it said."""

    def hedged(self) -> None:
        """Another one is asked beside it."""


class Offering(Protocol):
    """What is needed of `PeerOffer`."""

    @property
    def request(self) -> ChunkRequest:
        """The first member, and what it is asked for."""

    def beside(self) -> ChunkRequest | None:
        """The same of another member that has it, if there is one."""


@dataclass(slots=True, eq=False)
class _Runner:
    """One request of the race."""

    request: ChunkRequest
    lane: Lane
    aside: Aside | None = None
    watch: Watch | None = None
    task: "asyncio.Task[SourceError | None] | None" = None

    def look(self, usual: float | None) -> Verdict:
        """How it is. Time before a thread took it on does not count."""
        now = time.perf_counter()
        if not self.lane.began:
            return Verdict.GOING
        if self.watch is None:
            self.watch = Watch(usual, self.lane.began)
        return self.watch.look(self.lane.received, now)


@dataclass(slots=True)
class Race:
    """See the module. `span`: the end of the chunk, or all of it, which is to come into `sink`."""

    peers: Asking
    offer: Offering
    span: ByteRange
    sink: Sink
    _problem: SourceError | None = None
    _hedges: int = 0
    _runners: list[_Runner] = field(default_factory=list)
    _ended_one: asyncio.Event = field(default_factory=asyncio.Event)
    _next_look: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Return when all of `span` is in the sink. Raises what the first member's request came to, where the second's did not help."""
        winner = None
        async with asyncio.TaskGroup() as tasks:
            try:
                first = self._start(tasks, _Runner(self.offer.request, Lane(self.sink)))
                self._look_again(tasks, first)
                while self._runners and winner is None:
                    await self._ended_one.wait()
                    self._ended_one.clear()
                    winner = self._winner(first)
            finally:
                if self._next_look is not None:
                    self._next_look.cancel()
                for runner in self._runners:
                    self._leave(runner)
        if winner is None:
            raise anew(self._problem or SourceUnavailable("nobody answered"))
        if winner is not first:
            await asyncio.to_thread(self._take_over, first, winner)

    def _start(self, tasks: asyncio.TaskGroup, runner: _Runner) -> _Runner:
        runner.task = tasks.create_task(self._ask(runner), name=f"ask {runner.request.member.name}")
        runner.task.add_done_callback(lambda _: self._ended_one.set())
        self._runners.append(runner)
        return runner

    def _look_again(self, tasks: asyncio.TaskGroup, first: _Runner) -> None:
        """A timer: a task that woke up for each look would cost as much as the request itself."""
        self._next_look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, tasks, first)

    def _look(self, tasks: asyncio.TaskGroup, first: _Runner) -> None:
        self._look_again(tasks, first)
        if self._judge(first) and len(self._runners) == 1 and self._hedges < HEDGES_MAX:
            request = self.offer.beside()
            if request is not None:
                self._hedges += 1
                self.peers.hedged()
                aside = Aside()
                self._start(tasks, _Runner(request, Lane(aside), aside))

    async def _ask(self, runner: _Runner) -> SourceError | None:
        """One request; returns what was wrong with it."""
        # A second one's bytes are judged by themselves, so the whole chunk is needed.
        span = self.span if runner.aside is None else runner.request.chunk
        try:
            await self.peers.ask(runner.request, span, runner.lane)
        except SourceError as error:
            without_frames(error)
            return error
        if runner.aside is not None and not await asyncio.to_thread(runner.aside.is_right):
            self.peers.lied(runner.request)
            return SourceLied("sent a chunk that does not hash to what it must")
        return None

    def _winner(self, first: _Runner) -> _Runner | None:
        """The one that has sent all; those that failed leave the race."""
        for runner in tuple(self._runners):
            if runner.task is not None and runner.task.done():
                error = runner.task.result()
                if error is None:
                    return runner
                self._runners.remove(runner)
                if runner is first:
                    self._problem = error
        return None

    def _judge(self, first: _Runner) -> bool:
        """Leave whoever has stalled. Returns whether the first one is still there, and slow."""
        is_slow = False
        for runner in tuple(self._runners):
            if runner.task is None or runner.task.done():
                continue
            request = runner.request
            match runner.look(self.peers.usual_seconds(len(request.chunk))):
                case Verdict.STALLED:
                    self.peers.stalled(request)
                    self._leave(runner)
                    self._runners.remove(runner)
                    self._ended_one.set()
                    if runner is first:
                        self._problem = SourceUnavailable("sends nothing")
                case Verdict.SLOW:
                    if runner.watch is not None:
                        self.peers.lags(request, runner.lane.received, runner.watch.waited)
                    is_slow |= runner is first
                case Verdict.GOING:
                    pass
        return is_slow

    @staticmethod
    def _leave(runner: _Runner) -> None:
        """Its thread writes nothing more, and ends with the next byte that comes, or with its socket's patience.

        A task that was cancelled remembers where, frames and all; one of them has the runner. What both hold, the sink's open file
        too, would stay until the garbage collector comes by.
        """
        runner.lane.close()
        if runner.task is not None:
            runner.task.cancel()
            runner.task = None

    def _take_over(self, first: _Runner, second: _Runner) -> None:
        """Put in, of the second one's bytes, what the first one has not sent."""
        if second.aside is None or second.aside.checksum is None:
            raise SourceUnavailable("nothing to take over")
        if first.lane.checksum is None:
            self.sink.expect_checksum(second.aside.checksum)
        elif first.lane.checksum != second.aside.checksum:
            raise SourceUnavailable(
                f"{first.request.member.name} and {second.request.member.name} do not have the same"
            )
        skip = self.span.start - second.request.chunk.start + first.lane.written
        self.sink.write(memoryview(second.aside.data)[skip:])
