import asyncio

import pytest

from app.content.source import Stat
from app.content.validator import Validator
from app.errors import ContentUnknown, SourceLied, UpstreamRefused, UpstreamUnavailable
from app.upstream.source import UpstreamSource
from tests.upstream.conversation import Asked, Wire, part, response, upstream
from tests.upstream.reading import etag, file

DAY = "Tue, 01 Jul 2025 00:00:00 GMT"


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        pytest.param(
            response(206, b"x", Content_Range="bytes 0-0/10", ETag='"e"', Content_Type="text/plain", Last_Modified=DAY),
            Stat(10, etag('"e"'), "text/plain", ranged=True, last_modified=DAY),
            id="ranges, and a strong ETag",
        ),
        pytest.param(
            response(206, b"x", Content_Range="bytes 0-0/10", ETag='W/"e"', Last_Modified=DAY),
            Stat(10, Validator(None, DAY, 10), last_modified=DAY),
            id="a weak ETag validates nothing; time and size do",
        ),
        pytest.param(response(206, b"x", Content_Range="bytes 0-0/10"), Stat(10, None), id="no validator"),
        pytest.param(response(206, b"x", Content_Range="bytes 0-0/*"), Stat(None, None), id="ranges, but no size"),
        pytest.param(response(200, b"0123456789", ETag='"e"'), Stat(10, etag('"e"'), ranged=False), id="ignores Range"),
        pytest.param(
            response(200, b"0" * 1000, length=10**12),
            Stat(10**12, None, ranged=False),
            id="ignores Range, a long body is left",
        ),
        pytest.param(
            response(200, b"5\r\n01234\r\n0\r\n\r\n", framed=False, Transfer_Encoding="chunked", ETag='"e"'),
            Stat(None, etag('"e"'), ranged=False),
            id="no length",
        ),
    ],
)
async def test_what_the_first_byte_tells(source: UpstreamSource, answer: bytes, want: Stat) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(answer)

    async with upstream(script) as store:
        assert await source.stat(file(f"{store.url}/x")) == want
        assert [(asked.method, asked.headers["range"]) for asked in store.asked] == [("GET", "bytes=0-0")]
        assert store.asked[0].headers["accept-encoding"] == "identity"


async def test_an_empty_file_has_no_first_byte_and_is_asked_for_once_more(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if "range" in asked.headers:
            await wire.send(response(416, Content_Range="bytes */0"))
        else:
            await wire.send(response(200, ETag='"e"', Content_Type="text/plain"))

    async with upstream(script) as store:
        assert await source.stat(file(f"{store.url}/x")) == Stat(0, etag('"e"'), "text/plain", ranged=True)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(response(404), ContentUnknown, id="404"),
        pytest.param(response(410), ContentUnknown, id="410"),
        pytest.param(response(400), UpstreamUnavailable, id="400"),
        pytest.param(response(500), UpstreamUnavailable, id="500, three times"),
        pytest.param(response(206, b"x"), SourceLied, id="a part without Content-Range"),
        pytest.param(response(206, b"x", Content_Range="bytes 1-1/10"), SourceLied, id="another byte"),
        pytest.param(response(206, b"xy", Content_Range="bytes 0-1/10"), SourceLied, id="more bytes"),
        pytest.param(response(206, b"x", Content_Range="bytes 0-0/0"), SourceLied, id="a byte of nothing"),
        pytest.param(response(206, b"x", Content_Range="lines 0-0/10"), SourceLied, id="another unit"),
        pytest.param(response(206, b"x", Content_Range="bytes 9-2/10"), SourceLied, id="a range that is none"),
        pytest.param(
            response(206, b"x", Content_Range="bytes 0-0/10", Content_Encoding="gzip"), SourceLied, id="encoded"
        ),
        pytest.param(response(200, b"x", Content_Encoding="gzip"), SourceLied, id="encoded, the whole"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", UpstreamUnavailable, id="a length that is none"
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", UpstreamUnavailable, id="another protocol"),
        pytest.param(response(206, b"", length=1, Content_Range="bytes 0-0/1"), UpstreamUnavailable, id="ends early"),
    ],
)
async def test_what_can_not_be_used(source: UpstreamSource, answer: bytes, error: type[Exception]) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(answer)
        wire.close()

    async with upstream(script) as store:
        with pytest.raises(error):
            await source.stat(file(f"{store.url}/x"))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_is_passed_on_with_its_challenge(source: UpstreamSource, status: int) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(status, b"no", WWW_Authenticate='Basic realm="x"'))

    async with upstream(script) as store:
        with pytest.raises(UpstreamRefused) as refusal:
            await source.stat(file(f"{store.url}/x"))
    assert (refusal.value.status, refusal.value.challenge) == (status, 'Basic realm="x"')


async def test_a_connection_that_is_refused_is_tried_again_and_then_unavailable(source: UpstreamSource, time) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        raise AssertionError("closed")

    async with upstream(script) as store:
        pass
    with pytest.raises(UpstreamUnavailable, match="refused") as error:
        await source.stat(file(f"{store.url}/x?sig=SECRET"))
    assert error.value.retry_after_seconds is None
    assert len(time.slept) == 2
    assert "SECRET" not in str(error.value)


async def test_an_answer_that_never_ends_is_given_up_though_it_makes_progress(opened) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\n")
        while not wire.writer.is_closing():
            await wire.send(b"X: y\r\n")
            await asyncio.sleep(0.01)

    source = await opened(answer_timeout_seconds=0.2)
    async with upstream(script) as store:
        with pytest.raises(UpstreamUnavailable, match="does not end"):
            await source.stat(file(f"{store.url}/x"))


async def test_one_reset_is_no_failure(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if len(store.asked) == 1:
            wire.reset()
        else:
            await wire.send(part(b"0123456789", asked, ETag='"e"'))

    async with upstream(script) as store:
        assert (await source.stat(file(f"{store.url}/x"))).size == 10


async def test_a_first_look_keeps_its_connection(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(b"0123456789", asked))

    async with upstream(script) as store:
        for name in "abc":
            await source.stat(file(f"{store.url}/{name}"))
        assert store.connections == 1


async def test_no_cookie_goes_from_one_client_to_another(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(b"0123456789", asked, Set_Cookie="session=SECRET"))

    async with upstream(script) as store:
        await source.stat(file(f"{store.url}/a"))
        await source.stat(file(f"{store.url}/b"))
        assert "cookie" not in store.asked[1].headers
