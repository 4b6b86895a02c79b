"""A cluster on virtual time: nodes, who believes that whom is alive, and what is measured."""

import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.swarm.home import Rendezvous, Roster, chunk_hash
from app.swarm.simulation.choices import Choices
from app.swarm.simulation.events import Events
from app.swarm.simulation.network import (
    CHUNK_SIZE_BYTES,
    NODE_BYTES_PER_S,
    UPSTREAM_BYTES_PER_S,
    SimulatedContent,
    Upstream,
)
from app.swarm.simulation.node import Node
from peerd_gossip import Member

FAILURE_NOTICED_SECONDS = 7.0
"""After how long Serf's LAN profile reports a member that died (measured)."""

GOSSIP_SECONDS = (0.2, 1.0)
"""How long word of a member or of a key takes to the others: at least, at most."""

AS_SHIPPED = Choices()
SLOW_SHARE_OF_LINE = 0.2
SECONDS_MAX = 300.0
"""A run that takes longer, in its own time, hangs."""


@dataclass(frozen=True, slots=True)
class Pull:
    """One content that a client had whole; the time is since it began to read the first one."""

    node: str
    content: str
    seconds: float
    line_seconds: float
    healthy: bool

    @property
    def of_line(self) -> float:
        """Its time as a multiple of its line's."""
        return self.seconds / self.line_seconds


