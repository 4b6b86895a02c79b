from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.errors import UpstreamUnavailable
from app.upstream.exchange import Answer
from app.upstream.source import UpstreamSource
from tests.upstream.conversation import Asked, Wire, part, response, upstream
from tests.upstream.reading import VirtualTime, content, etag, fetch, file

DATA = bytes(range(256))


class Replies:
    """Answers or errors, one for each time that it is asked; each takes some seconds."""

    def __init__(self, time: VirtualTime, *replies: Answer | Exception, seconds: float = 0.0) -> None:
        self.time, self.replies, self.seconds = time, list(replies), seconds

    async def __call__(self) -> Answer:
        self.time.now += self.seconds
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


OK = Answer(200, {})
UNREACHABLE = UpstreamUnavailable("refused")


@pytest.mark.parametrize(
    ("replies", "slept"),
    [
        pytest.param([OK], [], id="an answer"),
        pytest.param([Answer(503, {"Retry-After": "3"}), OK], [3.0], id="waits as long as it is told"),
        pytest.param(
            [Answer(429, {"Retry-After": " 2 "}), Answer(429, {"Retry-After": "5"}), OK], [2.0, 5.0], id="twice"
        ),
        pytest.param([Answer(503, {"Retry-After": "0"}), OK], [0.0], id="at once"),
        pytest.param([Answer(404, {}), OK], [], id="404 is an answer"),
    ],
)
async def test_a_busy_upstream_is_waited_for(time: VirtualTime, replies: list[Answer], slept: list[float]) -> None:
    await time.patience().begin().out(Replies(time, *replies), "a.example")
    assert time.slept == slept


async def test_a_date_in_retry_after(time: VirtualTime) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    await time.patience().begin().out(Replies(time, Answer(503, {"Retry-After": later}), OK), "a.example")
    assert 3 < time.slept[0] <= 5


@pytest.mark.parametrize("value", ["", "soon", "-1", "Tue, 99 Foo 2025", "\uff11"])
async def test_without_a_readable_retry_after_pauses_grow_at_random(time: VirtualTime, value: str) -> None:
    busy = Answer(503, {"Retry-After": value})
    await time.patience().begin().out(Replies(time, busy, busy, busy, OK), "a.example")
    assert len(time.slept) == 3
    assert all(0 < seconds <= 0.25 * 2**attempt for attempt, seconds in enumerate(time.slept, start=1))


async def test_a_deadline_ends_the_waiting_and_says_when_to_come_back(time: VirtualTime) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"a\.example goes on answering 503") as error:
        await time.patience(10).begin().out(Replies(time, Answer(503, {"Retry-After": "120"})), "a.example")
    assert error.value.retry_after_seconds == 120
    assert time.slept == []


async def test_one_deadline_for_all_requests_of_an_operation(time: VirtualTime) -> None:
    waiting = time.patience(10).begin()
    await waiting.out(Replies(time, Answer(503, {"Retry-After": "6"}), OK), "a.example")
    with pytest.raises(UpstreamUnavailable):
        await waiting.out(Replies(time, Answer(503, {"Retry-After": "6"}), OK), "b.example")


async def test_busy_for_ever_without_saying_how_long(time: VirtualTime) -> None:
    with pytest.raises(UpstreamUnavailable) as error:
        await time.patience(10).begin().out(Replies(time, *[Answer(429, {})] * 1000), "a.example")
    assert error.value.retry_after_seconds >= 1
    assert 0 < time.now <= 10


@pytest.mark.parametrize("failed", [UNREACHABLE, Answer(500, {}), Answer(502, {}), Answer(504, {})], ids=repr)
async def test_a_quick_failure_is_tried_twice_more(time: VirtualTime, failed: Answer | Exception) -> None:
    assert await time.patience().begin().out(Replies(time, failed, failed, OK), "a.example") == OK
    replies = Replies(time, failed, failed, failed, OK)
    if isinstance(failed, Exception):
        with pytest.raises(UpstreamUnavailable):
            await time.patience().begin().out(replies, "a.example")
    else:
        assert await time.patience().begin().out(replies, "a.example") == failed


async def test_a_slow_failure_is_not_tried_again(time: VirtualTime) -> None:
    with pytest.raises(UpstreamUnavailable, match="refused"):
        await time.patience().begin().out(Replies(time, UNREACHABLE, OK, seconds=3.0), "a.example")


async def test_503_and_then_the_bytes(source: UpstreamSource, time: VirtualTime) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        busy = len(store.asked) % 2
        await wire.send(response(503, b"later", Retry_After="4") if busy else part(DATA, asked, ETag='"e"'))

    async with upstream(script) as store:
        location = file(f"{store.url}/x")
        stat = await source.stat(location)
        assert await fetch(source, content(location, stat.size, etag('"e"')), 5, 9) == DATA[5:9]
        assert time.slept == [4.0, 4.0]
        assert store.connections == 2, "one for control calls and one for bytes: a refusal costs no connection"


async def test_503_without_end_is_passed_on_with_its_retry_after(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(503, Retry_After="60"))

    async with upstream(script) as store:
        for ask in (source.stat(file(f"{store.url}/x")), fetch(source, content(file(f"{store.url}/x"), 256), 5, 9)):
            with pytest.raises(UpstreamUnavailable) as error:
                await ask
            assert error.value.retry_after_seconds == 60
