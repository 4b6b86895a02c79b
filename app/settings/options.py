"""Every option of a node: name, type with its unit, default, and the sentence that `--help` and docs/operations.md show.

Owns: the options and what must hold between them. Each class below is one slice, so that a room can ask for no more than
its own: what takes `CacheOptions` is given the whole `Settings` and sees its part. Options are read once, at start.
"""

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.settings.values import (
    Address,
    Bytes,
    BytesPerSecond,
    Directory,
    ExistingFile,
    FilePath,
    HostMaybePort,
    HostName,
    HostPattern,
    HostPort,
    Mirrored,
    NodeName,
    Pattern,
    RegistryName,
    RegistryUrl,
    Seconds,
    Word,
    ZoneName,
    format_size,
)

SERF_PORT: Final = 7946  # what `serf agent -bind` takes when it is told no port


def _option(default: str | bool | int | None, sentence: str, *, shown: str | None = None, **limits: Any) -> Any:
    """An option whose default is written as a user would write it, and is parsed like a user's."""
    if isinstance(default, bool):
        shown = "on" if default else "off"
    elif shown is None:
        shown = "none" if default is None else str(default)
    return Field(default, description=sentence, json_schema_extra={"shown": shown}, **limits)


def _found(find: Callable[..., object], sentence: str, *, shown: str) -> Any:
    """An option whose default is found out on this machine."""
    return Field(default_factory=find, description=sentence, json_schema_extra={"shown": shown})


