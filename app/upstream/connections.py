"""Byte transfers in threads: one blocking exchange each, over connections that are kept.

Owns: which connections are kept and for how long, and how a transfer that nobody wants any more is called off at once.
urllib3's connections do TLS and tunnels; its pools are not used, since they mend the request target (`%2b` becomes `%2B`) and
look names up by themselves, nor its responses, which put each piece of a body into new memory (`app.http1`).
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from urllib3.connection import HTTPConnection
from urllib3.util.ssltransport import SSLTransport

from app.content.source import Abandoned
from app.errors import UpstreamUnavailable
from app.http1 import Response, ask, is_quiet
from app.upstream.exchange import Answer, Hop
from app.upstream.guard import Guard
from app.upstream.pinned import CONNECTION_ERRORS, Dialler, proxy_headers, reason, request_target
from app.upstream.proxies import Proxy
from app.upstream.url import Origin

# A body that is not wanted is read to its end when it is this short: cheaper than another TLS handshake.
_DRAIN_BYTES_MAX = 64 * 1024
# nginx keeps idle connections 75 s, most load balancers 60 s: ours end first, so that a request seldom meets a closing one.
_IDLE_SECONDS_MAX = 50.0

Receive = Callable[[Answer, Response], bool]
"""Takes an answer's body, in the thread; returns whether it was read to its end. Its errors pass through."""


Connect = Callable[[], HTTPConnection]
"""Gives a connected connection; blocks, in the thread."""


@dataclass(frozen=True, slots=True)
class _Idle:
    origin: Origin
    proxy: Proxy | None
    connection: HTTPConnection
    since: float


