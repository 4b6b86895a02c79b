"""Doors: listening sockets with an application behind each, and their life from bind to drain."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn

from app.server.at_once import Answerer
from app.server.bounded import BoundedRequests
from app.server.certificates import Certificates
from app.settings import Address

log = logging.getLogger(__name__)

App = Callable[..., Any]
"""An ASGI application."""

KEEP_ALIVE_SECONDS = 75
"""As nginx. Members' pools and containerd keep connections for longer than uvicorn's 5 s."""

BACKLOG = 2048


class DoorError(Exception):
    """A door can not be opened."""


@dataclass(frozen=True, slots=True)
class Door:
    """One open door. `address` names the port that was really bound."""

    name: str
    address: Address
    server: uvicorn.Server

    def close(self) -> None:
        """Stop accepting; running answers have as long as the door was opened with, from now on. Returns at once."""
        self.server.should_exit = True


def bind(name: str, address: Address) -> socket.socket:
    """Listen at `address`. Raises DoorError, which says what is wrong with which option."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise DoorError(f"{name}: can not listen on {address}: {error.strerror or error}") from error


@asynccontextmanager
async def open_door(
    name: str,
    listener: socket.socket,
    app: App,
    *,
    tls: Certificates | None = None,
    answerer: Answerer[Any] | None = None,
    drain_seconds: float,
) -> AsyncIterator[Door]:
    """Serve `app` on `listener`, but what `answerer` has at hand; at the end, or at `Door.close`, stop accepting and let running answers end for `drain_seconds`."""
    config = uvicorn.Config(
        app,
        http=cast("Any", partial(BoundedRequests, answerer=answerer)),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Nobody stands between a client of this node and its door.
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        backlog=BACKLOG,
    )
    config.load()
    if tls is not None:
        config.ssl = tls.door
    server = _Server(config)
    host, port = listener.getsockname()[:2]
    serving = asyncio.get_running_loop().create_task(server.serve([listener]), name=f"door {name}")
    try:
        while not server.started:
            if serving.done():
                await serving
                raise DoorError(f"{name}: the server ended at once")
            await asyncio.sleep(0.005)
        log.info("%s listens on %s", name, Address(host, port))
        yield Door(name, Address(host, port), server)
    finally:
        server.should_exit = True
        await serving
        for connection in list(server.server_state.connections):  # Their time to drain is over.
            connection.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: who runs several doors decides when they close."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone."""
        yield
