"""What is news here, and how often it is still to be told.

A small delta is told as it is, as long as there is little news: nothing is faster. Of anything larger, and of everything
when there is much, only the stamp is told, and who lacks it asks. So it comes to each member about once, and not once
for each time that it is told; and of several versions of one filter only the last is told. Each piece of news is told
in a few rounds and then dropped; whom it has missed by then, push/pull finds (replication.py).
"""

from __future__ import annotations

from peerd_gossip.member import MemberId
from peerd_gossip.messages import Delta, Rumours, Stamp

EAGER_KEYS_MAX = 4
EAGER_DELTAS_MAX = 32
DELTA_HEADER_BYTES = 24  # member, epoch, version and tags, on the wire
STAMP_BYTES = 12


class RumourQueue:
    """News, told longest ago first."""

    def __init__(self, rounds: int) -> None:
        """Each piece is told `rounds` times."""
        self._rounds = rounds
        self._deltas: dict[Stamp, tuple[Delta, int]] = {}
        self._haves: dict[MemberId, tuple[Stamp, int]] = {}

    def __len__(self) -> int:
        return len(self._deltas) + len(self._haves)

    @property
    def backlog_bytes_min(self) -> int:
        """At least so much is still to be told."""
        return DELTA_HEADER_BYTES * len(self._deltas) + STAMP_BYTES * len(self._haves)

    def tell(self, delta: Delta) -> None:
        """News of one delta."""
        small = len(delta.added) + len(delta.withdrawn) <= EAGER_KEYS_MAX
        if delta.farewell or (small and len(self._deltas) < EAGER_DELTAS_MAX):
            self._deltas[delta.stamp] = (delta, self._rounds)
        else:
            self.tell_stamp(delta.stamp)

    def tell_stamp(self, stamp: Stamp) -> None:
        """News that a member's filter stands here."""
        self._haves[stamp.member] = (stamp, self._rounds)

    def forget(self, member: MemberId) -> None:
        """The member is gone: nothing of it is news any more, but its farewell."""
        self._haves.pop(member, None)
        for stamp in [s for s, (delta, _) in self._deltas.items() if s.member == member and not delta.farewell]:
            del self._deltas[stamp]

    def take(self, bytes_max: int) -> Rumours:
        """What to tell in this round, of about so many bytes at most."""
        left = bytes_max
        deltas: list[Delta] = []
        haves: list[Stamp] = []
        for stamp in list(self._deltas):
            if left <= 0:
                break
            delta, rounds = self._deltas.pop(stamp)
            deltas.append(delta)
            if rounds > 1:
                self._deltas[stamp] = (delta, rounds - 1)  # behind all others
            left -= DELTA_HEADER_BYTES + 8 * (len(delta.added) + len(delta.withdrawn))
        for member in list(self._haves):
            if left <= 0:
                break
            stamp, rounds = self._haves.pop(member)
            haves.append(stamp)
            if rounds > 1:
                self._haves[member] = (stamp, rounds - 1)
            left -= STAMP_BYTES
        return Rumours(tuple(deltas), tuple(haves))
