import asyncio
import random

import pytest

from app.content.byte_range import ByteRange
from app.content.location import FileAtUrl
from app.content.source import SourceKind
from app.content.validator import Validator
from app.errors import (
    ContentChanged,
    ContentUnknown,
    RangesUnsupported,
    SourceLied,
    SourceUnavailable,
    UpstreamForbidden,
    UpstreamRefused,
    UpstreamUnavailable,
)
from app.upstream.config import UpstreamConfig
from app.upstream.source import UpstreamSource
from tests.upstream.conversation import Asked, Wire, part, response, upstream
from tests.upstream.reading import Bytes, content, etag, fetch, file

DATA = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
SIZE = len(DATA)
DAY, OTHER_DAY = "Tue, 01 Jul 2025 00:00:00 GMT", "Wed, 02 Jul 2025 00:00:00 GMT"


async def honest(asked: Asked, wire: Wire) -> None:
    await wire.send(part(DATA, asked, ETag='"e"'))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 1024 * 1024), (SIZE - 1, SIZE), (17, 2 * 1024 * 1024), (1, SIZE), (0, SIZE)]
)
async def test_ranges(source: UpstreamSource, start: int, stop: int) -> None:
    async with upstream(honest) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'))
        assert await fetch(source, what, start, stop) == DATA[start:stop]


async def test_the_request_on_the_wire_is_the_clients_byte_for_byte(source: UpstreamSource) -> None:
    target = "//a%2bb/%2B/../c;p=1/.//d?sig=%2f%2F+a%20b&b=1&a=2&&x=~'()*!$@:"
    async with upstream(honest) as store:
        location = file(store.url + target)
        await source.stat(location)
        await fetch(source, content(location, SIZE, etag('"e"')), 5, 9)
        await fetch(source, content(location, SIZE, etag('"e"')), 0, SIZE)
        assert [asked.target for asked in store.asked] == [target] * 3
        assert {asked.headers["host"] for asked in store.asked} == {store.netloc}
        assert {asked.headers["accept-encoding"] for asked in store.asked} == {"identity"}


async def test_what_is_asked_for_a_range_and_for_the_whole(source: UpstreamSource) -> None:
    async with upstream(honest) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'))
        await fetch(source, what, 5, 9)
        await fetch(source, what, 0, SIZE)
        ranged, whole = store.asked
    assert (ranged.headers["range"], ranged.headers["if-range"]) == ("bytes=5-8", '"e"')
    assert "range" not in whole.headers
    assert "if-range" not in whole.headers


async def test_a_time_is_no_if_range(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(DATA, asked, Last_Modified=DAY))

    async with upstream(script) as store:
        await fetch(source, content(file(f"{store.url}/x"), SIZE, Validator(None, DAY, SIZE)), 5, 9)
        assert "if-range" not in store.asked[0].headers


