"""Asking for one chunk: whom next, given what the last ones answered. Pure, and the same in a simulated cluster.

In the order of what it costs the cluster:

1. Members of this zone that are known, by their bit fields, to have the chunk; then those that hold the content whole.
2. The home of this zone. A home does not fetch for others: it gives the first who asks *leave* to go one step further, and
   sends everybody else to that one, its *lessee*.
3. Who has leave of its zone's home crosses the border: members of other zones that have the chunk, then the home of all.
4. Who has leave of the home of all asks members that may hold it nevertheless: the chunk's home before this member came, and
   members that hold something near it. Then upstream.
5. Upstream also when every home that was tried failed: a pull never fails because of us.

A busy member does not queue: it names *alternates*, members that it lately gave the chunk to. A few of them are followed. What
nobody waits for is put back after that, and another chunk is taken; for what a client waits for, and for what this node has leave
to fetch, so that others wait for it, the round begins again after a moment. An answer *coming* means that the member is fetching.

A lessee that fails, or does not have the chunk after all, is told to the home, which gives leave to the next.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from app.swarm.home import Roster, homes

ALTERNATES_DEPTH_MAX = 3
"""How many alternates are followed from one busy member on."""

HOLDERS_NEAR_MAX = 3
"""How many members of this zone that have the chunk are asked before its home is."""

HOLDERS_FAR_MAX = 2
"""How many across the border, by who may cross it."""

HOLDERS_LAST_MAX = 4
"""How many that may hold it nevertheless are asked before upstream is."""

HOMES_MAX = 3
"""How many homes may fail before this node goes upstream by itself."""

ROUND_SECONDS = 0.02
"""The moment after which a round begins again for a chunk that a client waits for; doubled up to one of the next two."""

BUSY_ROUND_SECONDS_MAX = 0.08
"""Where somebody has the chunk: places are free again within the time of a few chunks."""

COMING_ROUND_SECONDS_MAX = 0.4
"""Where nobody has it yet: a thousand may be asking the one that fetches it."""

PATIENCE_SECONDS = 15.0
"""After so long without a chunk, and without word that it gets on, this node goes upstream by itself."""

COMING_PATIENCE_SECONDS = 3.0
"""Whoever says for so long that the chunk is coming, and does not get on, is taken for failed: the next gets leave."""

COMING_SECONDS = 0.3
"""How long a member keeps an asker waiting before it says that the chunk is coming: less than what is taken for a stall."""


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
    """Ask upstream: this node has leave to, or nobody else could help."""


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
    """A home: go one step further yourself; the others are sent to you. With an alternate: that one has leave in another zone."""

    TAKEN = "taken"
    """A home: the alternate has leave."""


class Surroundings(Protocol):
    """What a question looks at. All of it memory."""

    def roster(self) -> Roster:
        """This node and the other live members."""

    def failing(self) -> frozenset[str]:
        """Members that failed lately, whatever they were asked for: no homes for now."""

    def known_holders(self, chunk: int) -> Iterable[str]:
        """Members that said that they have the chunk."""

    def whole_holders(self, chunk: int) -> Iterable[str]:
        """Members that may hold the content whole, by their filters, and did not say otherwise."""

    def near_holders(self, chunk: int) -> Iterable[str]:
        """Members that may hold something near the chunk, by their filters, and did not say otherwise."""

    def lessee(self, chunk: int) -> str | None:
        """Whom this node, as the chunk's home, gave leave to fetch it; None: nobody else, or nobody who is alive."""

    def in_order(self, members: Iterable[str], *, across: bool) -> list[str]:
        """Those worth asking now, best first: zone, conduct, load, chance. Members of other zones only `across` borders."""


class _Stage(Enum):
    """In which part of a round a holder is asked; each has its own limit."""

    NEAR = "near"
    FAR = "far"
    LAST = "last"

    @property
    def asked_max(self) -> int:
        """How many are asked."""
        match self:
            case _Stage.NEAR:
                return HOLDERS_NEAR_MAX
            case _Stage.FAR:
                return HOLDERS_FAR_MAX
            case _Stage.LAST:
                return HOLDERS_LAST_MAX


