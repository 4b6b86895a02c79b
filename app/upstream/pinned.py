"""A blocking HTTP connection to an address that was judged before.

Owns: the seam between the guard's addresses and urllib3. The name goes into SNI, certificate check and `Host`; the socket
goes to the address; no resolver is asked in between.
"""

import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError

from app.http1 import NotHttp, be_patient
from app.upstream.proxies import Proxy
from app.upstream.url import UpstreamUrl

# What a connection and its responses raise; translated where the exchange ends.
CONNECTION_ERRORS = (OSError, HTTPException, HTTPError)
# With several addresses each gets its share of the time to connect, but not less than a round trip around the world and a
# repeated SYN (RFC 6298: 1 s).
_CONNECT_SECONDS_MIN = 1.0


class _ToAddresses(HTTPConnection):
    """`http`, connected to the first of `addresses` that answers."""

    addresses: Sequence[str] = ()
    connect_timeout_seconds: float = 3.0

    def _new_conn(self) -> socket.socket:
        # The override point that urllib3's own SOCKS connections use (urllib3.contrib.socks).
        share = max(self.connect_timeout_seconds / len(self.addresses), _CONNECT_SECONDS_MIN)
        failure: OSError = OSError("no address to connect to")
        for address in self.addresses:
            try:
                connected = socket.create_connection((address, self.port), share)
            except OSError as error:
                failure = error
            else:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connected
        raise failure


class _TlsToAddresses(HTTPSConnection, _ToAddresses):
    """`https`, connected likewise; the certificate is checked against the name."""


@dataclass(frozen=True, slots=True)
class Dialler:
    """Makes connections; one for all threads.

    Attributes:
        tls: whose certificates are believed, for upstreams and for proxies.
        connect_timeout_seconds: for TCP and TLS each.
        read_timeout_seconds: without progress, once connected.
    """

    tls: ssl.SSLContext
    connect_timeout_seconds: float
    read_timeout_seconds: float

    def dial(self, url: UpstreamUrl, proxy: Proxy | None, addresses: Sequence[str]) -> HTTPConnection:
        """Connect to `url`'s origin, or to `proxy` on the way there, at one of `addresses`. Blocks; raises CONNECTION_ERRORS."""
        connection = self._unconnected(url, proxy)
        connection.addresses = addresses
        connection.connect_timeout_seconds = self.connect_timeout_seconds
        try:
            connection.connect()
            be_patient(connection.sock, self.read_timeout_seconds)
        except BaseException:
            connection.close()
            raise
        return connection

    def _unconnected(self, url: UpstreamUrl, proxy: Proxy | None) -> _ToAddresses:
        upstream, first = url.origin, proxy.origin if proxy else url.origin
        timeout = self.connect_timeout_seconds
        if "https" not in (upstream.scheme, first.scheme):
            return _ToAddresses(first.host, first.port, timeout=timeout)
        connection = _TlsToAddresses(
            first.host,
            first.port,
            timeout=timeout,
            ssl_context=self.tls,
            proxy_config=ProxyConfig(
                self.tls, use_forwarding_for_https=False, assert_hostname=None, assert_fingerprint=None
            ),
        )
        if proxy is not None and upstream.scheme == "https":
            headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
            connection.set_tunnel(upstream.host, upstream.port, headers, scheme=first.scheme)
        return connection


def request_target(url: UpstreamUrl, proxy: Proxy | None) -> str:
    """What stands on the request line: the client's bytes; in absolute form for a forwarding proxy (RFC 9112, 3.2.2)."""
    return str(url) if proxy is not None and url.origin.scheme == "http" else url.target


def proxy_headers(url: UpstreamUrl, proxy: Proxy | None) -> dict[str, str]:
    """What a forwarding proxy wants to see in each request; a tunnel is paid for once."""
    if proxy is None or proxy.authorization is None or url.origin.scheme != "http":
        return {}
    return {"Proxy-Authorization": proxy.authorization}


def reason(error: Exception) -> str:
    """What went wrong, for a message: never `str(error)` of a library, which may hold the URL and its signature."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}; --upstream-ca names a CA file"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, NotHttp):
        return str(error)
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS fails: {error.reason}"
    # The number's own text: asyncio puts the address into `strerror`, which is said already.
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, Exception) and cause is not error:
        return reason(cause)
    return type(error).__name__
