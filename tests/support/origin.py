"""An upstream that says exactly what a test tells it to, in a thread beside the test."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.upstream.conversation import Asked, Script, Upstream, Wire, part, response, upstream


class Origin:
    """One that runs. A script answers the requests for its path, whatever their query; other paths are 404."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._started, self._ended = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._server: Upstream

    @property
    def netloc(self) -> str:
        return self._server.netloc

    @property
    def url(self) -> str:
        return f"http://{self.netloc}"

    def at(self, path: str, script: Script) -> str:
        """Answer `path` by `script` from now on; returns its URL."""
        self._scripts[path] = script
        return f"{self.url}{path}"

    def asked_for(self, path: str) -> list[Asked]:
        """The requests for a path so far."""
        return [asked for asked in self._server.asked if _path(asked) == path]

    async def _answer(self, asked: Asked, wire: Wire) -> None:
        script = self._scripts.get(_path(asked))
        await (script(asked, wire) if script else wire.send(response(404)))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with upstream(self._answer) as self._server:
            self._started.set()
            await self._ended.wait()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Origin"]:
        """An origin within this block."""
        origin = cls()
        thread = threading.Thread(target=lambda: asyncio.run(origin._serve()), name="origin")
        thread.start()
        try:
            assert origin._started.wait(10), "the origin did not start"
            yield origin
        finally:
            origin._loop.call_soon_threadsafe(origin._ended.set)
            thread.join()


def _path(asked: Asked) -> str:
    # Not urlsplit: what begins with two slashes is a host to it.
    return asked.target.partition("?")[0]


def file(data: bytes, **headers: str) -> Script:
    """An honest server of a file that takes ranges; `headers` with underscores for dashes, as `ETag` or `Last_Modified`."""

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.method == "HEAD":
            await wire.send(response(length=len(data), **headers))
        else:
            await wire.send(part(data, asked, **headers))

    return script


def always(answer: bytes) -> Script:
    """The same answer to everybody."""

    async def script(_asked: Asked, wire: Wire) -> None:
        await wire.send(answer)

    return script


def then_close(answer: bytes) -> Script:
    """The same, and an orderly end of the connection: how a body without a length ends, or one breaks off."""

    async def script(_asked: Asked, wire: Wire) -> None:
        await wire.send(answer)
        wire.close()

    return script
