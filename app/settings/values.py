"""What an option's text may spell: sizes, durations, addresses, registries.

Owns: the text forms and the values behind them. Each type says how it is written (`Spelled`), which the help, the page of
options and the messages about wrong values show. A parser raises ValueError with what is wrong about the text alone.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator


@dataclass(frozen=True, slots=True)
class Spelled:
    """How an option's value is written: the word in `--help`, and what a right one looks like."""

    metavar: str
    right: str


def _text(parse: Callable[[str], object]) -> BeforeValidator:
    """Text goes through `parse`; a value that is one already passes."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


_SIZE_UNITS: Final = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    # Kubernetes writes quantities so (resource.Quantity).
    "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_DURATION_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_size(text: str) -> int:
    """Bytes; `64MiB` is 67108864, `64MB` is 64000000, a bare number is bytes."""
    match = _QUANTITY.fullmatch(text.strip())
    if not match or match[2] not in _SIZE_UNITS:
        raise ValueError("is not a size")
    return int(float(match[1]) * _SIZE_UNITS[match[2]]) if "." in match[1] else int(match[1]) * _SIZE_UNITS[match[2]]


def parse_rate(text: str) -> int:
    """Bytes a second; `50MiB` and `50MiB/s` are the same."""
    return parse_size(text.strip().removesuffix("/s"))


def parse_duration(text: str) -> float:
    """Seconds; `1m30s` is 90.0, a bare number is seconds."""
    seconds, position, stripped = 0.0, 0, text.strip()
    while match := _QUANTITY.match(stripped, position):
        if match[2] not in _DURATION_UNITS or (match[2] == "" and match.span() != (0, len(stripped))):
            break
        seconds += float(match[1]) * _DURATION_UNITS[match[2]]
        position = match.end()
    if position == 0 or position != len(stripped):
        raise ValueError("is not a duration")
    return seconds


def format_size(size: int) -> str:
    """The shortest exact spelling that `parse_size` reads back: `1MiB`, `1500`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)


_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


def _check_host(host: str) -> str:
    """An IP address or a DNS name, without brackets."""
    if ":" in host or re.fullmatch(r"[\d.]+", host):
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"has a host, {host}, that is neither a name nor an IP address") from None
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError("has no host that could be a name or an address")
    return host


def _split_host_port(text: str) -> tuple[str, int | None]:
    """Host without brackets, and port if there is one; an IPv6 address with a port stands in brackets (RFC 3986, 3.2.2)."""
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]*))(?::(\d{1,5}))?", text)
    if not match:
        raise ValueError("is not host:port; an IPv6 address stands in brackets")
    port = None if match[3] is None else int(match[3])
    if port is not None and port > 65535:
        raise ValueError("has a port above 65535")
    if match[1] is not None and ":" not in match[1]:
        raise ValueError("has brackets around what is no IPv6 address")
    if not (host := match[1] or match[2]):
        raise ValueError(f"has no host; all addresses are 0.0.0.0{text}")
    return _check_host(host), port


