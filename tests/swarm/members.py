"""Members and clocks for tests of decisions."""

from dataclasses import dataclass

from peerd_gossip import Member


def member(name: str, zone: str = "") -> Member:
    return Member(name, 1, f"{name}.test:5001", f"{name}.test:5002", zone, "")


def members(count: int, *, zones: int = 1) -> list[Member]:
    return [member(f"node-{number}", f"zone-{number % zones}" if zones > 1 else "") for number in range(count)]


@dataclass(slots=True)
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now
