"""What can go wrong, and whose fault it is.

GossipError
├── MessageRefused       bytes from outside that are not what they should be; `reason` is a word for a counter
├── MembershipError      the membership engine can not do its work
│   ├── SerfError            Serf's agent answered with an error, or something that is not Serf's protocol
│   └── SerfUnavailable      no agent to talk to: not found, not answering, connection lost
├── PeerUnavailable      another node does not answer at its gossip door
└── GossipUnavailable    the gossip door can not be opened (address in use, certificates unreadable)
"""

from __future__ import annotations


class GossipError(Exception):
    """Anything that this library raises by intention."""


class MessageRefused(GossipError):
    """Bytes from outside were refused; `reason` is one of a few words, fit for a label of a counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class MembershipError(GossipError):
    """The engine that says who is alive can not do its work."""


class SerfError(MembershipError):
    """Serf's agent answered with an error, or with something that is not its protocol."""


class SerfUnavailable(MembershipError):
    """There is no agent to talk to: it was not found, does not answer, or the connection was lost."""


class GossipUnavailable(GossipError):
    """The gossip door can not be opened: the address is taken, or the certificates can not be read."""


class PeerUnavailable(GossipError):
    """Another node does not answer at its gossip door; it may later."""
