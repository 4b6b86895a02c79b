"""What is being sent to clients, and how fast."""

import pytest

from app.content.source import SourceKind
from app.observability.transfers import RATE_SECONDS, Transfers


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """Somebody who is being sent a blob."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.transfers = Transfers(sent=lambda _kind, _count: None, clock=self.clock)
        self._life = self.transfers.transfer("key", kind="blob", door="mirror", total=None, correlation_id="id")
        self.transfer = self._life.__enter__()

    def is_sent(self, per_second: int, seconds: float) -> None:
        """Bytes, ten times a second."""
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            self.transfers.sent(self.transfer, SourceKind.CACHE, per_second // 10)

    def leaves(self) -> None:
        self._life.__exit__(None, None, None)

    @property
    def rate(self) -> float:
        return self.transfer.rate(self.clock.now)


@pytest.fixture
def client() -> Client:
    return Client()


def test_who_was_sent_nothing_yet_has_no_rate(client: Client) -> None:
    assert client.rate == 0
    client.clock.now += 1
    assert client.rate == 0


def test_a_young_transfer_s_rate_is_that_of_its_life(client: Client) -> None:
    client.is_sent(per_second=1000, seconds=2)
    assert client.rate == pytest.approx(1000, rel=0.1)


def test_the_rate_is_that_of_the_last_seconds(client: Client) -> None:
    client.is_sent(per_second=1000, seconds=100)
    client.is_sent(per_second=50, seconds=RATE_SECONDS)
    assert client.rate == pytest.approx(50, rel=0.1)


def test_the_rate_of_one_that_stands_still_falls_to_nothing(client: Client) -> None:
    client.is_sent(per_second=1000, seconds=100)
    client.clock.now += RATE_SECONDS / 2
    assert client.rate == pytest.approx(500, rel=0.25)
    client.clock.now += RATE_SECONDS
    assert client.rate == 0


def test_the_rate_of_one_that_has_ended_is_that_of_its_life(client: Client) -> None:
    client.is_sent(per_second=1000, seconds=10)
    client.is_sent(per_second=0, seconds=10)
    client.leaves()
    client.clock.now += 1000
    assert client.rate == pytest.approx(500)
    assert client.transfer.by_source[SourceKind.CACHE] == 10_000