HONEST_PART = {"Content_Range": f"bytes 5-8/{SIZE}", "ETag": '"e"'}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(response(206, DATA[5:9], ETag='"e"'), SourceLied, id="a part without Content-Range"),
        pytest.param(
            response(206, DATA[6:10], Content_Range=f"bytes 6-9/{SIZE}", ETag='"e"'), SourceLied, id="another start"
        ),
        pytest.param(
            response(206, DATA[5:10], Content_Range=f"bytes 5-9/{SIZE}", ETag='"e"'), SourceLied, id="another end"
        ),
        pytest.param(
            response(206, DATA[5:8], Content_Range=f"bytes 5-7/{SIZE}", ETag='"e"'), SourceLied, id="an earlier end"
        ),
        pytest.param(
            response(206, DATA[5:9], Content_Range="bytes 5-8/100", ETag='"e"'), SourceLied, id="another total"
        ),
        pytest.param(response(206, DATA[5:10], **HONEST_PART), SourceLied, id="a longer body than it says"),
        pytest.param(response(206, DATA[5:8], **HONEST_PART), SourceLied, id="a shorter length than it says"),
        pytest.param(response(206, DATA[5:9], **HONEST_PART, Content_Encoding="gzip"), SourceLied, id="encoded"),
        pytest.param(
            response(206, b"--x\r\n\r\n", Content_Type="multipart/byteranges; boundary=x", ETag='"e"'),
            SourceLied,
            id="multipart",
        ),
        pytest.param(
            response(206, DATA[5:9], Content_Range=f"bytes 5-8/{SIZE}"), SourceLied, id="no validator any more"
        ),
        pytest.param(
            response(206, DATA[5:9], Content_Range=f"bytes 5-8/{SIZE}", ETag='"f"'),
            ContentChanged,
            id="another version",
        ),
        pytest.param(
            response(206, DATA[5:9], Content_Range=f"bytes 5-8/{SIZE}", ETag='W/"e"'),
            ContentChanged,
            id="a weak one by now",
        ),
        pytest.param(response(200, DATA, ETag='"e"'), RangesUnsupported, id="the whole, of the same version"),
        pytest.param(response(200, DATA, ETag='"f"'), ContentChanged, id="the whole, of another version"),
        pytest.param(response(416, Content_Range="bytes */3"), ContentChanged, id="no such range any more"),
        pytest.param(response(404), ContentUnknown, id="404"),
        pytest.param(response(401), UpstreamRefused, id="401"),
        pytest.param(response(403), UpstreamRefused, id="403"),
        pytest.param(response(500), SourceUnavailable, id="500"),
        pytest.param(b"", SourceUnavailable, id="hangs up"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", SourceUnavailable, id="another protocol"),
        pytest.param(response(206, DATA[5:7], length=4, **HONEST_PART), SourceUnavailable, id="ends early"),
        pytest.param(
            response(206, b"2\r\n" + DATA[5:7] + b"\r\n", framed=False, Transfer_Encoding="chunked", **HONEST_PART),
            SourceUnavailable,
            id="ends early, chunked",
        ),
        pytest.param(
            response(
                206, b"5\r\n" + DATA[5:10] + b"\r\n0\r\n\r\n", framed=False, Transfer_Encoding="chunked", **HONEST_PART
            ),
            SourceLied,
            id="more than it says, chunked",
        ),
        pytest.param(
            response(206, DATA[5:10], framed=False, **HONEST_PART), SourceLied, id="more than it says, without length"
        ),
        pytest.param(
            response(206, DATA[5:7], framed=False, **HONEST_PART), SourceUnavailable, id="less, without length"
        ),
    ],
)
async def test_answers_to_a_range_that_can_not_be_used(
    source: UpstreamSource, answer: bytes, error: type[Exception]
) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(answer)
        wire.close()

    async with upstream(script) as store:
        with pytest.raises(error) as failed:
            await fetch(source, content(file(f"{store.url}/x?sig=SECRET"), SIZE, etag('"e"')), 5, 9)
    assert DATA[5:9].startswith(failed.value.got)
    assert "SECRET" not in str(failed.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(response(200, DATA[:-1], ETag='"e"'), SourceLied, id="another length"),
        pytest.param(response(200, DATA[:99], length=SIZE, ETag='"e"'), SourceUnavailable, id="ends early"),
        pytest.param(response(200, DATA, ETag='"f"'), ContentChanged, id="another version"),
        pytest.param(response(200, DATA), SourceLied, id="no validator any more"),
        pytest.param(response(200, DATA, ETag='"e"', Content_Encoding="br"), SourceLied, id="encoded"),
        pytest.param(
            response(206, DATA, ETag='"e"', Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}"),
            SourceLied,
            id="a part, unasked",
        ),
        pytest.param(response(404), ContentUnknown, id="404"),
        pytest.param(response(204), SourceUnavailable, id="204"),
    ],
)
async def test_answers_to_the_whole_that_can_not_be_used(
    source: UpstreamSource, answer: bytes, error: type[Exception]
) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(answer)
        wire.close()

    async with upstream(script) as store:
        with pytest.raises(error) as failed:
            await fetch(source, content(file(f"{store.url}/x"), SIZE, etag('"e"')), 0, SIZE)
    assert DATA.startswith(failed.value.got)


async def test_a_changed_time_is_another_version(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(DATA, asked, Last_Modified=OTHER_DAY))

    async with upstream(script) as store:
        with pytest.raises(ContentChanged):
            await fetch(source, content(file(f"{store.url}/x"), SIZE, Validator(None, DAY, SIZE)), 5, 9)


