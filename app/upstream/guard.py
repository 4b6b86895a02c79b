"""Which hosts and addresses may be asked, after DNS and after each redirect.

Owns: the policy (`--upstream-allow`, `--upstream-deny-unlisted`, hosts that an option names, and public addresses for all
else) and its one application. Anybody on this node may write any URL behind `/blobs/`, and any server may redirect
anywhere; so without a guard, peerd would be a way into whatever this node can reach.

`Policy` decides and does no I/O. `Guard` looks names up, and hands out the *addresses* that were judged: whoever connects
does so to one of these and asks DNS no second time, since the second answer may differ (DNS rebinding).
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address
from typing import Self

from app.errors import BadRequest, UpstreamForbidden, UpstreamUnavailable
from app.upstream.addresses import is_public, may_be_named
from app.upstream.proxies import Proxies, Proxy
from app.upstream.url import Address, UpstreamUrl, literal

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

# Names that are nobody's on the Internet: RFC 6761 (localhost), RFC 6762 (local), RFC 8375 (home.arpa), ICANN's
# resolution 2024.07.29.06 (internal: Google's metadata service is metadata.google.internal), and what has one label only.
_PRIVATE_NAME = re.compile(r"[^.]+|(?:.*\.)?(?:localhost|local|internal|localdomain|home\.arpa|intranet|lan|corp|home)")
# How many of a name's addresses are tried: enough for one that is down in each family.
_ADDRESSES_MAX = 4
# How many URLs that were let through are remembered.
_ADMITTED_MAX = 256


class Standing(Enum):
    """What the policy says of a host before its address is known."""

    LISTED = "an option names it"
    PUBLIC_ONLY = "its address has to be public"


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A host glob of `--upstream-allow`: `*.corp.example`, `10.1.*:8080`, `[::1]:*`; `*` and `?` as in a shell.

    Without a port any is meant. A pattern that is made like an address matches addresses only: otherwise `10.1.*` would
    allow the name `10.1.evil.example` with whatever address its owner gives it.
    """

    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The pattern that `text` spells; raises ValueError."""
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            port = rest[1:] if rest.startswith(":") else None if rest else "*"
            if not bracket:
                port = None
        else:
            host, colon, port = text.partition(":")
            port = port if colon else "*"
        if not host or port is None or not re.fullmatch(r"[0-9*?]+", port) or re.search(r"[/@\s]", host):
            raise ValueError(
                f"{text!r} is no host glob; write host, host:port or [address]:port, with * and ? as wildcards"
            )
        return cls(host.lower().removesuffix("."), port)

    def matches(self, host: str, port: int) -> bool:
        """Whether this pattern means `host` (as in `Origin.host`) at `port`."""
        if re.fullmatch(r"[0-9.:*?]*[0-9:][0-9.:*?]*", self.host) and literal(host) is None:
            return False
        return _glob(self.host, host) and _glob(self.port, str(port))


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may be asked. Pure: names and addresses in, a judgement out.

    Attributes:
        allow: `--upstream-allow`.
        named: host and port of what `--registry` and `--hosts` name; allowed as they stand.
        deny_unlisted: `--upstream-deny-unlisted`: public hosts too have to be in one of the two.
    """

    allow: tuple[HostPattern, ...] = ()
    named: frozenset[tuple[str, int]] = frozenset()
    deny_unlisted: bool = False

    def standing(self, host: str, port: int) -> Standing:
        """What is to be checked before `host` may be asked at `port`; raises UpstreamForbidden when nothing can help it."""
        if (host, port) in self.named or any(pattern.matches(host, port) for pattern in self.allow):
            return Standing.LISTED
        if self.deny_unlisted:
            raise UpstreamForbidden(
                f"{host}:{port} is not listed; --upstream-allow {host} would let it be asked", reason="host"
            )
        address = literal(host)
        if address is not None and not is_public(address):
            raise UpstreamForbidden(
                f"{host} is no public address; --upstream-allow {host}:{port} would let it be asked", reason="address"
            )
        return Standing.PUBLIC_ONLY

    def judge_name_behind_proxy(self, host: str, port: int) -> None:
        """Refuse a name that can not be public: behind a proxy its address is never seen here. Raises UpstreamForbidden."""
        if (
            self.standing(host, port) is Standing.PUBLIC_ONLY
            and literal(host) is None
            and _PRIVATE_NAME.fullmatch(host)
        ):
            raise UpstreamForbidden(
                f"{host} is a name inside a network; --upstream-allow {host}:{port} would let the proxy be asked for it",
                reason="host",
            )

    def judged(self, host: str, port: int, addresses: Sequence[Address]) -> tuple[Address, ...]:
        """Those of `addresses` that may be connected to for `host`; raises UpstreamForbidden when there are none."""
        standing = self.standing(host, port)
        if literal(host) is not None:
            return tuple(addresses)
        may = is_public if standing is Standing.PUBLIC_ONLY else may_be_named
        allowed = tuple(address for address in addresses if may(address))
        if not allowed:
            raise UpstreamForbidden(
                f"{host} leads to {addresses[0]}, which is no public address; "
                f"--upstream-allow {host}:{port} would let a private one be asked",
                reason="address",
            )
        return allowed[:_ADDRESSES_MAX]


