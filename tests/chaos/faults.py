"""What goes wrong, and when: drawn by chance from a seed, in lanes; in each, one fault comes after the other."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.containerd.network import Host
from tests.support.program import Program

SECONDS_MAX = 2.0
"""Of one fault."""

PAUSE_SECONDS_MAX = 1.0
SLACK_SECONDS = 2.0
"""So long after upstream is back its failures may still be seen: an answer that was on its way comes late."""

Fault = Callable[[Program, float], None]
"""Makes a program fail for some seconds, and good again."""


@dataclass
class Lane:
    """Faults that come one after the other, each to one of some programs; each kind once before any comes again."""

    kinds: Mapping[str, Fault]
    programs: Sequence[Program]
    rng: random.Random
    deck: list[str] = field(default_factory=list)

    def next(self) -> tuple[str, Program, float, float]:
        """What kind is done to which program, for how many seconds, and how many pass until the next."""
        if not self.deck:
            self.deck = self.rng.sample(sorted(self.kinds), len(self.kinds))
        pause = self.rng.uniform(0.0, PAUSE_SECONDS_MAX)
        return self.deck.pop(), self.rng.choice(self.programs), self.rng.uniform(0.2, SECONDS_MAX), pause


class Faults:
    """Those of one run: two nodes at most and one server of upstream fail at the same time.

    Attributes:
        happened: how often each kind did.
        upstream_away: when upstream was, by the monotonic clock: begin and end; an end that is to come is infinite.
    """

    def __init__(self, nodes: Sequence[Program], servers: Sequence[Program], upstream: Host, seed: int) -> None:
        self.upstream_away: list[tuple[float, float]] = []
        self._upstream = upstream
        of_nodes = {"node stopped": stop, "node killed": kill, "node frozen": freeze}
        of_upstream = {"upstream killed": kill, "upstream frozen": freeze, "upstream unplugged": self._unplug}
        self.happened = Counter(dict.fromkeys([*of_nodes, *of_upstream], 0))
        self._lanes = [
            Lane(of_nodes, nodes[0::2], random.Random(f"{seed} nodes")),
            Lane(of_nodes, nodes[1::2], random.Random(f"{seed} other nodes")),
            Lane({kind: self._noted(fault) for kind, fault in of_upstream.items()}, servers, random.Random(seed)),
        ]

    def was_upstream_away(self, since: float) -> bool:
        """Whether it was at any time from `since` until now."""
        return any(end >= since for _, end in self.upstream_away)

    @contextmanager
    def happening(self) -> Iterator[None]:
        """Again and again within this block; after it all runs."""
        over = threading.Event()
        with ThreadPoolExecutor(len(self._lanes)) as threads:
            lanes = [threads.submit(self._go_on, lane, over) for lane in self._lanes]
            try:
                yield
            finally:
                over.set()
        for lane in lanes:
            lane.result()

    def _go_on(self, lane: Lane, over: threading.Event) -> None:
        while not over.is_set():
            kind, program, seconds, pause = lane.next()
            lane.kinds[kind](program, seconds)
            self.happened[kind] += 1
            over.wait(pause)

    def _noted(self, fault: Fault) -> Fault:
        """The same, remembered as a time at which upstream is away."""

        def noted(program: Program, seconds: float) -> None:
            began = time.monotonic()
            self.upstream_away.append((began, float("inf")))
            try:
                fault(program, seconds)
            finally:
                self.upstream_away[-1] = (began, time.monotonic() + SLACK_SECONDS)

        return noted

    def _unplug(self, _program: Program, seconds: float) -> None:
        with self._upstream.unplugged():
            time.sleep(seconds)


def stop(program: Program, seconds: float) -> None:
    """SIGTERM, and it comes back."""
    code = program.end(signal.SIGTERM)
    assert code == 0, f"{program.name} ended with {code}\n{program.tail()}"
    time.sleep(seconds)
    program.start_again()


def kill(program: Program, seconds: float) -> None:
    """SIGKILL, and it comes back."""
    program.end(signal.SIGKILL)
    time.sleep(seconds)
    program.start_again()


def freeze(program: Program, seconds: float) -> None:
    """It accepts connections and says nothing."""
    program.send(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        program.send(signal.SIGCONT)
