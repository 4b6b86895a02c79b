"""Control calls: tokens, manifests, the first look at a content. Short answers, on the loop, over httpx.

Owns: the seam between the guard and httpx. The guard hands out addresses at connect time, below the connection pool, so
that connections are still kept by name: two names at one address never share a connection whose certificate was checked
for one of them.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import httpcore
import httpx

from app.errors import UpstreamUnavailable
from app.upstream.exchange import Answer, Hop
from app.upstream.guard import Guard
from app.upstream.pinned import reason
from app.upstream.proxies import Proxy

# The key of a request's extension that carries its target; not httpcore's own "target", which would also replace the
# absolute form that a forwarding proxy needs.
_TARGET = "peerd_target"
_CONNECTIONS_MAX = 64
_IDLE_MAX = 16
_IDLE_SECONDS_MAX = 50.0


class ControlClient:
    """Sends one request and reads one short answer; follows nothing and retries nothing.

    Beside the time-outs for progress there is one for the whole: a server that sends a header byte now and then makes
    progress for ever.
    """

    def __init__(
        self,
        guard: Guard,
        tls: ssl.SSLContext,
        *,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        answer_timeout_seconds: float,
    ) -> None:
        self._answer_timeout_seconds = answer_timeout_seconds
        self._guard = guard
        self._timeout = httpx.Timeout(read_timeout_seconds, connect=connect_timeout_seconds)
        self._tls = tls
        self._transports: dict[Proxy | None, _Transport] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for transport in self._transports.values():
            await transport.aclose()

    async def send(
        self,
        method: str,
        hop: Hop,
        *,
        headers: Mapping[str, str],
        body_bytes_max: int,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask `hop`; the body is read when it has at most `body_bytes_max` bytes, else the connection is closed on it.

        Raises:
            UpstreamForbidden: the name leads to an address that may not be asked.
            UpstreamUnavailable: not connected, or no whole answer in time.
        """
        proxy = self._guard.proxy_for(hop.url)
        sent = {"Host": hop.url.netloc, "Accept-Encoding": "identity", "User-Agent": "peerd", **headers}
        if hop.authorization is not None:
            sent["Authorization"] = hop.authorization
        # The URL that httpx parses, mends and logs is the origin's only; the target goes past it, byte for byte.
        origin = hop.url.origin
        request = httpx.Request(
            method,
            httpx.URL(scheme=origin.scheme, host=origin.host, port=origin.port),
            headers=sent,
            data=form,
            extensions={"timeout": self._timeout.as_dict(), _TARGET: hop.url.target.encode("ascii")},
        )
        try:
            async with asyncio.timeout(self._answer_timeout_seconds):
                answer = await self._transport(proxy).handle_async_request(request)
                try:
                    return Answer(answer.status_code, answer.headers, await _short_body(answer, body_bytes_max))
                finally:
                    await answer.aclose()
        except TimeoutError as error:
            raise UpstreamUnavailable(f"{origin} does not end its answer") from error
        except httpx.TransportError as error:
            raise UpstreamUnavailable(f"{origin} can not be asked: {reason(error)}") from error

    def _transport(self, proxy: Proxy | None) -> "_Transport":
        # No client of httpx's around it: that looks where a redirect leads, wanted or not, and falls over what is no URL; and it
        # keeps cookies, so that one client's session might become another's.
        if proxy not in self._transports:
            self._transports[proxy] = _Transport(_pool(self._guard, self._tls, proxy))
        return self._transports[proxy]


@contextmanager
def _translated(request: httpx.Request) -> Iterator[None]:
    """Raise httpcore's errors as httpx's, which is what a transport of httpx owes its client."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(type(error).__name__, request=request) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, httpcore.UnsupportedProtocol) as error:
        raise httpx.TransportError(type(error).__name__, request=request) from error


async def _short_body(answer: httpx.Response, bytes_max: int) -> bytes | None:
    """The body as it came over the wire, or None when it is longer than `bytes_max`."""
    length = answer.headers.get("Content-Length", "0")
    if answer.request.method != "HEAD" and length.isdigit() and int(length) > bytes_max:
        return None
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > bytes_max:
            return None
    return bytes(body)


def _pool(guard: Guard, tls: ssl.SSLContext, proxy: Proxy | None) -> httpcore.AsyncConnectionPool:
    if proxy is None:
        return httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=_CONNECTIONS_MAX,
            max_keepalive_connections=_IDLE_MAX,
            keepalive_expiry=_IDLE_SECONDS_MAX,
            network_backend=_CheckedBackend(guard),
        )
    return httpcore.AsyncHTTPProxy(
        proxy_url=str(proxy.origin),
        proxy_headers={"Proxy-Authorization": proxy.authorization} if proxy.authorization else None,
        ssl_context=tls,
        proxy_ssl_context=tls if proxy.origin.scheme == "https" else None,
        max_connections=_CONNECTIONS_MAX,
        max_keepalive_connections=_IDLE_MAX,
        keepalive_expiry=_IDLE_SECONDS_MAX,
    )


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that the guard hands out for a name, one after the other."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._guard.addresses(host, port)
        share = None if timeout is None else max(timeout / len(addresses), min(1.0, timeout))
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("no address to connect to")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class _Transport(httpx.AsyncBaseTransport):
    """httpx over a pool of httpcore's that was made here: httpx's own transport takes no network backend."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.extensions[_TARGET],
        )
        with _translated(request):
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions={"timeout": request.extensions["timeout"]},
                )
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Stream(answer, request), request=request)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    """The body of httpcore's answer, with httpx's errors."""

    def __init__(self, answer: httpcore.Response, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated(self._request):
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
