"""A member that is lost in the middle of a transfer: the client of another one sees one unbroken, right body."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node, wait_until_agreed
from tests.support.registry import Registry
from tests.support.wire import End

pytestmark = [pytest.mark.xdist_group("lost peer")]

MIB = 1 << 20
SIZE = 256 * MIB
"""Bytes: more than a reader, which fetches as fast as it can what its client asked for, gets before the sender is lost."""

READ_BEFORE = 4 * MIB
PAUSE_SECONDS = 1.6
"""Longer than a member may be silent before another source is asked."""


SIGNALS = {"is killed": signal.SIGKILL, "stalls": signal.SIGSTOP, "leaves": signal.SIGTERM}


@contextmanager
def lost(node: Node, how: str) -> Iterator[None]:
    node.program.send(SIGNALS[how])
    try:
        yield
    finally:
        if how == "stalls":
            node.program.send(signal.SIGCONT)
        else:
            node.program.end(SIGNALS[how])


@pytest.mark.parametrize(
    ("how", "who_else_has_it"),
    [
        ("is killed", "upstream"),
        ("is killed", "another member"),
        ("stalls", "another member"),
        ("leaves", "upstream"),
    ],
)
def test_a_body_goes_on_at_the_same_byte_when_the_member_that_sends_it(
    cluster: Cluster, registry: Registry, how: str, who_else_has_it: str
) -> None:
    sender, reader, other = cluster(3, "--registry", f"reg.test={registry.url}")
    data = made.content(f"{how} {who_else_has_it}", SIZE)
    digest = registry.push_blob("team/app", data)
    target = f"/v2/team/app/blobs/{digest}?ns=reg.test"
    for holder in [sender] if who_else_has_it == "upstream" else [sender, other]:
        assert holder.ask(target).body == data
    wait_until_agreed([sender, reader, other])
    # As home of some chunks the reader has fetched them for the others; what it gets from now on is counted.
    received, from_registry = came_in(reader, "peer"), registry.sent_of(digest)

    with nullcontext() if who_else_has_it == "upstream" else registry.program.away(), reader.connect() as client:
        head = client.begin(target)
        body, _ = client.read(READ_BEFORE)
        with lost(sender, how):
            assert reader.metric("peerd_cache_bytes") < SIZE, "it is lost before it has sent all"
            rest, end = client.read(SIZE - READ_BEFORE)

    assert (head.status, head.headers["content-length"], end) == (200, str(SIZE), End.WHOLE)
    assert body + rest == data
    assert came_in(reader, "peer") > received
    if how == "stalls":
        assert reader.metric("peerd_hedged_requests_total") > 0, "the other one was asked beside it"
    if who_else_has_it == "upstream" and how != "leaves":
        assert registry.sent_of(digest) > from_registry, "nobody else had it"


def came_in(node: Node, source: str) -> float:
    return node.metric("peerd_received_bytes_total", source=source)


def test_the_only_one_that_has_it_is_asked_again_when_upstream_is_away_and_it_was_too_slow(
    cluster: Cluster, registry: Registry
) -> None:
    sender, reader = cluster(2, "--registry", f"reg.test={registry.url}", "--no-prefetch")
    data = made.content("asked again", 2 * MIB)
    target = f"/v2/team/app/blobs/{registry.push_blob('team/app', data)}?ns=reg.test"
    assert sender.ask(target).body == data
    wait_until_agreed([sender, reader])
    with registry.program.away():
        assert reader.ask(target, headers={"Range": "bytes=0-0"}).body == data[:1]
        sender.program.send(signal.SIGSTOP)
        goes_on = threading.Timer(PAUSE_SECONDS, sender.program.send, [signal.SIGCONT])
        goes_on.start()
        reply = reader.ask(target, headers={"Range": f"bytes={MIB}-"})
        goes_on.join()
    assert (reply.status, reply.body) == (206, data[MIB:])
