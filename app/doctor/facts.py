"""What is looked at. Values only; how they are come by is in `observe`, what they mean in `checks`.

In each, `error` says why something is not known, in words of the system; it is None where all is known.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from app.containerd.config_toml import ContainerdConfig


@dataclass(frozen=True, slots=True)
class ContainerdFacts:
    """Who answers at containerd's socket."""

    socket: Path
    version: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """containerd's `config.toml`, and the folder of mirror files that peerd writes to."""

    path: Path
    config: ContainerdConfig | None
    mirror_folder: Path
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MirrorFileFacts:
    """The file that containerd reads for one registry: its hosts in their order; None when there is no file."""

    registry: str
    file: Path
    hosts: tuple[str, ...] | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DoorFacts:
    """Whether peerd answers where the mirror files say."""

    url: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ReachFacts:
    """Whether a member's door can be connected to from here. `door` is `peer` or `gossip`."""

    member: str
    me: bool
    door: str
    address: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The node at `--node`, and its members by state."""

    url: str
    state: str | None = None
    version: str | None = None
    membership: str | None = None
    alive: int = 0
    failed: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """This node's certificate.

    Attributes:
        file: of `--tls-cert`.
        wanted_name: what members expect in it.
        names: what is in it.
        trusted: whether it is signed by the CA of `--tls-ca`.
        keyed: whether `--tls-key` is its key.
        begins, ends: when it is valid.
    """

    file: Path
    wanted_name: str
    names: tuple[str, ...] = ()
    trusted: bool = False
    keyed: bool = False
    begins: dt.datetime | None = None
    ends: dt.datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """Whether something keeps this machine's clock right; None where the kernel does not say."""

    now: dt.datetime
    synchronised: bool | None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The cache's folder: bytes that are free on its disk, that the cache takes, and that it may take."""

    folder: Path
    free_bytes: int = 0
    used_bytes: int = 0
    quota_bytes: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. `certificate` is None for a node without TLS, `door` where no registry is mirrored."""

    containerd: ContainerdFacts
    config: ConfigFacts
    mirrors: tuple[MirrorFileFacts, ...]
    mirror_url: str
    door: DoorFacts | None
    node: NodeFacts
    reach: tuple[ReachFacts, ...]
    certificate: CertificateFacts | None
    clock: ClockFacts
    disk: DiskFacts
