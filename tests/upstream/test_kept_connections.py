"""Which connections to upstream serve one exchange after the other, and which may not."""

import asyncio
import contextlib
import random

import pytest

from app.errors import PeerdError
from app.upstream.source import UpstreamSource
from tests.upstream.conversation import Asked, Wire, part, response, upstream
from tests.upstream.reading import content, etag, fetch, file

DATA = random.Random(1).randbytes(20_017)
SIZE = len(DATA)


async def honest(asked: Asked, wire: Wire) -> None:
    await wire.send(part(DATA, asked, ETag='"e"'))


async def test_connections_are_kept(source: UpstreamSource) -> None:
    async with upstream(honest) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'))
        for start in range(5):
            await fetch(source, what, start, start + 1000)
        await fetch(source, what, 0, SIZE)
        assert store.connections == 1


async def test_a_kept_connection_that_upstream_has_closed_is_no_failure(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if len(store.asked) == 2:
            wire.close()
        else:
            await wire.send(part(DATA, asked, ETag='"e"'))

    async with upstream(script) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'))
        assert await fetch(source, what, 0, 9) == DATA[:9]
        assert await fetch(source, what, 9, 20) == DATA[9:20]
        assert store.connections == 2


@pytest.mark.parametrize("closes", [True, False])
async def test_what_upstream_says_between_two_exchanges_is_no_answer(source: UpstreamSource, closes: bool) -> None:
    """As a server that is tired of waiting for a request and says 408 (RFC 9110, section 15.5.9)."""

    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(DATA, asked, ETag='"e"'))
        if len(store.asked) == 1:
            await asyncio.sleep(0.1)
            await wire.send(response(408, connection="close"))
            if closes:
                wire.close()

    async with upstream(script) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'))
        assert await fetch(source, what, 0, 9) == DATA[:9]
        await asyncio.sleep(0.3)
        assert await fetch(source, what, 9, 20) == DATA[9:20]
        assert store.connections == 2


@pytest.mark.parametrize(
    "head",
    [
        "404 Not Found\r\nContent-Length: 0\r\nContent-Length: 20000",
        "404 Not Found\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
        "404 Not Found\r\nContent-Length: \xb2",
        "101 Switching Protocols\r\nContent-Length: 0",
    ],
)
async def test_a_connection_whose_answer_may_go_on_is_not_kept(source: UpstreamSource, head: str) -> None:
    """What comes behind would be taken for the answer to the next request."""

    async def script(asked: Asked, wire: Wire) -> None:
        if len(store.asked) > 1:
            await wire.send(part(DATA, asked, ETag='"e"'))
            return
        await wire.send(f"HTTP/1.1 {head}\r\n\r\n".encode("latin-1"))
        await asyncio.sleep(0.1)
        with contextlib.suppress(ConnectionError):
            await wire.send(response(206, b"evil", Content_Range=f"bytes 0-3/{SIZE}", ETag='"e"'))

    async with upstream(script) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'))
        with pytest.raises(PeerdError):
            await fetch(source, what, 0, 4)
        await asyncio.sleep(0.2)
        assert await fetch(source, what, 0, 4) == DATA[:4]
        assert store.connections > 1