class Cluster:
    """See `Around`. Everything is drawn from `seed`."""

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        zones: int = 1,
        slow: int = 0,
        upstream_bytes_per_s: float = UPSTREAM_BYTES_PER_S,
        choices: Choices = AS_SHIPPED,
    ) -> None:
        self._choices = choices
        self._zones = zones
        self.events = Events()
        self.upstream = Upstream(self.events, upstream_bytes_per_s)
        self.rng = random.Random(seed)
        self.pulls: list[Pull] = []
        self.requests = self.hedges = 0
        self.chunks_in_vain = 0
        self.copies_into: Counter[str] = Counter()
        self.landings: defaultdict[tuple[str, int], array[float]] = defaultdict(lambda: array("d"))
        self.died: set[str] = set()
        self.members = [
            Member(
                f"node-{index}",
                1,
                f"10.0.0.1:{index}",
                f"10.0.0.2:{index}",
                self._zone(index) if choices.zones else "",
            )
            for index in range(count)
        ]
        self._slow = {member.name for member in self.rng.sample(self.members, slow)}
        self._joined: dict[str, Member] = {}
        self._nodes: dict[str, Node] = {}
        self._hashes: dict[tuple[str, int], int] = {}
        self._holders: defaultdict[str, list[str]] = defaultdict(list)
        self._begun: dict[tuple[str, str], float] = {}
        self._next: dict[str, Iterator[SimulatedContent]] = {}
        self._readers: set[str] = set()
        self._pulls_to_come = 0
        self._changes = 0

    # What nodes see of it

    def node(self, name: str) -> Node:
        """See `Around`."""
        return self._nodes[name]

    def member(self, name: str) -> Member:
        """See `Around`."""
        return self._nodes[name].member

    def hash_of(self, content: str, chunk: int) -> int:
        """See `Around`."""
        known = self._hashes.get((content, chunk))
        if known is None:
            known = self._hashes[content, chunk] = chunk_hash(content, chunk)
        return known

    def holders(self, key: str) -> Iterable[str]:
        """See `Around`."""
        return self._holders[key]

    def advertise(self, node: Node, key: str) -> None:
        """See `Around`."""
        self.events.after(self.rng.uniform(*GOSSIP_SECONDS), self._heard, node, key)

    def asked(self) -> None:
        """See `Around`."""
        self.requests += 1

    def hedged(self) -> None:
        """See `Around`."""
        self.hedges += 1

    def carried(self, server: Member | None, asker: Member) -> None:
        """See `Around`."""
        self.chunks_in_vain += asker.name not in self._readers
        into = self._zone(_index(asker))
        if server is None or self._zone(_index(server)) != into:
            self.copies_into[into] += 1

    def landed(self, content: str, chunk: int) -> None:
        """See `Around`."""
        self.landings[content, chunk].append(self.events.now)

    def pulled(self, node: Node, content: SimulatedContent) -> None:
        """See `Around`."""
        begun = self._begun.pop((node.member.name, content.name), None)
        if begun is not None:
            line_seconds = content.chunks * CHUNK_SIZE_BYTES / node.down.bytes_per_s
            healthy = node.member.name not in self._slow | self.died
            self.pulls.append(Pull(node.member.name, content.name, self.events.now - begun, line_seconds, healthy))
        if (following := next(self._next[node.member.name], None)) is not None:
            node.pull(following)

    def _zone(self, index: int) -> str:
        """Where a member is, whether nodes know it or not."""
        return f"zone-{index % self._zones}" if self._zones > 1 else ""

    def _heard(self, node: Node, key: str) -> None:
        if node.alive:
            self._holders[key].append(node.member.name)

    # What happens to it

    def settle(self, members: Sequence[Member]) -> None:
        """These are there, and all of them know."""
        self._joined |= {member.name: member for member in members}
        everybody = Rendezvous(self._joined.values())
        for member in members:
            self._start(member, everybody)
        for node in self._nodes.values():
            node.roster = Roster(node.member, everybody)

    def join(self, member: Member) -> None:
        """It comes, knows everybody, and is known to them little by little."""
        self._joined[member.name] = member
        self._start(member, Rendezvous(self._joined.values()))
        self._spread()

    def pull_at(self, when: float, member: Member, contents: Sequence[SimulatedContent], at_once: int) -> None:
        """A client on that node begins to read then, so many contents at once."""
        self._pulls_to_come += 1
        self._readers.add(member.name)
        self.events.at(when, self._pull, member, contents, at_once)

    def kill_at(self, when: float, member: Member, *, without_power: bool, back_after: float | None = None) -> None:
        """It dies then, and comes back with what it held, or does not."""
        self.died.add(member.name)
        self.events.at(when, self._kill, member.name, without_power, back_after)

    def run(self) -> None:
        """Until every client that lives has all that it wanted. Raises RuntimeError where that takes too long."""
        self.events.run(lambda: not self._begun and not self._pulls_to_come, until=self.events.now + SECONDS_MAX)
        if self._begun:
            raise RuntimeError(
                f"{len(self._begun)} pulls did not end by {self.events.now:.0f} s: {list(self._begun)[:5]}"
            )

    def _start(self, member: Member, members: Rendezvous) -> None:
        before = self._nodes.get(member.name)
        share = SLOW_SHARE_OF_LINE if member.name in self._slow else 1.0
        self._nodes[member.name] = Node(
            self,
            member,
            members,
            bytes_per_s=NODE_BYTES_PER_S * share,
            rng=random.Random(self.rng.getrandbits(64)),
            holdings=None if before is None else before.holdings,
            choices=self._choices,
        )

    def _spread(self) -> None:
        """The others hear who is there now."""
        everybody = Rendezvous(self._joined.values())
        self._changes += 1
        for node in self._nodes.values():
            self.events.after(self.rng.uniform(*GOSSIP_SECONDS), self._learn, node, everybody, self._changes)

    def _learn(self, node: Node, members: Rendezvous, change: int) -> None:
        """Word of a later change may have come before."""
        if change > node.knows_change:
            node.knows_change = change
            node.roster = Roster(node.member, members)

    def _pull(self, member: Member, contents: Sequence[SimulatedContent], at_once: int) -> None:
        self._pulls_to_come -= 1
        node = self._nodes[member.name]
        if node.alive:
            self._begun |= {(member.name, content.name): self.events.now for content in contents}
            self._next[member.name] = iter(contents[at_once:])
            for content in contents[:at_once]:
                node.pull(content)

    def _kill(self, name: str, without_power: bool, back_after: float | None) -> None:
        node = self._nodes[name]
        node.die(without_power=without_power)
        pulling = [content for begun, content in self._begun if begun == name]
        for content in pulling:
            del self._begun[name, content]
        self.events.after(FAILURE_NOTICED_SECONDS, self._notice, node)
        if back_after is not None:
            # Those that it had not begun come after.
            contents = [node.holdings[content].content for content in pulling if content in node.holdings]
            contents += self._next[name]
            self._pulls_to_come += 1
            self.events.after(back_after, self._come_back, node, contents)

    def _notice(self, node: Node) -> None:
        """The others hear that it is gone, where it did not come back before."""
        name = node.member.name
        if self._nodes[name] is node:
            del self._joined[name]
            for holders in self._holders.values():
                if name in holders:
                    holders.remove(name)
            self._spread()

    def _come_back(self, node: Node, contents: Sequence[SimulatedContent]) -> None:
        self.join(node.member)
        self._pull(node.member, contents, len(contents))


def _index(member: Member) -> int:
    return int(member.name.partition("-")[2])
