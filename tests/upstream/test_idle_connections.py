import pytest

from app.upstream.connections import IdleConnections
from app.upstream.proxies import Proxy
from app.upstream.url import Origin
from tests.upstream.reading import VirtualTime

A, B = Origin("https", "a.example", 443), Origin("https", "b.example", 443)
PROXY = Proxy(Origin("http", "proxy.example", 3128))


class Connection:
    """What is kept: open until it is closed by either side."""

    def __init__(self) -> None:
        self.is_connected = True

    def close(self) -> None:
        self.is_connected = False


@pytest.fixture
def idle(time: VirtualTime) -> IdleConnections:
    return IdleConnections(per_origin_max=2, total_max=3, clock=time.clock)


def test_the_newest_is_used_first(idle: IdleConnections) -> None:
    old, new = Connection(), Connection()
    idle.put(A, None, old)
    idle.put(A, None, new)
    assert [idle.take(A, None) for _ in range(3)] == [new, old, None]


def test_one_is_only_for_its_origin_and_its_proxy(idle: IdleConnections) -> None:
    straight, through = Connection(), Connection()
    idle.put(A, None, straight)
    idle.put(A, PROXY, through)
    assert idle.take(B, None) is None
    assert idle.take(A, PROXY) is through
    assert idle.take(A, PROXY) is None
    assert idle.take(A, None) is straight


def test_the_oldest_of_an_origin_makes_room(idle: IdleConnections) -> None:
    connections = [Connection() for _ in range(3)]
    for connection in connections:
        idle.put(A, None, connection)
    assert [connection.is_connected for connection in connections] == [False, True, True]


def test_the_oldest_of_all_makes_room(idle: IdleConnections) -> None:
    connections = [Connection() for _ in range(4)]
    for connection, origin in zip(connections, (A, A, B, B), strict=True):
        idle.put(origin, None, connection)
    assert [connection.is_connected for connection in connections] == [False, True, True, True]
    assert repr(idle) == "<IdleConnections 3 of 3>"


def test_one_that_was_idle_for_long_is_closed(idle: IdleConnections, time: VirtualTime) -> None:
    connection = Connection()
    idle.put(A, None, connection)
    time.now += 51
    assert idle.take(A, None) is None
    assert not connection.is_connected


def test_after_the_end_all_are_closed(idle: IdleConnections) -> None:
    before, after = Connection(), Connection()
    idle.put(A, None, before)
    idle.close()
    idle.put(A, None, after)
    assert not before.is_connected
    assert not after.is_connected
    assert idle.take(A, None) is None