def _blank_separated(value: object) -> object:
    """One text, or each of several, may hold more than one value, separated by blanks."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    return [part for text in texts for part in (text.split() if isinstance(text, str) else [text])]


_SEVERAL: Final = BeforeValidator(_blank_separated)


def _list(sentence: str) -> Any:
    """An option that may be repeated."""
    return Field((), description=sentence, json_schema_extra={"shown": "none"})


def _advertise_host(given: dict[str, Any]) -> str:
    """The peer door's own address; where that is every address, the one that packets to elsewhere leave from."""
    peer_door = given.get("peer_addr")
    if isinstance(peer_door, Address) and not peer_door.is_wildcard:
        return peer_door.host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing; it makes the kernel choose a route (192.0.2.0/24 is RFC 5737's).
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


class Options(BaseModel):
    """What all slices have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=True)


class DoorOptions(Options):
    """Doors."""

    http_addr: HostPort = _option(
        "127.0.0.1:5000", "Door for this node's clients: /v2, /blobs, /docs, metrics, probes and the page."
    )
    metrics_addr: HostPort | None = _option(
        None,
        "A second door with /metrics/prometheus, /healthz and /readyz only, for scrapers and probes from elsewhere.",
    )
    peer_addr: HostPort = _option("0.0.0.0:5001", "Door for peers, mutual TLS.")
    gossip_addr: HostPort = _option("0.0.0.0:5002", "gRPC replication of filters between members, mutual TLS.")
    advertise_host: HostName = _found(
        _advertise_host,
        "The address that peers are told; must be reachable from every member.",
        shown="found: the peer door's, else that of the default route",
    )


class ClusterOptions(Options):
    """Cluster."""

    node_name: NodeName = _found(
        socket.gethostname, "This node's identity in the cluster; its certificate is for NAME.peerd.", shown="host name"
    )
    zone: ZoneName | None = _option(None, "Where this node is; peers of the same zone are asked first.")
    membership: Literal["serf", "static", "dns"] = _found(
        lambda: "serf" if shutil.which("serf") else "static",
        "Who tells which members there are: Serf, the list of --join, or the DNS names of --join, asked again and again.",
        shown="serf if found, else static",
    )
    join: Annotated[tuple[HostMaybePort, ...], _SEVERAL] = _list(
        "Members to join at; may be repeated: host:port of Serf's bind port, or of the gossip port with static, "
        "or a DNS name. Without a port, 7946 with serf and 5002 otherwise. A few are enough with serf."
    )
    serf_bind: HostPort = _option("0.0.0.0:7946", "Where the Serf agent that peerd starts gossips.")
    serf_rpc_addr: HostPort | None = _option(
        None, "RPC address of a Serf agent that runs already, instead of one that peerd starts.", shown="own child"
    )
    serf_key_file: ExistingFile | None = _option(None, "File with the key that encrypts Serf's gossip (`serf keygen`).")
    filter_fp_rate: float = _option(
        "0.01",
        "False-positive rate that filters are sized for. A filter takes 1.44 x log2(1/rate) bits a key (10 bits at 0.01), "
        "on every member and over the network; a false positive costs one refused request.",
        ge=0.0001,
        le=0.5,
    )


class TrustOptions(Options):
    """Trust between members."""

    tls_ca: ExistingFile | None = _option(None, "The cluster CA's certificate, PEM; read again when the file changes.")
    tls_cert: ExistingFile | None = _option(None, "This node's certificate, PEM; read again when the file changes.")
    tls_key: ExistingFile | None = _option(None, "The key of --tls-cert, PEM; read again when the file changes.")
    insecure_peers: bool = _option(
        False,
        "Peers without TLS; only with every listener on loopback. With neither this nor --tls-ca, --tls-cert and "
        "--tls-key the node runs alone.",
    )


class CacheOptions(Options):
    """Cache."""

    cache_dir: Directory = _option("/var/lib/peerd", "Folder of the chunk cache, on local disk.")
    cache_size: Bytes = _option(
        "10GiB",
        "Bytes that the cache may take. As large as the images that start together at least: what is evicted too early is "
        "fetched from a peer again.",
        gt=0,
    )
    chunk_size: Bytes = _option(
        "1MiB",
        "Size of the pieces that are cached and exchanged; the same on all members. Smaller pieces spread sooner and cost "
        "more requests (size of the content / chunk size, for each node).",
        ge=4096,
        le=64 * 2**20,
    )
    prefetch: bool = _option(True, "Fetch the rest of a file that is being read.")


class UpstreamOptions(Options):
    """Upstreams."""

    registry: Annotated[tuple[RegistryUrl, ...], _SEVERAL] = _list(
        "Where a registry is reached; may be repeated. Without it: https://NAME, docker.io at https://registry-1.docker.io."
    )
    default_registry: RegistryName = _option("docker.io", "The registry of a /v2 request that names none (ns).")
    tag_ttl: Seconds = _option(
        "30s",
        "How long a tag's digest is believed before upstream is asked again. Longer spares requests that a registry "
        "counts; a moved tag is noticed as much later.",
        ge=0,
    )
    registry_auth: ExistingFile | None = _option(None, "A Docker config.json with credentials for pull-through.")
    pull_through: bool = _option(
        True, "Fetch from the registry for the cluster; off: answer 404 and let containerd do it."
    )
    upstream_allow: Annotated[tuple[HostPattern, ...], _SEVERAL] = _list(
        "Host globs, with or without :port, that may be asked though their address is not public; may be repeated. Hosts "
        "of --registry and --hosts are allowed as they stand."
    )
    upstream_deny_unlisted: bool = _option(
        False, "Refuse public hosts too, unless --registry, --hosts or --upstream-allow names them."
    )
    upstream_ca: ExistingFile | None = _option(
        None,
        "CA file for upstreams. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured for upstreams, never for peers.",
        shown="system's",
    )
    consent: Literal["cluster", "upstream"] = _option(
        "cluster",
        "Who may have content that upstream does not give to everybody: all clients of the cluster, or those whose own "
        "credential upstream accepts for it.",
    )
    consent_ttl: Seconds = _option(
        "5m", "How long upstream's consent to a client is remembered; a revoked credential works as much longer.", ge=0
    )
    mirror_timeout: Seconds = _option(
        "5s",
        "A mirror request for which no source makes progress for so long before the first byte is a 404, with which "
        "containerd goes to the registry itself.",
        gt=0,
    )


class ContainerdOptions(Options):
    """containerd."""

    containerd_socket: FilePath = _option(
        "/run/containerd/containerd.sock",
        "The content store to share from; where it is absent it is looked for again.",
    )
    containerd_namespace: Word = _option("k8s.io", "containerd's namespace whose images are shared.")
    containerd_content_dir: Directory | None = _option(
        None, "containerd's content folder, when readable: files are sent from it without copying."
    )
    share_filter: Pattern | None = _option(
        None, "Regular expression on the names of images that may be shared.", shown="all"
    )
    hosts: Annotated[tuple[Mirrored, ...], _SEVERAL] = _list(
        "Registries to mirror: written into containerd's hosts.toml files at start, where registries that are named no more get theirs back; may be repeated."
    )
    hosts_dir: Directory | None = _option(
        None,
        "Folder of containerd's hosts.toml files.",
        shown="first folder of config_path in --containerd-config, else /etc/containerd/certs.d",
    )
    containerd_config: FilePath = _option(
        "/etc/containerd/config.toml", "containerd's configuration; read, never written."
    )


class TransferOptions(Options):
    """Transfers to peers, and the end."""

    upload_limit: BytesPerSecond | None = _option(None, "Bytes a second to peers, all together.", gt=0)
    max_uploads: int = _option(
        16,
        "Transfers to peers at once; a peer beyond that is told at once that this node is busy, and whom else to ask.",
        ge=1,
        le=4096,
    )
    drain_timeout: Seconds = _option("30s", "How long running answers may take after SIGTERM.", ge=0)


class LogOptions(Options):
    """Log."""

    log_level: Literal["debug", "info", "warning", "error"] = _option("info", "What is logged, and what is graver.")
    log_format: Literal["json", "text"] = _found(
        lambda: "text" if sys.stderr.isatty() else "json",
        "One JSON object a line, or lines for people.",
        shown="json when not on a terminal",
    )


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Cluster CA, this node's certificate and its key; PEM files."""

    ca: Path
    cert: Path
    key: Path


class Settings(
    LogOptions,
    TransferOptions,
    ContainerdOptions,
    UpstreamOptions,
    CacheOptions,
    TrustOptions,
    ClusterOptions,
    DoorOptions,
):
    """All options of one node, checked against each other; `load_settings` makes it."""

    @property
    def tls(self) -> TlsFiles | None:
        """The files of mutual TLS, when they are given."""
        if self.tls_ca and self.tls_cert and self.tls_key:
            return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)
        return None

    @property
    def alone(self) -> bool:
        """Whether the node has no peers: peer door, gossip door and Serf stay closed."""
        return not self.insecure_peers and self.tls is None

    @property
    def join_addresses(self) -> tuple[Address, ...]:
        """`--join` with the port that its kind of membership means where none was given."""
        default = SERF_PORT if self.membership == "serf" else self.gossip_addr.port
        return tuple(target.at(default) for target in self.join)

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if faults := list(_faults(self)):
            raise ValueError("\n".join(faults))
        return self


