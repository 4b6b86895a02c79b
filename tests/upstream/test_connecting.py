"""Names, addresses, certificates and proxies, on the wire."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.content.byte_range import ByteRange
from app.errors import SourceUnavailable, UpstreamForbidden, UpstreamUnavailable
from app.upstream.config import UpstreamConfig
from app.upstream.proxies import Proxies
from app.upstream.url import Address
from tests.upstream.certificates import Authority
from tests.upstream.conversation import Asked, Wire, listening, part, upstream
from tests.upstream.reading import Bytes, content, etag, fetch, file

DATA = random.Random(2).randbytes(700_000)
ETAG = etag('"e"')


async def honest(asked: Asked, wire: Wire) -> None:
    await wire.send(part(DATA, asked, ETag='"e"'))


class Dns:
    """Answers in the order given, then the last again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        return [ip_address(text) for text in (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])]


async def read_both_ways(source, url: str) -> None:
    """A control call and a transfer."""
    stat = await source.stat(file(url))
    assert await fetch(source, content(file(url), stat.size, ETAG), 5, 600_000) == DATA[5:600_000]


async def test_the_address_that_was_judged_is_connected_to_and_the_name_is_sent(opened) -> None:
    dns = Dns(["127.0.0.1"])
    async with upstream(honest) as store:
        source = await opened(UpstreamConfig(allow=("*.test",)), resolve=dns)
        await read_both_ways(source, f"http://store.test:{store.port}/x")
        assert {asked.headers["host"] for asked in store.asked} == {f"store.test:{store.port}"}
    assert dns.asked == ["store.test"] * 2


async def test_an_answer_of_dns_that_changes_reaches_nobody(opened) -> None:
    """Judged public at first, loopback when it is asked again: there is no second question in between."""
    async with upstream(honest) as store:
        url = f"http://rebind.example:{store.port}/x"
        for dns in (Dns(["127.0.0.1"]), Dns(["192.0.2.1", "127.0.0.1", "::1", "169.254.169.254"])):
            refused: list[str] = []
            source = await opened(UpstreamConfig(), resolve=dns, on_refused=refused.append)
            with pytest.raises(UpstreamForbidden):
                await source.stat(file(url))
            with pytest.raises(UpstreamForbidden):
                await fetch(source, content(file(url), len(DATA)), 0, 5)
            assert refused == ["address", "address"]
            assert len(dns.asked) == 2
        assert store.connections == 0


async def test_the_next_address_is_tried_when_one_does_not_answer(opened) -> None:
    async with upstream(honest) as store:
        # Nobody listens on 127.0.0.9.
        source = await opened(UpstreamConfig(allow=("*.test",)), resolve=Dns(["127.0.0.9", "127.0.0.1"]))
        await read_both_ways(source, f"http://store.test:{store.port}/x")


async def test_no_address_answers(opened) -> None:
    async with upstream(honest) as store:
        port = store.port
    source = await opened(UpstreamConfig(allow=("*.test",)), resolve=Dns(["127.0.0.9", "127.0.0.1"]))
    with pytest.raises(UpstreamUnavailable, match="refused"):
        await source.stat(file(f"http://store.test:{port}/x"))
    with pytest.raises(SourceUnavailable, match="refused"):
        await fetch(source, content(file(f"http://store.test:{port}/x"), len(DATA)), 0, 5)


async def test_a_kept_connection_needs_no_dns(opened) -> None:
    dns = Dns(["127.0.0.1"])
    async with upstream(honest) as store:
        source = await opened(UpstreamConfig(allow=("*.test",)), resolve=dns)
        what = content(file(f"http://store.test:{store.port}/x"), len(DATA), ETAG)
        for _ in range(5):
            await fetch(source, what, 0, 5)
        assert len(dns.asked) == store.connections == 1


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_tls_by_name_at_a_judged_address(opened, authority: Authority) -> None:
    async with upstream(honest, ssl=authority.server("store.test")) as store:
        source = await opened(UpstreamConfig(allow=("*.test",), ca=authority.ca), resolve=Dns(["127.0.0.1"]))
        await read_both_ways(source, f"https://store.test:{store.port}/x")
        assert len(store.asked) == 2


@pytest.mark.parametrize("host", ["other.test", "store.test"], ids=["a certificate of another name", "of a stranger"])
async def test_a_certificate_that_is_not_believed(opened, authority: Authority, tmp_path: Path, host: str) -> None:
    strangers = tmp_path / "stranger"
    strangers.mkdir()
    issuer = authority if host == "other.test" else Authority(strangers)
    async with upstream(honest, ssl=issuer.server(host)) as store:
        source = await opened(UpstreamConfig(allow=("*.test",), ca=authority.ca), resolve=Dns(["127.0.0.1"]))
        url = file(f"https://store.test:{store.port}/x")
        with pytest.raises(UpstreamUnavailable, match="--upstream-ca"):
            await source.stat(url)
        with pytest.raises(SourceUnavailable, match="--upstream-ca"):
            await fetch(source, content(url, len(DATA)), 0, 5)
        assert store.asked == []