async def test_an_etag_beside_the_same_time_is_the_same_version(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(DATA, asked, Last_Modified=DAY, ETag='"another replica has one"'))

    async with upstream(script) as store:
        assert await fetch(source, content(file(f"{store.url}/x"), SIZE, Validator(None, DAY, SIZE)), 5, 9) == DATA[5:9]


async def test_a_part_of_a_content_without_validator(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(part(DATA, asked))

    async with upstream(script) as store:
        assert await fetch(source, content(file(f"{store.url}/x"), SIZE), 5, 9) == DATA[5:9]


async def test_how_much_came_before_the_end(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(206, DATA[5:805], length=1000, Content_Range=f"bytes 5-1004/{SIZE}", ETag='"e"'))
        wire.close()

    async with upstream(script) as store:
        with pytest.raises(SourceUnavailable, match=r"ended after [0-9]+ of 1000 bytes"):
            await fetch(source, content(file(f"{store.url}/x"), SIZE, etag('"e"')), 5, 1005)


async def whole_only(asked: Asked, wire: Wire) -> None:
    await wire.send(response(200, DATA, ETag='"e"'))


async def test_without_ranges_the_beginning_is_read_and_the_rest_is_left(source: UpstreamSource) -> None:
    async with upstream(whole_only) as store:
        what = content(file(f"{store.url}/x"), SIZE, etag('"e"'), ranged=False)
        assert await fetch(source, what, 0, 1000) == DATA[:1000]
        assert await fetch(source, what, 0, SIZE) == DATA
        assert all("range" not in asked.headers for asked in store.asked)


async def test_without_ranges_nothing_else_is_asked_for(source: UpstreamSource) -> None:
    async with upstream(whole_only) as store:
        with pytest.raises(RangesUnsupported):
            await fetch(source, content(file(f"{store.url}/x"), SIZE, ranged=False), 1, 10)
        assert store.asked == []


async def test_a_stalled_body_is_given_up(opened) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(206, DATA[5:8], length=4, **HONEST_PART))
        await wire.gone()

    source = await opened(read_timeout_seconds=0.2)
    async with upstream(script) as store:
        with pytest.raises(SourceUnavailable, match="timed out"):
            await fetch(source, content(file(f"{store.url}/x"), SIZE, etag('"e"')), 5, 9)


async def test_a_silent_upstream_is_given_up(opened) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.gone()

    source = await opened(read_timeout_seconds=0.2)
    async with upstream(script) as store:
        with pytest.raises(SourceUnavailable, match="timed out"):
            await fetch(source, content(file(f"{store.url}/x"), SIZE), 5, 9)
        with pytest.raises(UpstreamUnavailable, match="timed out"):
            await source.stat(file(f"{store.url}/x"))