class IdleConnections:
    """Connections between two exchanges, newest used first. Safe to call from threads; never blocks for long."""

    def __init__(
        self, *, per_origin_max: int = 8, total_max: int = 64, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_origin_max = per_origin_max
        self._total_max = total_max
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._closed = False

    def take(self, origin: Origin, proxy: Proxy | None) -> HTTPConnection | None:
        """A connection to `origin` by way of `proxy` that was open when it was put here."""
        with self._lock:
            self._drop_old()
            for index in range(len(self._idle) - 1, -1, -1):
                if (self._idle[index].origin, self._idle[index].proxy) == (origin, proxy):
                    return self._idle.pop(index).connection
        return None

    def put(self, origin: Origin, proxy: Proxy | None, connection: HTTPConnection) -> None:
        """Keep `connection`, whose last answer was read to its end; the oldest make room."""
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._idle.append(_Idle(origin, proxy, connection, self._clock()))
            same = [idle for idle in self._idle if (idle.origin, idle.proxy) == (origin, proxy)]
            if surplus := same[: -self._per_origin_max] or self._idle[: -self._total_max]:
                self._drop(surplus)

    def close(self) -> None:
        """Close all, and all that are put back from now on."""
        with self._lock:
            self._closed = True
            self._drop(self._idle)

    def _drop_old(self) -> None:
        since_min = self._clock() - _IDLE_SECONDS_MAX
        if self._idle and self._idle[0].since < since_min:  # Those that were put here first come first.
            self._drop([idle for idle in self._idle if idle.since < since_min])

    def _drop(self, idle: list[_Idle]) -> None:
        for one in idle:
            one.connection.close()
        self._idle = [one for one in self._idle if one not in idle]

    def __repr__(self) -> str:
        return f"<IdleConnections {len(self._idle)} of {self._total_max}>"


class ByteConnections:
    """Exchanges whose bodies are worth a thread."""

    def __init__(self, guard: Guard, dialler: Dialler, executor: Executor, idle: IdleConnections) -> None:
        self._guard = guard
        self._dialler = dialler
        self._executor = executor
        self._idle = idle

    async def exchange(self, hop: Hop, headers: Mapping[str, str], receive: Receive) -> Answer:
        """`GET` what `hop` names; `receive` is called in a thread with a 200 or 206, other bodies are thrown away.

        Cancelling closes the connection, so that the thread wakes at once, and waits for the thread: once this has
        returned, nothing is received any more.

        Raises:
            UpstreamForbidden: the name leads to an address that may not be asked.
            UpstreamUnavailable: not connected, or no answer in time.
            whatever `receive` raises.
        """
        proxy = self._guard.proxy_for(hop.url)
        kept = self._idle.take(hop.url.origin, proxy)
        if kept is not None:
            # Upstream may have closed it while we picked it up; a GET may be sent again (RFC 9110, section 9.2.2).
            with contextlib.suppress(_Stale):
                return await self._in_thread(hop, headers, receive, proxy, lambda: _still_open(kept))
        if proxy is not None:
            addresses = [proxy.origin.host]
        else:
            addresses = [str(one) for one in await self._guard.addresses(hop.url.origin.host, hop.url.origin.port)]
        try:
            return await self._in_thread(
                hop, headers, receive, proxy, lambda: self._dialler.dial(hop.url, proxy, addresses)
            )
        except _Stale as stale:
            raise UpstreamUnavailable(f"{hop.url.origin} can not be asked: {stale}") from stale

    async def _in_thread(
        self, hop: Hop, headers: Mapping[str, str], receive: Receive, proxy: Proxy | None, connect: Connect
    ) -> Answer:
        exchange = _Exchange(hop, headers, receive, proxy=proxy, connect=connect, idle=self._idle)
        running = self._executor.submit(exchange.run)
        try:
            await _end_of(running)
        except asyncio.CancelledError:
            if not running.cancel():
                exchange.abort()
                await _end_of(running)
                running.exception()
            raise
        return running.result()


async def _end_of(running: Future[Answer]) -> None:
    """Return when a thread is done; cancelling leaves it alone. asyncio's own wrapping of such futures takes three of them and as many turns."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
            loop.call_soon_threadsafe(settle)

    running.add_done_callback(tell)
    await ended


class _Stale(Exception):
    """The connection ended before the first byte of an answer."""


class _Exchange:
    """One request and its answer, in a thread of the executor."""

    def __init__(
        self,
        hop: Hop,
        headers: Mapping[str, str],
        receive: Receive,
        *,
        proxy: Proxy | None,
        connect: Connect,
        idle: IdleConnections,
    ) -> None:
        self._hop = hop
        self._headers = {"Host": hop.url.netloc, **headers, **proxy_headers(hop.url, proxy)}
        if hop.authorization is not None:
            self._headers["Authorization"] = hop.authorization
        self._receive = receive
        self._proxy = proxy
        self._connect = connect
        self._idle = idle
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self._aborted = False

    def run(self) -> Answer:
        connection = self._opened()
        reusable = False
        try:
            response = self._asked(connection)
            with response:
                answer = Answer(response.status, response.headers)
                complete = (
                    self._receive(answer, response) if response.status in (200, 206) else _drain(answer, response)
                )
                reusable = complete and not response.will_close
            return answer
        finally:
            self._done(connection, reusable=reusable)

    def abort(self) -> None:
        """Wake the thread: whatever it waits for on its socket ends now. Called from the loop."""
        with self._lock:
            self._aborted = True
            if self._wire is not None:
                # Not SSLSocket's own shutdown: it forgets the TLS state first, and the thread would go on to read the
                # ciphertext that is still in the buffer as if it were the body.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def _opened(self) -> HTTPConnection:
        try:
            connection = self._connect()
        except CONNECTION_ERRORS as error:
            raise _Stale(reason(error)) from error
        with self._lock:
            if not self._aborted and connection.sock is not None:
                # TLS within TLS (a proxy's) is no socket.
                self._wire = connection.sock.socket if isinstance(connection.sock, SSLTransport) else connection.sock
                return connection
        connection.close()
        raise Abandoned

    def _asked(self, connection: HTTPConnection) -> Response:
        try:
            return ask(connection.sock, "GET", request_target(self._hop.url, self._proxy), self._headers)
        except CONNECTION_ERRORS as error:
            raise _Stale(reason(error)) from error

    def _done(self, connection: HTTPConnection, *, reusable: bool) -> None:
        with self._lock:
            self._wire = None
            if self._aborted or not reusable:
                connection.close()
                return
        self._idle.put(self._hop.url.origin, self._proxy, connection)


def _still_open(kept: HTTPConnection) -> HTTPConnection:
    """Raise _Stale where upstream has closed it, or said something that nobody asked for: a 408 would be taken for an answer.

    Asked in the thread: a system call there keeps nobody waiting.
    """
    if kept.sock is None or not is_quiet(kept.sock):
        kept.close()
        raise _Stale("closed between two exchanges")
    return kept


def _drain(answer: Answer, response: Response) -> bool:
    """Read a short body that nobody wants, so that its connection can be kept; says whether it was.

    Where it is not certain that the answer ends there, or is the last one to its request, the next one would be taken for another's.
    """
    length = answer.headers.get("Content-Length", "")  # Of several all, which is no number then.
    if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in answer.headers or answer.status < 200:
        return False
    if int(length) > _DRAIN_BYTES_MAX:
        return False
    try:
        return len(response.read(_DRAIN_BYTES_MAX + 1)) == int(length)
    except CONNECTION_ERRORS:
        return False