async def test_two_names_at_one_address_share_no_connection(opened, authority: Authority) -> None:
    async with upstream(honest, ssl=authority.server("store.test")) as store:
        source = await opened(UpstreamConfig(allow=("*.test",), ca=authority.ca), resolve=Dns(["127.0.0.1"]))
        await read_both_ways(source, f"https://store.test:{store.port}/x")
        with pytest.raises(UpstreamUnavailable, match="certificate"):
            await source.stat(file(f"https://other.test:{store.port}/x"))
        with pytest.raises(SourceUnavailable, match="certificate"):
            await fetch(source, content(file(f"https://other.test:{store.port}/x"), len(DATA)), 0, 5)


async def test_cancelling_within_tls_gives_no_ciphertext_to_the_sink(opened, authority: Authority) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await wire.send(part(DATA, asked, ETag='"e"')[:-1])
            await wire.gone()

    async with upstream(script, ssl=authority.server("store.test")) as store:
        source = await opened(UpstreamConfig(allow=("*.test",), ca=authority.ca), resolve=Dns(["127.0.0.1"]))
        what = content(file(f"https://store.test:{store.port}/x"), len(DATA), ETAG)
        for _ in range(10):
            sink = Bytes()
            task = asyncio.create_task(next(source.offers(what, 0)).fetch(ByteRange(1, len(DATA)), sink))
            assert await asyncio.to_thread(sink.written.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert DATA[1:].startswith(bytes(sink.data))


async def test_a_ca_file_that_is_none(opened, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--upstream-ca"):
        await opened(UpstreamConfig(ca=tmp_path / "missing.pem"))


@dataclass
class RunningProxy:
    port: int = 0
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def proxy(to: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RunningProxy]:
    """Forwards and tunnels everything to 127.0.0.1:`to`, whatever name was asked for."""
    running = RunningProxy()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            running.heads.append(head.decode())
            there, out = await asyncio.open_connection("127.0.0.1", to)
            if head.startswith(b"CONNECT "):
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                out.write(head)
            await asyncio.gather(copy(reader, out), copy(there, writer))

    async with listening(serve, ssl=tls) as running.port:
        yield running


def environment(port: int, scheme: str = "http") -> Proxies:
    url = f"{scheme}://me:secret@127.0.0.1:{port}"
    return Proxies.from_environment({"HTTP_PROXY": url, "HTTPS_PROXY": url})


async def never(host: str, port: int) -> Sequence[Address]:
    raise AssertionError("behind a proxy, DNS is the proxy's")


async def test_http_through_a_proxy(opened) -> None:
    async with upstream(honest) as store, proxy(store.port) as between:
        source = await opened(UpstreamConfig(proxies=environment(between.port)), resolve=never)
        await read_both_ways(source, "http://store.example//x%2b?sig=%2f")
        assert [head.split("\r\n")[0] for head in between.heads] == [
            "GET http://store.example//x%2b?sig=%2f HTTP/1.1"
        ] * 2
        assert all("proxy-authorization: basic bwu6c2vjcmv0" in head.lower() for head in between.heads)
        assert {asked.headers["host"] for asked in store.asked} == {"store.example"}


@pytest.mark.parametrize("scheme", ["http", "https"], ids=["a proxy in the clear", "a proxy over TLS"])
async def test_https_through_a_proxy(opened, authority: Authority, scheme: str) -> None:
    tls = authority.server("localhost") if scheme == "https" else None
    async with (
        upstream(honest, ssl=authority.server("store.example")) as store,
        proxy(store.port, tls=tls) as between,
    ):
        url = f"{scheme}://me:secret@localhost:{between.port}"
        proxies = Proxies.from_environment({"HTTPS_PROXY": url})
        source = await opened(UpstreamConfig(proxies=proxies, ca=authority.ca), resolve=never)
        await read_both_ways(source, "https://store.example//x%2b?sig=%2f")
        assert [head.split(" ")[:2] for head in between.heads] == [["CONNECT", "store.example:443"]] * 2
        assert all("proxy-authorization: basic bwu6c2vjcmv0" in head.lower() for head in between.heads)
        assert {asked.target for asked in store.asked} == {"//x%2b?sig=%2f"}
        assert all("proxy-authorization" not in asked.headers for asked in store.asked)


async def test_behind_a_proxy_what_is_inside_is_still_refused(opened) -> None:
    async with upstream(honest) as store, proxy(store.port) as between:
        source = await opened(UpstreamConfig(proxies=environment(between.port)), resolve=never)
        for url in ("http://169.254.169.254/", "http://metadata.google.internal/", "http://[fd00:ec2::254]/"):
            with pytest.raises(UpstreamForbidden):
                await source.stat(file(url))
        assert between.heads == []


async def test_who_is_exempt_is_asked_straight(opened) -> None:
    async with upstream(honest) as store, proxy(store.port) as between:
        proxies = Proxies.from_environment({"HTTP_PROXY": f"http://127.0.0.1:{between.port}", "NO_PROXY": ".test"})
        source = await opened(UpstreamConfig(proxies=proxies, allow=("*.test",)), resolve=Dns(["127.0.0.1"]))
        await read_both_ways(source, f"http://store.test:{store.port}/x")
        assert between.heads == []