@dataclass(frozen=True, slots=True)
class Address:
    """Host and TCP port. The host is an IP address without brackets, or a name."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host:port` or `[IPv6]:port`; raises ValueError."""
        host, port = _split_host_port(text.strip())
        if port is None:
            raise ValueError("has no port")
        return cls(host, port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of this machine."""
        return self.host in {"0.0.0.0", "::"}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class JoinTarget:
    """Where other members are found: a name or an address, and a port when one was given."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host`, `host:port` or `[IPv6]:port`; raises ValueError."""
        return cls(*_split_host_port(text.strip()))

    def at(self, default_port: int) -> Address:
        """The address, with `default_port` where none was given."""
        return Address(self.host, default_port if self.port is None else self.port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def parse_registry_name(text: str) -> str:
    """`host` or `host:port`, as an image reference and `ns` name a registry; lower case."""
    host, port = _split_host_port(text.strip())
    return str(JoinTarget(host.lower(), port))


@dataclass(frozen=True, slots=True)
class RegistryLocation:
    """A registry's name, as images call it, and the URL at which it is reached; the URL has no slash at its end."""

    name: str
    url: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`NAME=URL`; raises ValueError."""
        name, equals, url = text.strip().partition("=")
        if not equals:
            raise ValueError("has no =")
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("has no http:// or https:// URL after the =")
        if "@" in parts.netloc:
            raise ValueError("has a user in its URL; credentials belong in the file of --registry-auth")
        if parts.query or parts.fragment:
            raise ValueError("has a query or a fragment in its URL")
        _split_host_port(parts.netloc)
        return cls(parse_registry_name(name), url.rstrip("/"))

    def __str__(self) -> str:
        return f"{self.name}={self.url}"


@dataclass(frozen=True, slots=True)
class MirroredRegistry:
    """A registry that containerd shall ask here first; `_default` means every registry without a file of its own."""

    name: str
    scheme: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host`, `host:port`, the same after `http://` or `https://` (as in Azure/peerd's values), or `_default`."""
        scheme, separator, name = text.strip().rstrip("/").rpartition("://")
        if separator and scheme not in {"http", "https"}:
            raise ValueError("has a scheme that is neither http nor https")
        return cls(name if name == "_default" else parse_registry_name(name), scheme or "https")

    def __str__(self) -> str:
        return self.name if self.scheme == "https" else f"{self.scheme}://{self.name}"


_HOST_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?\[\]!:-]+")


def parse_host_pattern(text: str) -> str:
    """A glob on `host` or `host:port`, lower case; a URL is refused, so that nobody thinks paths count."""
    if not _HOST_PATTERN.fullmatch(text):
        raise ValueError("is not a pattern for hosts")
    return text.lower()


_NODE_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def parse_node_name(text: str) -> str:
    """A name that fits into `<node-name>.peerd` of a certificate and into Serf's `<node-name>.<life>`."""
    if len(text) > 100 or not _NODE_NAME.fullmatch(text):
        raise ValueError("can not be a node's name")
    return text


def _parse_label(text: str) -> str:
    if len(text) > 63 or not _NODE_NAME.fullmatch(text):
        raise ValueError("can not be a zone's name")
    return text


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("does not exist" if not path.exists() else "is not a file")
    return path


_NAME = "letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit"

Bytes = Annotated[int, _text(parse_size), Spelled("SIZE", "bytes, or a number with a unit, as 64MiB or 10GiB")]
BytesPerSecond = Annotated[int, _text(parse_rate), Spelled("SIZE", "bytes a second, or with a unit, as 50MiB")]
Seconds = Annotated[
    float, _text(parse_duration), Spelled("TIME", "seconds, or a number with a unit, as 30s, 500ms or 5m")
]
HostPort = Annotated[
    Address,
    _text(Address.parse),
    Spelled("HOST:PORT", "host:port, as 127.0.0.1:5000 or [::1]:5000; port 0 takes a free one"),
]
HostMaybePort = Annotated[
    JoinTarget,
    _text(JoinTarget.parse),
    Spelled("HOST[:PORT]", "a name or an address, as 10.0.0.7:7946 or peerd.example"),
]
HostName = Annotated[
    str,
    _text(lambda text: _check_host(text.strip("[]"))),
    Spelled("HOST", "a name or an IP address, as 10.0.0.7 or fd00::7"),
]
RegistryName = Annotated[
    str, _text(parse_registry_name), Spelled("NAME", "a registry's name, as docker.io or example.local:5000")
]
RegistryUrl = Annotated[
    RegistryLocation,
    _text(RegistryLocation.parse),
    Spelled("NAME=URL", "NAME=URL, as example.local=http://127.0.0.1:5500"),
]
Mirrored = Annotated[
    MirroredRegistry,
    _text(MirroredRegistry.parse),
    Spelled("NAME", "a registry's name, as ghcr.io or http://example.local:5000, or _default"),
]
HostPattern = Annotated[
    str,
    _text(parse_host_pattern),
    Spelled("GLOB", "a pattern for host or host:port, as *.example.local or 10.0.0.7:9000"),
]
NodeName = Annotated[str, _text(parse_node_name), Spelled("NAME", f"at most 100 {_NAME}")]
ZoneName = Annotated[str, _text(_parse_label), Spelled("NAME", f"at most 63 {_NAME}")]
ExistingFile = Annotated[Path, AfterValidator(_existing), Spelled("FILE", "the path of a file that exists")]
FilePath = Annotated[Path, Spelled("FILE", "a path")]
Directory = Annotated[Path, Spelled("DIR", "the path of a folder")]
Pattern = Annotated[re.Pattern[str], Spelled("REGEX", "a regular expression, as ^ghcr\\.io/")]
Word = Annotated[str, Spelled("NAME", "a name")]
