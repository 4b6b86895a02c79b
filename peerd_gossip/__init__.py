"""Who is alive in a cluster, and which members may hold a key.

A library of its own: an application gives `Gossip.running` a configuration and a membership engine, advertises the keys
that it holds, and asks `holders` for those that it looks for; the look-up is local memory, as every member holds every
other member's Bloom filter. docs/gossip.md describes the protocol.
"""

from peerd_gossip.bloom import key_hash
from peerd_gossip.errors import (
    GossipError,
    GossipUnavailable,
    MembershipError,
    MessageRefused,
    PeerUnavailable,
    SerfError,
    SerfUnavailable,
)
from peerd_gossip.limits import Limits
from peerd_gossip.member import Member, MembershipEvent, MemberState
from peerd_gossip.membership import Membership, SerfConfig, SerfMembership, StaticMembership, read_key
from peerd_gossip.node import Gossip, GossipConfig, GossipStatistics
from peerd_gossip.tls import TlsFiles

__all__ = [
    "Gossip",
    "GossipConfig",
    "GossipError",
    "GossipStatistics",
    "GossipUnavailable",
    "Limits",
    "Member",
    "MemberState",
    "Membership",
    "MembershipError",
    "MembershipEvent",
    "MessageRefused",
    "PeerUnavailable",
    "SerfConfig",
    "SerfError",
    "SerfMembership",
    "SerfUnavailable",
    "StaticMembership",
    "TlsFiles",
    "key_hash",
    "read_key",
]
