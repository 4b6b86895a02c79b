"""Asking for one chunk: whom next, given what the last ones answered. Pure, and the same in a simulated cluster.

In the order of what it costs the cluster:

1. Members that are known, by their bit fields, to have the chunk; then those that hold the content whole.
2. The chunk's home, which fetches it from upstream once for everybody. Who is the home itself asks members that hold something
   of this stretch, and then upstream.
3. Upstream, when every home that was tried failed: a pull never fails because of us.

A busy member does not queue: it names *alternates*, members that it lately gave the chunk to. A few of them are followed. What
nobody waits for is put back after that, and another chunk is taken; for what a client waits for the round begins again after a
moment. An answer *coming* means that the home is fetching.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from app.swarm.home import Roster, next_home

ALTERNATES_DEPTH_MAX = 3
"""How many alternates are followed from one busy member on."""

STRETCH_HOLDERS_MAX = 3
HOLDERS_MAX = 3
HOMES_MAX = 3
"""How many homes may fail before this node goes upstream by itself."""

ROUND_SECONDS = 0.05
"""The moment after which a round begins again for a chunk that a client waits for; doubled up to ROUND_SECONDS_MAX."""

ROUND_SECONDS_MAX = 0.4
ROUNDS_MAX = 40
"""After so many rounds without a chunk this node goes upstream by itself (about 15 s; a home that fetches says so)."""

HOPS = 2
"""How far a request to fetch may travel: to the zone's home, and from there to the home of all."""


class Role(Enum):
    """As what a member is asked."""

    HOLDER = "holder"
    HOME = "home"


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this member, after `delay` seconds."""

    member: str
    role: Role
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class AskUpstream:
    """Ask upstream: this node is the home, or has leave to, or nobody else could help."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """Take another chunk: nobody waits for this one, and whoever has it is busy."""


Step = Ask | AskUpstream | PutBack


class Answer(Enum):
    """What a member that was asked answered, other than the chunk."""

    BUSY = "busy"
    COMING = "coming"
    LACKS = "lacks"
    FAILED = "failed"
    LEASE = "lease"


class Surroundings(Protocol):
    """What a question looks at. All of it memory."""

    def roster(self) -> Roster:
        """Live members."""

    def known_holders(self, chunk: int) -> Sequence[str]:
        """Members that said that they have the chunk."""

    def whole_holders(self, chunk: int) -> Sequence[str]:
        """Members that may hold the content whole, by their filters, and did not say otherwise."""

    def stretch_holders(self, chunk: int) -> Sequence[str]:
        """Members that may hold something near the chunk, by their filters, and did not say otherwise."""

    def in_order(self, members: Sequence[str]) -> list[str]:
        """Those worth asking now, best first: conduct, zone, load, chance."""


@dataclass(slots=True)
class Question:
    """One chunk being asked for. `next` says what to do, `answered` what came of it.

    `awaited` tells whether a client waits; it may become true meanwhile. `hops` is how far a request to fetch may still travel;
    with none left this node answers for itself.
    """

    surroundings: Surroundings
    chunk: int
    chunk_hash: int
    rng: random.Random
    awaited: Callable[[], bool]
    hops: int = HOPS
    _leave: bool = False
    _failed: set[str] = field(default_factory=set)
    _rounds: int = 0
    # Of this round:
    _asked: set[str] = field(default_factory=set)
    _alternates: list[str] = field(default_factory=list)
    _followed: int = 0
    _worth_another_round: bool = False
    _pause: float = 0.0

    def next(self) -> Step:
        """What to do now. After AskUpstream there is nothing more to ask."""
        while not self._leave:
            step = self._next_alternate() or self._next_holder() or self._next_home()
            if step is not None:
                return step
            if not self._worth_another_round or self._rounds >= ROUNDS_MAX:
                break
            if not self.awaited():
                return PutBack()
            self._begin_round()
        return AskUpstream()

    def answered(self, member: str, answer: Answer, alternates: Sequence[str] = ()) -> None:
        """A member did not give the chunk."""
        match answer:
            case Answer.LEASE:
                self._leave = True
            case Answer.BUSY:
                self._worth_another_round = True
                self._alternates = list(alternates)
            case Answer.COMING:
                self._worth_another_round = True
            case Answer.LACKS | Answer.FAILED:
                self._failed.add(member)

    def failed(self, member: str) -> None:
        """The member is gone by now."""
        self._failed.add(member)

    def _begin_round(self) -> None:
        self._pause = min(ROUND_SECONDS * 2**self._rounds, ROUND_SECONDS_MAX)
        self._rounds += 1
        self._asked.clear()
        self._alternates = []
        self._followed = 0
        self._worth_another_round = False

    def _ask(self, member: str, role: Role) -> Ask:
        self._asked.add(member)
        pause, self._pause = self._pause, 0.0
        return Ask(member, role, pause)

    def _next_alternate(self) -> Ask | None:
        while self._alternates and self._followed < ALTERNATES_DEPTH_MAX:
            choice = self._alternates.pop(self.rng.randrange(len(self._alternates)))
            if self._may_ask(choice):
                self._followed += 1
                return self._ask(choice, Role.HOLDER)
        return None

    def _next_holder(self) -> Ask | None:
        if len(self._asked) >= HOLDERS_MAX + self._followed:
            return None
        for find in (self.surroundings.known_holders, self.surroundings.whole_holders):
            for member in self.surroundings.in_order([name for name in find(self.chunk) if self._may_ask(name)]):
                return self._ask(member, Role.HOLDER)
        return None

    def _next_home(self) -> Ask | None:
        home = None
        if self.hops > 0 and len(self._failed) < HOMES_MAX:
            home = next_home(self.surroundings.roster(), self.chunk_hash, without=self._failed)
        if home is not None:
            return None if home.name in self._asked else self._ask(home.name, Role.HOME)
        if len(self._asked) < HOLDERS_MAX + self._followed + STRETCH_HOLDERS_MAX:
            near = [name for name in self.surroundings.stretch_holders(self.chunk) if self._may_ask(name)]
            for member in self.surroundings.in_order(near):
                return self._ask(member, Role.HOLDER)
        return None

    def _may_ask(self, member: str) -> bool:
        return member not in self._asked and member not in self._failed
