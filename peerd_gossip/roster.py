"""Who is known, in which life and state. One writer: the node, which reports what membership and members say.

Of one name there is one life, the latest: a greater life replaces a lesser one at once, and what is said of a lesser
life is not believed any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerd_gossip.member import Member, MemberId, MembershipEvent, MemberState

LEFT_KEPT_S = 600.0  # how long those who left, or failed, are still shown
FAILED_KEPT_S = 3600.0


@dataclass(slots=True)
class _Entry:
    member: Member
    state: MemberState
    since: float
    final: bool  # it said farewell itself: this life will not come back


class Roster:
    """Members by name; this one is always among them, and alive."""

    def __init__(self, me: Member, *, members_max: int) -> None:
        self.me = me
        self._members_max = members_max
        self._entries: dict[str, _Entry] = {}
        self._by_id: dict[MemberId, Member] = {}
        self.refused = 0  # members beyond members_max, and those that claim this member's name

    def report(self, member: Member, state: MemberState, *, now: float, final: bool = False) -> list[MembershipEvent]:
        """Somebody says that `member` is `state`; returns what has changed by it."""
        if member.name == self.me.name:
            self.refused += member.life != self.me.life
            return []
        entry = self._entries.get(member.name)
        if entry is None:
            return self._enter(member, state, now) if state is MemberState.ALIVE else []
        if member.life < entry.member.life:
            return []
        if member.life > entry.member.life:
            if state is not MemberState.ALIVE:
                return []
            events = self._change(entry, MemberState.FAILED, now) if entry.state is MemberState.ALIVE else []
            self._drop(entry)
            return events + self._enter(member, state, now)
        if entry.final:
            return []
        entry.final = final
        if state is MemberState.ALIVE:
            entry.member = member  # its zone or addresses may have changed
            self._by_id[member.id] = member
        return self._change(entry, state, now)

    def members(self) -> list[tuple[Member, MemberState]]:
        """Everybody who is known, this member first."""
        return [(self.me, MemberState.ALIVE), *((e.member, e.state) for e in self._entries.values())]

    def get(self, name: str) -> Member | None:
        """The latest life of this name."""
        if name == self.me.name:
            return self.me
        entry = self._entries.get(name)
        return entry.member if entry else None

    def state(self, name: str) -> MemberState | None:
        """The state of the latest life of this name."""
        if name == self.me.name:
            return MemberState.ALIVE
        entry = self._entries.get(name)
        return entry.state if entry else None

    def by_id(self, member: MemberId) -> Member | None:
        """The other member that this id stands for, if it is alive."""
        return self._by_id.get(member)

    def live(self) -> frozenset[MemberId]:
        """Ids of all other members that are alive."""
        return frozenset(self._by_id)

    def purge(self, *, now: float) -> None:
        """Forget those who left or failed long ago."""
        for entry in list(self._entries.values()):
            kept = {MemberState.LEFT: LEFT_KEPT_S, MemberState.FAILED: FAILED_KEPT_S}.get(entry.state)
            if kept is not None and now - entry.since > kept:
                self._drop(entry)

    def _enter(self, member: Member, state: MemberState, now: float) -> list[MembershipEvent]:
        if len(self._entries) >= self._members_max and not self._make_room():
            self.refused += 1
            return []
        self._entries[member.name] = _Entry(member, state, now, final=False)
        self._by_id[member.id] = member
        return [MembershipEvent(member, state)]

    def _make_room(self) -> bool:
        gone = [entry for entry in self._entries.values() if entry.state is not MemberState.ALIVE]
        if gone:
            self._drop(min(gone, key=lambda entry: entry.since))
        return bool(gone)

    def _change(self, entry: _Entry, state: MemberState, now: float) -> list[MembershipEvent]:
        if state is entry.state:
            return []
        if {state, entry.state} == {MemberState.FAILED, MemberState.LEFT} and state is MemberState.FAILED:
            return []  # one who left does not fail afterwards
        entry.state = state
        entry.since = now
        if state is MemberState.ALIVE:
            self._by_id[entry.member.id] = entry.member
        else:
            self._by_id.pop(entry.member.id, None)
        return [MembershipEvent(entry.member, state)]

    def _drop(self, entry: _Entry) -> None:
        self._entries.pop(entry.member.name, None)
        self._by_id.pop(entry.member.id, None)
