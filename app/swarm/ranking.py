"""The order in which members are asked for a chunk, and what is remembered of their conduct. Pure.

Same zone first; of those, who is not known to be slow; then those that have least to do, by what they said a moment ago and by what
this node has asked of them since; what is equal is decided by chance, so that nodes spread over members. Who failed is not asked for
a while.
"""

import random
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from peerd_gossip import Member

FAILURE_SECONDS = 2.0
"""How long a member is not asked after it failed once; doubled with each failure in a row, up to FAILURE_SECONDS_MAX."""

FAILURE_SECONDS_MAX = 60.0
LIE_SECONDS = 60.0
DENIAL_SECONDS = 5.0
"""How long a member that did not have it after all is not asked for the same again."""

DENIALS_MAX = 10_000
CONSIDERED_MAX = 16
"""Of how many members the best is looked for; of more, as many are drawn: a thousand may hold what everybody wants."""

SLOW_SHARE = 0.4
"""A member that sends at less than this share of what others do is asked after them."""

SPEED_SECONDS = 30.0
"""How long a member's speed is believed."""

LOAD_SECONDS = 0.2
"""How long it takes until what a member said of its load counts for nothing."""

OWN_WEIGHT = 2
"""What a request of this node's own counts: the member did not know of it when it said what it has to do."""

LOADS_KEPT_MAX = 64
FAILED_KEPT_MAX = 256
SPEEDS_KEPT_MAX = 256


@dataclass(frozen=True, slots=True)
class _Failures:
    in_a_row: int
    asked_again_at: float


@dataclass(frozen=True, slots=True)
class _Speed:
    bytes_per_s: float
    believed_until: float


@dataclass(frozen=True, slots=True)
class _Load:
    uploads: int
    said_at: float


class Conduct:
    """What one node remembers of the members that it asked. Forgiven with time."""

    def __init__(self, clock: Callable[[], float], rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._under_way: dict[str, int] = {}
        self._failures: dict[str, _Failures] = {}
        self._denials: dict[tuple[str, Hashable], float] = {}
        self._speeds: dict[str, _Speed] = {}
        self._usual_speed = 0.0
        self._loads: dict[str, _Load] = {}
        self._usual_load = 0.0

    def order(self, members: Iterable[Member], what: Hashable, *, zone: str, across: bool = True) -> list[Member]:
        """The best of `members` to ask for `what`, best first; those of other zones come last, or not at all."""
        near: list[Member] = []
        far: list[Member] = []
        for member in members:
            (near if member.zone == zone else far).append(member)
        return self._best(near, what) + (self._best(far, what) if across else [])

    def failing(self) -> frozenset[str]:
        """Members that are not to be asked for anything now."""
        if not self._failures:
            return frozenset()
        now = self._clock()
        return frozenset(name for name, failures in self._failures.items() if failures.asked_again_at > now)

    def begin(self, member: Member) -> None:
        """A request to it is under way."""
        self._under_way[member.name] = self._under_way.get(member.name, 0) + 1

    def end(self, member: Member) -> None:
        """That request has ended."""
        if (left := self._under_way[member.name] - 1) > 0:
            self._under_way[member.name] = left
        else:
            del self._under_way[member.name]

    def served(self, member: Member) -> None:
        """It gave what it was asked for, or said honestly that it does not."""
        self._failures.pop(member.name, None)

    def has_to_do(self, member: Member, uploads: int) -> None:
        """It said how many chunks it is sending, or is about to."""
        self._usual_load += (uploads - self._usual_load) / 32
        self._loads.pop(member.name, None)
        self._loads[member.name] = _Load(uploads, self._clock())
        if len(self._loads) > LOADS_KEPT_MAX:
            del self._loads[next(iter(self._loads))]

    def sent(self, member: Member, size: int, seconds: float) -> None:
        """It sent `size` bytes in so many seconds."""
        now, speed = self._clock(), size / max(seconds, 1e-6)
        self._usual_speed += (speed - self._usual_speed) / (16 if self._usual_speed else 1)
        known = self._speeds.get(member.name)
        if known is not None and known.believed_until > now:
            speed = (speed + known.bytes_per_s) / 2
        self._remember_speed(member, speed)

    def usual_seconds(self, size: int) -> float | None:
        """How long members usually take for `size` bytes; None where nobody has sent any yet."""
        return size / self._usual_speed if self._usual_speed else None

    def lags(self, member: Member, size: int, seconds: float) -> None:
        """It has sent no more than `size` bytes in so many seconds, and is not done: others come first from now on."""
        self._remember_speed(member, size / max(seconds, 1e-6))

    def failed(self, member: Member) -> None:
        """It could not be reached, broke off, or stalled."""
        known = self._failures.get(member.name)
        times = known.in_a_row if known is not None else 0
        self._shun(member, times + 1, min(FAILURE_SECONDS * 2**times, FAILURE_SECONDS_MAX))

    def lied(self, member: Member) -> None:
        """It sent what can not be true."""
        known = self._failures.get(member.name)
        self._shun(member, known.in_a_row if known is not None else 0, LIE_SECONDS)

    def denied(self, member: Member, what: Hashable) -> None:
        """Its filter said so, but it does not have `what`."""
        if len(self._denials) >= DENIALS_MAX:
            now = self._clock()
            self._denials = {key: until for key, until in self._denials.items() if until > now}
            if len(self._denials) >= DENIALS_MAX:
                self._denials.clear()
        self._denials[member.name, what] = self._clock() + DENIAL_SECONDS

    def _shun(self, member: Member, in_a_row: int, seconds: float) -> None:
        self._failures.pop(member.name, None)
        self._failures[member.name] = _Failures(in_a_row, self._clock() + seconds)
        if len(self._failures) > FAILED_KEPT_MAX:
            del self._failures[next(iter(self._failures))]

    def _remember_speed(self, member: Member, bytes_per_s: float) -> None:
        self._speeds.pop(member.name, None)
        self._speeds[member.name] = _Speed(bytes_per_s, self._clock() + SPEED_SECONDS)
        if len(self._speeds) > SPEEDS_KEPT_MAX:
            del self._speeds[next(iter(self._speeds))]

    def _best(self, members: list[Member], what: Hashable) -> list[Member]:
        if len(members) > CONSIDERED_MAX:
            members = self._rng.sample(members, CONSIDERED_MAX)
        if self._failures or self._denials:
            now, failing = self._clock(), self.failing()
            members = [
                member
                for member in members
                if member.name not in failing and self._denials.get((member.name, what), 0.0) <= now
            ]
        if len(members) < 2:
            return members
        now = self._clock()
        return sorted(members, key=lambda member: self._cost(member.name, now))

    def _cost(self, name: str, now: float) -> tuple[bool, float, float]:
        """What was asked of it from here, and what it said itself, which counts less the older it is."""
        load = self._usual_load + OWN_WEIGHT * self._under_way.get(name, 0)
        if (said := self._loads.get(name)) is not None and (age := now - said.said_at) < LOAD_SECONDS:
            load += (said.uploads - self._usual_load) * (1 - age / LOAD_SECONDS)
        speed = self._speeds.get(name)
        is_slow = (
            speed is not None and speed.bytes_per_s < SLOW_SHARE * self._usual_speed and speed.believed_until > now
        )
        return is_slow, load, self._rng.random()