GROUPS: Final[tuple[type[Options], ...]] = tuple(
    base for base in reversed(Settings.__mro__) if issubclass(base, Options) and base not in {Options, Settings}
)
"""The slices, in the order in which help and docs show them; a slice's docstring is its heading."""


def _faults(settings: Settings) -> Iterator[str]:
    """What does not fit together, a sentence each."""
    tls = {"--tls-ca": settings.tls_ca, "--tls-cert": settings.tls_cert, "--tls-key": settings.tls_key}
    missing = [name for name, path in tls.items() if path is None]
    if missing and len(missing) < len(tls):
        yield f"--tls-ca, --tls-cert and --tls-key belong together: {' and '.join(missing)} missing"
    if settings.insecure_peers and len(missing) < len(tls):
        yield "--insecure-peers and --tls-* exclude each other: leave out --insecure-peers"
    elif settings.insecure_peers:
        yield from _exposed(settings)
    elif len(missing) == len(tls) and settings.join:
        yield (
            f"--join {settings.join[0]} needs peers, and without --tls-ca, --tls-cert and --tls-key the node runs alone: give "
            "these (`peerd certs` makes them), or --insecure-peers where all is on loopback"
        )
    if settings.membership == "dns" and not settings.join and not settings.alone:
        yield "--membership dns needs a name to ask for: --join NAME"
    if settings.cache_size < settings.chunk_size:
        yield (
            f"--cache-size {format_size(settings.cache_size)} holds not one chunk of --chunk-size "
            f"{format_size(settings.chunk_size)}: give a larger cache or smaller chunks"
        )
    names = [location.name for location in settings.registry]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        yield f"--registry names {doubles[0]} twice: give it one URL"
    yield from _same_door(settings)


def _listeners(settings: Settings) -> dict[str, Address]:
    """The addresses that this node listens at, by option."""
    listeners = {"--http-addr": settings.http_addr}
    if settings.metrics_addr:
        listeners["--metrics-addr"] = settings.metrics_addr
    if not settings.alone:
        listeners |= {"--peer-addr": settings.peer_addr, "--gossip-addr": settings.gossip_addr}
        own_agent = settings.membership == "serf" and settings.serf_rpc_addr is None
        if own_agent or "serf_bind" in settings.model_fields_set:
            listeners["--serf-bind"] = settings.serf_bind
    return listeners


def _exposed(settings: Settings) -> Iterator[str]:
    for option, address in _listeners(settings).items():
        if not address.is_loopback:
            yield (
                f"--insecure-peers is for loopback alone, and {option} is {address}: give it as 127.0.0.1:{address.port}, "
                "or use --tls-ca, --tls-cert and --tls-key instead (`peerd certs` makes the files)"
            )


def _same_door(settings: Settings) -> Iterator[str]:
    seen: dict[Address, str] = {}
    for option, address in _listeners(settings).items():
        if address.port and (other := seen.setdefault(address, option)) != option:
            yield f"{other} and {option} are both {address}: give one of them another port"
