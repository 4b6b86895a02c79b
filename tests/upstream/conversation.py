"""A server on loopback that says exactly what a test tells it to, and remembers what it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request as it stood on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@dataclass
class Wire:
    """What a script may do with the connection."""

    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """An orderly end (FIN)."""
        self.writer.close()

    def reset(self) -> None:
        """A disorderly end (RST)."""
        import socket
        import struct

        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return once the client has hung up."""
        while await self.reader.read(65536):
            pass


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Script = Callable[[Asked, Wire], Awaitable[None]]


@dataclass
class Upstream:
    """The running server."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.netloc}"


def response(
    status: int = 200, body: bytes = b"", *, length: int | None = None, framed: bool = True, **headers: str
) -> bytes:
    """An answer; header names with underscores for dashes. `length` overrides the true one, `framed=False` leaves it out."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    if framed:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def part(data: bytes, asked: Asked, **headers: str) -> bytes:
    """What an honest server answers to a request for one range of `data`."""
    if "range" not in asked.headers:
        return response(200, data, **headers)
    first, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last) + 1, len(data))
    return response(206, data[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}", **headers)


@asynccontextmanager
async def listening(serve: Serve, *, ssl=None) -> AsyncIterator[int]:
    """The port of a server on loopback; at the end its connections are cut and their handlers waited for."""
    handlers: dict[asyncio.Task, asyncio.StreamWriter] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers[asyncio.current_task()] = writer
        await serve(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        del handlers[asyncio.current_task()]

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=ssl)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # Again and again: a connection that was just accepted gets its handler at the next turn.
        while handlers:
            for writer in handlers.values():
                writer.transport.abort()
            await asyncio.wait(handlers, timeout=0.1)


@asynccontextmanager
async def upstream(script: Script, *, ssl=None) -> AsyncIterator[Upstream]:
    """A server that answers each request by `script`, on connections that stay open unless the script ends them."""
    running = Upstream(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.connections += 1
        wire = Wire(writer, reader)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request_line, *lines = head.decode("latin-1").split("\r\n")
                method, target, _ = request_line.split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(method, target, headers, body)
                running.asked.append(asked)
                await script(asked, wire)
        except (asyncio.IncompleteReadError, OSError):
            pass

    async with listening(serve, ssl=ssl) as running.port:
        yield running
