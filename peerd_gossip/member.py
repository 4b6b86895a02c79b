"""A member of the cluster: who it is, in which life, and where it is reached."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from hashlib import blake2b
from typing import NewType

MemberId = NewType("MemberId", int)
"""64 bits that stand for one life of one member on the wire and in the index."""

NAME_LENGTH_MAX = 128
ADDRESS_LENGTH_MAX = 280  # a DNS name of 253, brackets, colon and port
LABEL_LENGTH_MAX = 64
LIFE_MAX = (1 << 63) - 1


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as host (without brackets) and port; ValueError when it is neither."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise ValueError(f"not an address: {address!r}; host:port or [IPv6]:port is meant")
    if int(port) > 65535:
        raise ValueError(f"not an address: {address!r}; a port is at most 65535")
    return bare, int(port)


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets where IPv6 needs them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Member:
    """One life of one member.

    `life` is greater at each start (milliseconds of the clock do), so that what is said of a former life is
    known for what it is. `gossip_addr` is where filters are exchanged; `peer_addr` is for the application.
    """

    name: str
    life: int
    peer_addr: str
    gossip_addr: str
    zone: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= NAME_LENGTH_MAX or not self.name.isprintable() or " " in self.name:
            raise ValueError(f"not a member's name: {self.name[: NAME_LENGTH_MAX + 1]!r}")
        if not 0 < self.life <= LIFE_MAX:
            raise ValueError(f"member {self.name}: life must be positive and fit in 63 bits, not {self.life}")
        for address in (self.peer_addr, self.gossip_addr):
            if len(address) > ADDRESS_LENGTH_MAX:
                raise ValueError(f"member {self.name}: an address of {len(address)} characters")
            split_address(address)
        for label in (self.zone, self.version):
            if len(label) > LABEL_LENGTH_MAX or (label and not label.isprintable()):
                raise ValueError(
                    f"member {self.name}: zone and version are up to {LABEL_LENGTH_MAX} printable characters"
                )

    @property
    def id(self) -> MemberId:
        """What stands for this life of this member on the wire."""
        return member_id(self.name, self.life)


def member_id(name: str, life: int) -> MemberId:
    """The first 8 bytes, little-endian, of BLAKE2b over name, a zero byte and the life in decimal."""
    digest = blake2b(f"{name}\0{life}".encode(), digest_size=8).digest()
    return MemberId(int.from_bytes(digest, "little"))


class MemberState(enum.Enum):
    """What is known of a member's life."""

    ALIVE = "alive"
    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class MembershipEvent:
    """`member` is `state` from now on: ALIVE is "joined", FAILED is "failed", LEFT is "left"."""

    member: Member
    state: MemberState