@dataclass(frozen=True, slots=True)
class _Turn:
    """A member that is to be heard first, as what, and whether this node may cross the border meanwhile."""

    member: str
    role: Role
    across: bool


@dataclass(slots=True)
class Question:
    """One chunk being asked for. `next` says what to do, `answered` what came of it.

    `awaited` tells whether a client waits; it may become true meanwhile. Where upstream may not be asked, homes
    are not either.
    """

    surroundings: Surroundings
    chunk: int
    chunk_hash: int
    rng: random.Random
    awaited: Callable[[], bool]
    upstream_allowed: bool = True
    _leave_of: set[str] = field(default_factory=set)
    _lessees: dict[str, str] = field(default_factory=dict)
    _ahead: str | None = None
    _failed: frozenset[str] = frozenset()
    _homes_failed: int = 0
    _hedged: set[str] = field(default_factory=set)
    _rounds: int = 0
    _paused: float = 0.0
    _got_on_at: float = 0.0
    _most_received: int = 0
    # Of this round:
    _asked: dict[str, Role] = field(default_factory=dict)
    _stages: list[_Stage] = field(default_factory=list)
    _alternates: list[str] = field(default_factory=list)
    _followed: int = 0
    _is_held: bool = False
    _is_coming: bool = False
    _pause: float = 0.0

    def next(self) -> Step:
        """What to do now. After AskUpstream there is nothing more to ask."""
        while True:
            step = self._next_member()
            if step is not None:
                return step
            # Whoever says that it comes may itself be waiting for this node, where it is this node's turn.
            own_turn = self.upstream_allowed and self._turn() is None
            waited = self._paused - self._got_on_at
            if not (self._is_held or (self._is_coming and not own_turn)) or waited >= PATIENCE_SECONDS:
                return AskUpstream()
            if not self.awaited() and not self._leave_of:
                return PutBack()
            self._begin_round()

    def hedge(self) -> str | None:
        """Another member that has the chunk, to be asked beside one that is slow; it does not end the question. Never upstream."""
        turn = self._turn()
        across = turn is None or turn.across
        for find in (self.surroundings.known_holders, self.surroundings.whole_holders):
            others = (member for member in find(self.chunk) if member not in self._hedged and self._may_ask(member))
            for member in self.surroundings.in_order(others, across=across):
                self._hedged.add(member)
                return member
        return None

    def answered(self, member: str, answer: Answer, alternates: Sequence[str] = (), received: int = 0) -> None:
        """A member did not give the chunk. With COMING, `received` grows as long as the member gets on."""
        match answer:
            case Answer.LEASE:
                self._leave_of.add(member)
                self._ahead = next(iter(alternates), None)
            case Answer.TAKEN:
                self._is_coming = True
                self._lessees[member] = next(iter(alternates), "")
                del self._asked[member]  # It is asked again as soon as its lessee fails.
            case Answer.BUSY:
                self._is_held = True
                self._alternates = list(alternates)
            case Answer.COMING:
                self._is_coming = True
                if received > self._most_received:
                    self._most_received, self._got_on_at = received, self._paused
                elif self._paused - self._got_on_at >= COMING_PATIENCE_SECONDS:
                    self.failed(member)
            case Answer.LACKS if self._asked.get(member) is Role.HOLDER and not self._is_lessee(member):
                pass  # It may have it by the next round.
            case Answer.LACKS | Answer.FAILED:
                self.failed(member)

    def without(self) -> frozenset[str]:
        """Members that failed, for a home that may have given one of them leave."""
        return self._failed | self.surroundings.failing()

    def failed(self, member: str) -> None:
        """The member is gone, or as a home can not get the chunk."""
        if member not in self._failed:
            self._failed |= {member}
            self._homes_failed += self._asked.get(member) is Role.HOME

    def _begin_round(self) -> None:
        pause_max = BUSY_ROUND_SECONDS_MAX if self._is_held else COMING_ROUND_SECONDS_MAX
        self._pause = min(ROUND_SECONDS * 2 ** min(self._rounds, 10), pause_max)
        self._paused += self._pause
        self._rounds += 1
        self._asked.clear()
        self._stages.clear()
        self._alternates = []
        self._followed = 0
        self._is_held = self._is_coming = False

    def _next_member(self) -> Ask | None:
        around = self.surroundings
        turn = self._turn()
        home = turn.member if turn is not None and turn.role is Role.HOME else None
        across = turn is None or turn.across
        if (step := self._next_alternate(home, across=across)) is not None:
            return step
        for stage in (_Stage.NEAR, _Stage.FAR) if across else (_Stage.NEAR,):
            for find in (around.known_holders, around.whole_holders):
                if (step := self._next_holder(find, stage, home)) is not None:
                    return step
        if turn is not None:
            return None if turn.member in self._asked else self._ask(turn.member, turn.role)
        return self._next_holder(self._former_homes, _Stage.LAST) or self._next_holder(around.near_holders, _Stage.LAST)

    def _turn(self) -> "_Turn | None":
        """Who is to be heard before upstream may be asked; None: it is this node's turn.

        The home of the zone, then the home of all, as long as they have not given leave; where they gave somebody else
        leave it is that one, as long as it does not fail. So where this node is such a home itself.
        """
        if not self.upstream_allowed or self._homes_failed >= HOMES_MAX:
            return None
        around = self.surroundings
        me, gone = around.roster().me, self._failed | around.failing()
        for home in homes(around.roster(), self.chunk_hash, without=gone):
            across = home.zone != me.zone
            if home.name == me.name:
                lessee = around.lessee(self.chunk)
            elif home.name in self._leave_of:
                continue
            else:
                lessee = self._lessees.get(home.name)
            if lessee is not None and lessee not in gone:
                return _Turn(lessee, Role.HOLDER, across)
            if home.name != me.name:
                return _Turn(home.name, Role.HOME, across)
        if self._ahead is not None and self._ahead not in gone:
            return _Turn(self._ahead, Role.HOLDER, across=True)
        return None

    def _is_lessee(self, member: str) -> bool:
        return member == self._ahead or member in self._lessees.values()

    def _former_homes(self, _chunk: int) -> Iterable[str]:
        """Whose turn it was before this node came: it may have fetched the chunk, and filters lag behind."""
        roster = self.surroundings.roster()
        order = roster.members.order(self.chunk_hash, zone=None)
        return [member.name for member in order if member != roster.me][:1]

    def _next_alternate(self, home: str | None, *, across: bool) -> Ask | None:
        if not self._alternates or self._followed >= ALTERNATES_DEPTH_MAX:
            return None
        for member in self.surroundings.in_order(filter(self._may_ask, self._alternates), across=across):
            self._followed += 1
            return self._ask_holder(member, home)
        return None

    def _next_holder(self, find: Callable[[int], Iterable[str]], stage: _Stage, home: str | None = None) -> Ask | None:
        if self._stages.count(stage) >= stage.asked_max:
            return None
        members = filter(self._may_ask, find(self.chunk))
        for member in self.surroundings.in_order(members, across=stage is not _Stage.NEAR):
            self._stages.append(stage)
            return self._ask_holder(member, home)
        return None

    def _ask_holder(self, member: str, home: str | None) -> Ask:
        """The home is asked as such even where it is known to have the chunk: it may have lost it."""
        return self._ask(member, Role.HOME if member == home else Role.HOLDER)

    def _ask(self, member: str, role: Role) -> Ask:
        self._asked[member] = role
        pause, self._pause = self._pause, 0.0
        return Ask(member, role, pause)

    def _may_ask(self, member: str) -> bool:
        return member not in self._asked and member not in self._failed