async def test_cancelling_ends_a_transfer_that_waits_for_bytes(source: UpstreamSource) -> None:
    gone = asyncio.Event()

    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(206, DATA[: 1024 * 1024], length=SIZE - 1, Content_Range=f"bytes 1-{SIZE - 1}/{SIZE}"))
        await wire.gone()
        gone.set()

    async with upstream(script) as store:
        sink = Bytes()
        offer = next(source.offers(content(file(f"{store.url}/x"), SIZE), 0))
        task = asyncio.create_task(offer.fetch(ByteRange(1, SIZE), sink))
        assert await asyncio.to_thread(sink.written.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(sink.data)
        async with asyncio.timeout(10):
            await gone.wait()
        assert len(sink.data) == count


async def test_cancelling_ends_a_transfer_that_waits_for_an_answer(opened) -> None:
    asked_for, gone = asyncio.Event(), asyncio.Event()

    async def script(asked: Asked, wire: Wire) -> None:
        asked_for.set()
        await wire.gone()
        gone.set()

    source = await opened(read_timeout_seconds=60)
    async with upstream(script) as store, asyncio.timeout(10):
        task = asyncio.create_task(fetch(source, content(file(f"{store.url}/x"), SIZE), 0, 1))
        await asked_for.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()


async def test_a_sink_that_nobody_reads_ends_the_transfer(source: UpstreamSource) -> None:
    gone = asyncio.Event()

    async def script(asked: Asked, wire: Wire) -> None:
        try:
            await wire.send(response(206, DATA[1:], Content_Range=f"bytes 1-{SIZE - 1}/{SIZE}", ETag='"e"'))
            await wire.gone()
        finally:
            gone.set()

    async with upstream(script) as store, asyncio.timeout(10):
        sink = Bytes()
        sink.abandoned = True
        offer = next(source.offers(content(file(f"{store.url}/x"), SIZE), 0))
        with pytest.raises(Exception) as stopped:
            await offer.fetch(ByteRange(1, SIZE), sink)
        assert type(stopped.value).__name__ == "Abandoned"
        await gone.wait()


async def test_offers(source: UpstreamSource) -> None:
    location = file("https://user.example:8443/x?sig=SECRET")
    first, *others = source.offers(content(location, SIZE), 3)
    assert (first.kind, first.name, first.trusted) == (SourceKind.UPSTREAM, "user.example:8443", True)
    assert len(others) == 2
    assert "SECRET" not in repr(first)
    assert list(source.offers(content(None, SIZE), 3)) == []


async def test_the_first_try_is_at_once_and_later_ones_back_off(source: UpstreamSource, time) -> None:
    async with upstream(honest) as store:
        for offer in source.offers(content(file(f"{store.url}/x"), SIZE, etag('"e"')), 0):
            await offer.fetch(ByteRange(5, 9), Bytes())
            assert len(time.slept) == len(store.asked) - 1
    assert all(0 < seconds <= 1 for seconds in time.slept)


async def test_a_transfer_that_fails_is_not_tried_again_within_one_offer(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(500))

    async with upstream(script) as store:
        with pytest.raises(SourceUnavailable):
            await fetch(source, content(file(f"{store.url}/x"), SIZE), 0, 1)
        assert len(store.asked) == 1


CHUNKED = {"framed": False, "Transfer_Encoding": "chunked"}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(200, b"3\r\n012\r\n7;x=y\r\n3456789\r\n0\r\n\r\n", **CHUNKED), id="chunked"),
        pytest.param(response(200, b"0123456789"), id="with a length after all"),
        pytest.param(response(200, b"0123456789", framed=False), id="until the connection is closed"),
    ],
)
async def test_a_content_of_unknown_size_is_read_to_its_end(source: UpstreamSource, answer: bytes) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        assert "range" not in asked.headers
        await wire.send(answer)
        wire.close()

    async with upstream(script) as store:
        sink = Bytes()
        await source.fetch_all(file(f"{store.url}/x"), sink)
        assert sink.data == b"0123456789"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(response(200, b"3\r\n012\r\n", **CHUNKED), SourceUnavailable, id="no last chunk"),
        pytest.param(response(200, b"3\r\n01", **CHUNKED), SourceUnavailable, id="within a chunk"),
        pytest.param(response(200, b"3\r\n012\r\nx\r\n", **CHUNKED), SourceUnavailable, id="a chunk that is none"),
        pytest.param(response(200, b"012", length=10), SourceUnavailable, id="shorter than its length"),
        pytest.param(response(200, b"012", Content_Encoding="gzip"), SourceLied, id="encoded"),
        pytest.param(response(206, b"012", Content_Range="bytes 0-2/9"), SourceLied, id="a part, unasked"),
        pytest.param(response(403), UpstreamRefused, id="403"),
    ],
)
async def test_a_content_of_unknown_size_that_does_not_end_well(
    source: UpstreamSource, answer: bytes, error: type[Exception]
) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(answer)
        wire.close()

    async with upstream(script) as store:
        with pytest.raises(error):
            await source.fetch_all(file(f"{store.url}/x"), Bytes())


async def test_loopback_is_not_asked_unless_it_is_listed(opened) -> None:
    async with upstream(honest) as store:
        refused: list[str] = []
        source = await opened(UpstreamConfig(), on_refused=refused.append)
        with pytest.raises(UpstreamForbidden):
            await source.stat(FileAtUrl(f"{store.url}/x"))
        with pytest.raises(UpstreamForbidden):
            await fetch(source, content(FileAtUrl(f"{store.url}/x"), SIZE), 0, 1)
        assert refused == ["address", "address"]
        assert store.connections == 0