class Guard:
    """The policy applied: every URL and every connection to an upstream passes here.

    Args:
        policy: who may be asked.
        proxies: `HTTP_PROXY` and its kin. Behind one, DNS is the proxy's: only the name or literal is judged then.
        on_refused: told the reason of each refusal, for `peerd_upstream_refused_total`.
        resolve: DNS; an argument, so that tests can let its answers change.
        timeout_seconds: how long DNS may take.
    """

    def __init__(
        self,
        policy: Policy,
        proxies: Proxies,
        *,
        on_refused: Callable[[str], None],
        resolve: Resolve,
        timeout_seconds: float = 3.0,
    ) -> None:
        self._policy = policy
        self._proxies = proxies
        self._on_refused = on_refused
        self._resolve = resolve
        self._timeout_seconds = timeout_seconds
        # A file of a thousand chunks is asked for by the same text a thousand times, and neither policy nor proxies change.
        self._admitted = lru_cache(_ADMITTED_MAX)(self._parsed)

    def url(self, text: str) -> UpstreamUrl:
        """The URL that a client wrote. Memory only. Raises BadRequest or UpstreamForbidden."""
        try:  # As `counted`, which is more than all that is left to do for a text that was seen before.
            return self._admitted(text)
        except UpstreamForbidden as refusal:
            self._on_refused(refusal.reason)
            raise

    def _parsed(self, text: str) -> UpstreamUrl:
        url = UpstreamUrl.parse(text)
        self._admit(url)
        return url

    def redirected(self, url: UpstreamUrl, location: str) -> UpstreamUrl:
        """Where `url` redirects to. Memory only. Raises UpstreamForbidden, or UpstreamUnavailable for nonsense."""
        with self.counted():
            try:
                target = url.redirected(location)
            except BadRequest as error:
                raise UpstreamUnavailable(f"{url.origin} redirects to what can not be asked: {error}") from error
            self._admit(target)
            return target

    def proxy_for(self, url: UpstreamUrl) -> Proxy | None:
        """The proxy that stands between this node and `url`, if any."""
        return self._proxies.proxy_for(url.origin)

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses at which `host` may be connected to at `port`, best first; never empty.

        Raises:
            UpstreamForbidden: none of them may.
            UpstreamUnavailable: the name has none, or DNS does not answer.
        """
        with self.counted():
            self._policy.standing(host, port)
            address = literal(host)
            found = [address] if address is not None else await self._looked_up(host, port)
            return self._policy.judged(host, port, found)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts the refusal that leaves this block; for rules that stand elsewhere. Not to be nested."""
        try:
            yield
        except UpstreamForbidden as refusal:
            self._on_refused(refusal.reason)
            raise

    async def _looked_up(self, host: str, port: int) -> Sequence[Address]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = await self._resolve(host, port)
        except TimeoutError as error:
            raise UpstreamUnavailable(f"DNS does not answer for {host} in {self._timeout_seconds} s") from error
        except OSError as error:
            raise UpstreamUnavailable(f"DNS knows no address of {host}: {error.strerror}") from error
        if not found:
            raise UpstreamUnavailable(f"DNS knows no address of {host}")
        return found

    def _admit(self, url: UpstreamUrl) -> None:
        self._policy.standing(url.origin.host, url.origin.port)
        if self.proxy_for(url) is not None:
            self._policy.judge_name_behind_proxy(url.origin.host, url.origin.port)


async def resolve(host: str, port: int) -> Sequence[Address]:
    """The addresses of `host` in the order in which they are to be tried (RFC 6724), asked in a thread. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def _glob(pattern: str, text: str) -> bool:
    """Shell wildcards without character classes, whose brackets IPv6 addresses need."""
    expression = "".join({"*": ".*", "?": "."}.get(character) or re.escape(character) for character in pattern)
    return re.fullmatch(expression, text) is not None
