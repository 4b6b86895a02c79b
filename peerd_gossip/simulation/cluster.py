"""A simulated cluster: replicas, a network between them, and a membership engine that is a little late.

A heap of things to happen, and a clock that jumps from one to the next. The faults are those that the field knows: messages
lost, late, twice and out of order; members that are slow, die and come back in another life; the network cut in two.
What really happened is counted, so that a test can tell that its faults were no fiction.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from peerd_gossip.index import Index
from peerd_gossip.limits import Limits
from peerd_gossip.member import MemberId, member_id
from peerd_gossip.messages import Answer, Message, Rumours, encode_frame
from peerd_gossip.replication import Replica
from peerd_gossip.simulation.shared_store import SharedStore, ToldStore, Truth

FAILURE_NOTICED_S = (5.0, 9.0)  # Serf on its LAN profile reports a killed member after about 7 s
JOIN_NOTICED_S = (0.1, 1.5)
CONNECTION_BYTES_PER_FRAME = 14  # gRPC's and HTTP/2's frame headers


@dataclass(slots=True)
class NetworkConditions:
    """What the network does to messages. Delays in seconds."""

    loss: float = 0.05
    twice: float = 0.01
    delay_min: float = 0.0005
    delay_max: float = 0.005
    late: float = 0.01
    """This share of messages takes up to `late_max`: they overtake none and are overtaken by many."""
    late_max: float = 0.5
    slow_delay: float = 1.0
    """Added to what slow members send and receive."""


class _Due(NamedTuple):
    at: float
    order: int
    happen: Callable[[], None]


@dataclass(slots=True)
class SimulatedNode:
    """One member: its replica, what it believes of membership, and what it has sent."""

    name: str
    life: int
    replica: Replica
    view: set[MemberId]
    index: Index | None
    side: int = 0
    slow: bool = False
    bytes_sent: int = 0
    wakes_at: float = field(default=float("inf"))


class Cluster:
    """Members n0 to n<members - 1>, who know each other and hold `keys` keys each, settled."""

    def __init__(
        self,
        members: int,
        *,
        seed: int,
        keys: int,
        conditions: NetworkConditions | None = None,
        indexes: int = 10,
        limits: Limits | None = None,
    ) -> None:
        """`indexes` of them have a real store and index."""
        self.now = 0.0
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311  a simulation
        self.conditions = conditions or NetworkConditions()
        self.nodes: dict[MemberId, SimulatedNode] = {}
        self.happened: Counter[str] = Counter()
        self.truth = Truth()
        self._limits = limits or Limits()
        self._due: list[_Due] = []
        self._order = 0
        self._sizes: dict[int, tuple[Message, int]] = {}
        self._indexes = indexes
        self._settle(members, keys)

    # What tests do to it

    def run(self, seconds: float, *, until: Callable[[], bool] | None = None, check_every: float = 0.05) -> bool:
        """Let time pass; ends sooner, with True, when `until` holds, which is looked at every `check_every` seconds."""
        end = self.now + seconds
        check = self.now
        while True:
            if until is not None and self.now >= check:
                if until():
                    return True
                check = self.now + check_every
            if not self._due or self._due[0].at > end:
                self.now = end
                return until is not None and until()
            due = heapq.heappop(self._due)
            if until is not None and due.at > check:
                heapq.heappush(self._due, due)
                self.now = check
                continue
            self.now = due.at
            due.happen()

    def advertise(self, node: SimulatedNode, keys: Iterable[int]) -> None:
        """A member comes to hold keys."""
        node.replica.advertise(keys)
        self._pump(node)

    def withdraw(self, node: SimulatedNode, keys: Iterable[int]) -> None:
        """A member loses keys."""
        node.replica.withdraw(keys)
        self._pump(node)

    def kill(self, nodes: Iterable[SimulatedNode]) -> None:
        """Members die without a word; others notice when their engine does."""
        gone = list(nodes)
        for node in gone:
            del self.nodes[node.replica.me]
            self.happened["killed"] += 1
        ids = {node.replica.me for node in gone}
        for other in self.nodes.values():
            self._later(self._between(FAILURE_NOTICED_S), self._view_changer(other, set(), ids))

    def leave(self, node: SimulatedNode) -> None:
        """A member says farewell and stops; the engine's own news of it comes late."""
        node.replica.leave()
        self._pump(node)
        del self.nodes[node.replica.me]
        self.happened["left"] += 1
        for other in self.nodes.values():
            self._later(self._between(FAILURE_NOTICED_S), self._view_changer(other, set(), {node.replica.me}))

    def restart(self, nodes: Iterable[SimulatedNode], keys: Iterable[Iterable[int]]) -> list[SimulatedNode]:
        """Members that died come back empty-handed, each in a new life, and advertise these keys."""
        back = []
        before = set(self.nodes)
        for old, held in zip(nodes, keys, strict=True):
            node = self._node(old.name, old.life + 1, index=old.index is not None)
            self.nodes[node.replica.me] = node
            node.replica.advertise(held)
            back.append(node)
            self.happened["restarted"] += 1
        ids = {node.replica.me for node in back}
        former = {member_id(node.name, node.life - 1) for node in back}
        for node in back:
            self._later(self._between(JOIN_NOTICED_S), self._view_changer(node, before | ids, set()))
        for member in before:
            self._later(self._between(JOIN_NOTICED_S), self._view_changer(self.nodes[member], ids, former))
        return back

    def cut(self) -> None:
        """The network falls into two halves."""
        for node in self.nodes.values():
            node.side = self.rng.randrange(2)
        sides = [{m for m, node in self.nodes.items() if node.side == side} for side in (0, 1)]
        for node in self.nodes.values():
            self._later(self._between(FAILURE_NOTICED_S), self._view_changer(node, set(), sides[1 - node.side]))

    def heal(self) -> None:
        """The network is one again."""
        everybody = set(self.nodes)
        for node in self.nodes.values():
            node.side = 0
            self._later(self._between(JOIN_NOTICED_S), self._view_changer(node, everybody, set()))

    # What tests ask of it

    def identical(self) -> bool:
        """Whether all members have the same filters, and all of them."""
        nodes = iter(self.nodes.values())
        first = next(nodes).replica.versions()
        return len(first) == len(self.nodes) and all(
            node.replica.versions().sums() == first.sums() and node.replica.versions() == first for node in nodes
        )

    def denied(self, sample: int) -> int:
        """Of `sample` keys of each member, how many are denied by a member that has a real index."""
        wrong = 0
        held = {
            member: self.rng.sample(sorted(node.replica.keys), min(sample, len(node.replica.keys)))
            for member, node in self.nodes.items()
        }
        for node in self.nodes.values():
            if node.index is not None:
                for member, keys in held.items():
                    if member != node.replica.me:
                        wrong += sum(member not in node.index.holders(key) for key in keys)
        return wrong

    @property
    def bytes_sent(self) -> int:
        """By all who are alive."""
        return sum(node.bytes_sent for node in self.nodes.values())

    # How it goes

    def _settle(self, members: int, keys: int) -> None:
        for number in range(members):
            node = self._node(f"n{number}", 1, index=number < self._indexes)
            self.nodes[node.replica.me] = node
        everybody = set(self.nodes)
        for node in self.nodes.values():
            node.view = set(everybody)
            node.replica.members_changed(everybody, now=self.now)
            node.replica.advertise(self.rng.getrandbits(64) for _ in range(keys))
            node.replica.messages_to_send(now=self.now)  # publishes; nobody is told, as they are given it below
        images = []
        for member, node in self.nodes.items():
            stamp = node.replica.versions().get(member)
            if stamp is not None:
                images.append(self.truth.image(stamp))
        for node in self.nodes.values():
            others = tuple(image for image in images if image.stamp.member != node.replica.me)
            node.replica.receive(Answer(filters=others), others[0].stamp.member, now=self.now)
            node.replica.events()
        for _ in range(4):  # the news of the start is old
            self.now += 1.0
            for node in self.nodes.values():
                node.replica.messages_to_send(now=self.now)
        for node in self.nodes.values():
            self._pump(node)

    def _node(self, name: str, life: int, *, index: bool) -> SimulatedNode:
        me = member_id(name, life)
        real = Index() if index else None
        store = SharedStore(me, self.truth) if real is None else ToldStore(me, real, self.truth)
        replica = Replica(
            me,
            store=store,
            now=self.now,
            rng=random.Random(self.rng.getrandbits(64)),  # noqa: S311  a simulation
            limits=self._limits,
        )
        return SimulatedNode(name, life, replica, set(), real)

    def _between(self, bounds: tuple[float, float]) -> float:
        return self.rng.uniform(*bounds)

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, _Due(self.now + seconds, self._order, happen))

    def _view_changer(self, node: SimulatedNode, come: set[MemberId], gone: set[MemberId]) -> Callable[[], None]:
        def change() -> None:
            if self.nodes.get(node.replica.me) is not node:
                return
            # An engine that reports a failure has looked just now: members that came back meanwhile are not failed.
            lost = {m for m in gone if m not in self.nodes or self.nodes[m].side != node.side}
            node.view = (node.view | {m for m in come if m in self.nodes and self.nodes[m].side == node.side}) - lost
            node.replica.members_changed(node.view, now=self.now)
            self._pump(node)

        return change

    def _pump(self, node: SimulatedNode) -> None:
        """What a node's driver does: send, and wake again in time."""
        for target, message in node.replica.messages_to_send(now=self.now):
            self._send(node, target, message)
        node.replica.events()
        wakes_at = max(node.replica.next_deadline(), self.now)
        if wakes_at < node.wakes_at:
            node.wakes_at = wakes_at
            self._later(wakes_at - self.now, lambda: self._wake(node, wakes_at))

    def _wake(self, node: SimulatedNode, wakes_at: float) -> None:
        if node.wakes_at != wakes_at or self.nodes.get(node.replica.me) is not node:
            return  # it was woken earlier, and has another alarm set; or it is gone
        node.wakes_at = float("inf")
        self._pump(node)

    def _send(self, node: SimulatedNode, target: MemberId, message: Message) -> None:
        node.bytes_sent += self._size(message)
        other = self.nodes.get(target)
        if other is None:
            return
        if other.side != node.side:
            self.happened["cut off"] += 1
            return
        if self.rng.random() < self.conditions.loss:
            self.happened["lost"] += 1
            return
        sender = node.replica.me
        copies = 1
        if self.rng.random() < self.conditions.twice:
            self.happened["twice"] += 1
            copies = 2
        for _ in range(copies):
            self._later(self._delay(node, other), lambda: self._deliver(target, message, sender))

    def _delay(self, node: SimulatedNode, other: SimulatedNode) -> float:
        conditions = self.conditions
        delay = self.rng.uniform(conditions.delay_min, conditions.delay_max)
        if self.rng.random() < conditions.late:
            self.happened["late"] += 1
            delay += self.rng.uniform(0, conditions.late_max)
        if node.slow or other.slow:
            self.happened["slow"] += 1
            delay += conditions.slow_delay
        return delay

    def _deliver(self, target: MemberId, message: Message, sender: MemberId) -> None:
        node = self.nodes.get(target)
        if node is None:
            return
        node.replica.receive(message, sender, now=self.now)
        self._pump(node)

    def _size(self, message: Message) -> int:
        """Bytes on the wire. One message goes to several members, and filters are large: each is encoded once."""
        known = self._sizes.get(id(message))
        if known is not None and known[0] is message:
            return known[1]
        size = len(encode_frame(message)) + CONNECTION_BYTES_PER_FRAME
        if isinstance(message, Rumours):
            if len(self._sizes) > 1000:
                self._sizes.clear()
            self._sizes[id(message)] = (message, size)
        return size
