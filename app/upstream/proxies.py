"""Which proxy stands between this node and an upstream.

Owns: the meaning of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. They mean what Go makes of them (golang.org/x/net,
`http/httpproxy`), CIDR blocks and ports in `NO_PROXY` included: containerd beside us reads the same variables, and a pull
through us must take the way that a pull without us would.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Self
from urllib.parse import unquote_to_bytes

from app.errors import PeerdError
from app.upstream.url import Origin, UpstreamUrl, literal


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and how one introduces oneself there: a value of `Proxy-Authorization`, never in `repr`."""

    origin: Origin
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The proxy that `http://user:password@host:port`, or any part of it down to the host, names. Raises ValueError."""
        scheme, separator, rest = text.rpartition("://")
        userinfo, _, authority = rest.rpartition("@")
        try:
            url = UpstreamUrl.parse(f"{scheme if separator else 'http'}://{authority}")
        except PeerdError as error:
            raise ValueError(f"the proxy at {authority[:64]!r} can not be used: {error}") from error
        authorization = "Basic " + b64encode(unquote_to_bytes(userinfo)).decode() if userinfo else None
        return cls(url.origin, authorization)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of this node; none unless the environment says so. They are never used for peers.

    Attributes:
        http, https: for upstreams of that scheme.
        exempt: entries of `NO_PROXY`: `*`, an address, a CIDR block, `example.com` (it and all below), `.example.com`
            (all below), the last two and an address also with `:port`.
    """

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """What `environment` says, in capitals or not; capitals win. Raises ValueError for a proxy that can not be used."""

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.lower()) or ""

        http, https = value("HTTP_PROXY"), value("HTTPS_PROXY")
        exempt = tuple(entry.strip().lower() for entry in value("NO_PROXY").split(",") if entry.strip())
        return cls(Proxy.parse(http) if http else None, Proxy.parse(https) if https else None, exempt)

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy through which `origin` is asked; None: it is asked straight."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or self._is_exempt(origin):
            return None
        return proxy

    def _is_exempt(self, origin: Origin) -> bool:
        address = literal(origin.host)
        # As in Go: this host itself is never asked through another.
        if origin.host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_exempts(entry, origin) for entry in self.exempt)


def _exempts(entry: str, origin: Origin) -> bool:
    """Whether one entry of `NO_PROXY` means `origin`."""
    if entry == "*":
        return True
    address = literal(origin.host)
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry, strict=False)
        except ValueError:
            return False
    host, port = _host_and_port(entry)
    if port and port != str(origin.port):
        return False
    if address is not None:
        return host == origin.host
    if host.startswith(("*.", ".")):
        return origin.host.endswith(host.removeprefix("*"))
    return origin.host == host or origin.host.endswith(f".{host}")


def _host_and_port(entry: str) -> tuple[str, str]:
    """`example.com:80`, `[::1]:80`, `::1` and `example.com` in their two parts."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, rest.removeprefix(":")
    if entry.count(":") > 1:
        return entry, ""
    host, _, port = entry.partition(":")
    return host, port
