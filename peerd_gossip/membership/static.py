"""Membership by a list, or by a DNS name: members are greeted again and again, and pass on whom they know.

Each member is asked directly once a second or so, less often when it speaks to us anyway, which makes n² greetings: meant
for a laptop, for tests, and for some dozens of nodes. One address of the list that answers is enough, as the answer names
everybody else; names in the list are resolved anew every ten seconds, so a headless service of Kubernetes is a list too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from peerd_gossip._tasks import OwnedTasks, owned_tasks
from peerd_gossip.errors import MessageRefused, PeerUnavailable
from peerd_gossip.member import Member, MemberState, join_address, split_address
from peerd_gossip.membership.interface import Greeter, Report

log = logging.getLogger(__name__)

SEEDS_AT_ONCE = 5  # of the addresses that nobody is known at, so many are greeted in each round, at random
GREETINGS_AT_ONCE = 32
CANDIDATES_MAX = 1000


@dataclass(frozen=True, slots=True)
class StaticTiming:
    """How often members are greeted, and when they are given up. All in seconds."""

    greet_s: float = 1.0
    """Between two rounds of greetings: shorter notices sooner and costs n² messages each time."""
    answer_s: float = 1.0
    failed_after_s: float = 5.0
    """A member that has not answered for so long is failed: a few rounds, so that one lost answer is no failure."""
    trusted_s: float = 2.5
    """Who has spoken to us since the last round is not greeted in this one, as long as its last answer is no older than that."""
    forget_after_s: float = 3600.0
    resolve_s: float = 10.0


@dataclass(slots=True)
class _Known:
    member: Member
    answered: float  # when it last did, or when it was first heard of
    heard: float = -math.inf  # when it last spoke to us
    alive: bool = False
    claim: Member | None = None  # a later life that others tell of: believed when it answers for itself


class StaticMembership:
    """Greets the nodes of a list and everybody they know."""

    def __init__(
        self,
        join: Sequence[str],
        *,
        timing: StaticTiming | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`join`: `host:port` of gossip doors; a host is an address or a DNS name. Empty: one waits to be joined."""
        self._join = [split_address(address) for address in join]
        self._timing = timing or StaticTiming()
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  no secret depends on it
        self._known: dict[str, _Known] = {}
        self._seeds: list[str] = []
        self._mine: set[str] = set()  # addresses at which this node itself was found
        self._resolved_at = -float("inf")
        self._wake = asyncio.Event()
        self._me: Member | None = None
        self._greeter: Greeter | None = None
        self._report: Report | None = None
        self._tasks: OwnedTasks | None = None

    @asynccontextmanager
    async def running(self, me: Member, greeter: Greeter, report: Report) -> AsyncIterator[None]:
        """See Membership."""
        self._me, self._greeter, self._report = me, greeter, report
        async with owned_tasks() as self._tasks:
            self._tasks.start(self._rounds(me, greeter, report), name="static membership")
            yield

    def heard_from(self, member: Member) -> None:
        """Somebody who is new, or in a new life, is greeted back at once; it is alive when it answers."""
        self.is_still_here(member)
        if self._consider(member):
            self._wake.set()

    def is_still_here(self, member: Member) -> None:
        """It need not be greeted in the next round."""
        known = self._known.get(member.name)
        if known is not None and known.member.life == member.life:
            known.heard = self._clock()

    async def leave(self) -> None:
        """Say goodbye to everybody who may think that this one is alive; waits for each a second at most."""
        if self._greeter is None or self._tasks is None:
            return
        greeter = self._greeter
        self._tasks.cancel()  # a greeting after the goodbye would be a return
        lately = self._clock() - self._timing.failed_after_s
        # Whoever was greeted knows of us, though the answer may still be on its way.
        told: dict[str, str | None] = {
            known.member.gossip_addr: known.member.name
            for known in self._known.values()
            if known.alive or known.answered > lately
        }
        told |= {address: None for address in self._seeds_to_greet() if address not in told}

        async def goodbye(address: str, name: str | None) -> None:
            try:
                await greeter.greet(address, name, leaving=True, timeout_s=self._timing.answer_s)
            except (PeerUnavailable, MessageRefused) as error:
                log.info("no goodbye to %s: %s", name or address, error)

        async with asyncio.TaskGroup() as tasks:
            for address, name in told.items():
                tasks.create_task(goodbye(address, name))

    def round_trip_estimate(self, name: str) -> float | None:
        """Nothing is measured."""
        del name
        return None

    async def _rounds(self, me: Member, greeter: Greeter, report: Report) -> None:
        at_once = asyncio.Semaphore(GREETINGS_AT_ONCE)
        while True:
            self._wake.clear()
            await self._resolve()
            async with asyncio.TaskGroup() as tasks:
                for known in [known for known in self._known.values() if self._is_to_be_greeted(known)]:
                    tasks.create_task(self._greet_member(known, at_once, greeter, report))
                for address in self._seeds_to_greet():
                    tasks.create_task(self._greet_seed(address, at_once, greeter, me))
            self._give_up(report)
            if self._wake.is_set():
                continue
            try:
                async with asyncio.timeout(self._timing.greet_s * self._rng.uniform(0.75, 1.25)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _is_to_be_greeted(self, known: _Known) -> bool:
        """Of two that greet each other one is enough, and of two that talk anyway none, nearly."""
        now = self._clock()
        spoke = now - known.heard < self._timing.greet_s
        return not (known.alive and known.claim is None and spoke and now - known.answered < self._timing.trusted_s)

    async def _resolve(self) -> None:
        if self._clock() - self._resolved_at < self._timing.resolve_s:
            return
        self._resolved_at = self._clock()
        loop = asyncio.get_running_loop()
        seeds: dict[str, None] = {}
        for host, port in self._join:
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                log.warning(
                    "%s can not be resolved (%s); it is tried again in %s s", host, error, self._timing.resolve_s
                )
                continue
            for *_, address in found:
                seeds[join_address(str(address[0]), port)] = None
        self._seeds = list(seeds)

    def _seeds_to_greet(self) -> list[str]:
        known = {known.member.gossip_addr for known in self._known.values() if known.alive}
        seeds = [seed for seed in self._seeds if seed not in known and seed not in self._mine]
        return self._rng.sample(seeds, min(SEEDS_AT_ONCE, len(seeds)))

    async def _greet_seed(self, address: str, at_once: asyncio.Semaphore, greeter: Greeter, me: Member) -> None:
        """Ask an address for members. Nobody is alive by this: under TLS it has not shown that it has its name."""
        try:
            async with at_once:
                roster = await greeter.greet(address, None, timeout_s=self._timing.answer_s)
        except (PeerUnavailable, MessageRefused) as error:
            log.debug("nobody at %s: %s", address, error)
            return
        if roster and (roster[0][0].name, roster[0][0].life) == (me.name, me.life):
            self._mine.add(address)
        self._hearsay(roster)

    async def _greet_member(self, known: _Known, at_once: asyncio.Semaphore, greeter: Greeter, report: Report) -> None:
        name = known.member.name
        for address in {member.gossip_addr: None for member in (known.claim, known.member) if member is not None}:
            try:
                async with at_once:
                    roster = await greeter.greet(address, name, timeout_s=self._timing.answer_s)
            except (PeerUnavailable, MessageRefused) as error:
                log.debug("%s at %s does not answer: %s", name, address, error)
                continue
            self._hearsay(roster[1:])
            if not roster or roster[0][0].name != name:
                continue  # the address has gone to another node
            answered, state = roster[0]
            if state is MemberState.ALIVE and answered.life >= known.member.life:
                known.member = answered
                known.answered = self._clock()
                known.alive = True
                if known.claim is not None and known.claim.life <= answered.life:
                    known.claim = None
                report(answered, MemberState.ALIVE)
                return

    def _hearsay(self, roster: Sequence[tuple[Member, MemberState]]) -> None:
        for member, state in roster:
            if state is MemberState.ALIVE and self._consider(member):
                self._wake.set()

    def _consider(self, member: Member) -> bool:
        """Greet this member in the next round; False when it is known, or there is no room."""
        if self._me is not None and member.name == self._me.name:
            return False
        known = self._known.get(member.name)
        if known is not None:
            if member.life <= (known.claim or known.member).life:
                return False
            known.claim = member
            return True
        if len(self._known) >= CANDIDATES_MAX:
            return False
        self._known[member.name] = _Known(member, self._clock())
        return True

    def _give_up(self, report: Report) -> None:
        now = self._clock()
        for name, known in list(self._known.items()):
            silent_s = now - known.answered
            if silent_s > self._timing.failed_after_s and known.alive:
                known.alive = False
                report(known.member, MemberState.FAILED)
            if silent_s > self._timing.forget_after_s:
                del self._known[name]
