"""What the scheme does, and could do otherwise: so that each choice can be measured against the one that lost (docs/swarm.md)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choices:
    """As shipped; each that is False takes one thing away.

    Attributes:
        leases: a home gives leave to the first who asks; else it fetches the chunk itself, for all.
        bit_fields: answers say which chunks the member has.
        loads: answers say how much the member has to do.
        by_chance: what nobody waits for is fetched in an order of the node's own; else in the order in which the client reads.
        busy: a member says that it is busy, and names others; else whoever asks waits for its turn.
        zones: borders of zones are known.
        hedging: another is asked beside a member that is slow.
        eldest: every other slot goes to the content that was begun first; else contents have slots by turns.
        window: a node has upstream send few chunks at once; else as many as it fetches.
    """

    leases: bool = True
    bit_fields: bool = True
    loads: bool = True
    by_chance: bool = True
    busy: bool = True
    zones: bool = True
    hedging: bool = True
    eldest: bool = True
    window: bool = True
