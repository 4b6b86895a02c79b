"""Anything at all on a socket, at each door that speaks HTTP: it is answered in HTTP or hung up on, and that is all that happens."""

import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.answers import SOURCES, Answer, answers
from tests.fuzz.conftest import CASES, SEED, Fuzzed
from tests.fuzz.requests import Conversation, conversations

ANSWERED_WITHIN_SECONDS = 20.0
QUIET_SECONDS = 0.05
"""After which nothing more is waited for where a node may be waiting for the rest itself."""

SHARES = {"node": 0.6, "metrics": 0.15, "peer": 0.25}
DESCRIPTION = yaml.safe_load((Path(__file__).parents[2] / "openapi" / "peerd.yaml").read_text())
UNREADABLE = {400, 405, 431}
"""Of any door: no HTTP, another method, too large a head."""

DOCUMENTED = {
    "node": UNREADABLE
    | {
        int(status)
        for path in DESCRIPTION["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    - {500},
    "metrics": UNREADABLE | {200, 404},
    "peer": UNREADABLE | {200, 202, 206, 403, 404, 409, 416, 423, 503},
}


def converse(port: int, pieces: Sequence[bytes], *, sure: bool) -> tuple[bytes, bool]:
    """All that came back, and whether the node ended the connection in good order."""
    got = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWERED_WITHIN_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(0.001)
                connection.sendall(piece)
            connection.settimeout(ANSWERED_WITHIN_SECONDS if sure else QUIET_SECONDS)
            while data := connection.recv(1 << 18):
                got += data
        except TimeoutError:
            return bytes(got), False
        except (ConnectionResetError, BrokenPipeError):
            # Where it did not read what was sent after something that ended the connection, TCP knows no other end.
            return bytes(got), False
    return bytes(got), True


def judge(answer: Answer, door: str, root: str) -> None:
    assert answer.status in DOCUMENTED[door], (answer.status, answer.body[:500])
    if answer.status == 405:
        assert "allow" in answer.headers
    text = answer.body.decode("latin-1")
    shown = [one for one in (*SOURCES, root) if one in text]
    # The page and the description are about programs.
    assert not shown or answer.status == 200, (shown, text[:500])


@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("door", sorted(SHARES))
def test_whatever_is_sent_is_answered_in_http_or_hung_up_on(door: str, fuzzed: Fuzzed) -> None:
    root = str(fuzzed.node.program.log.parent)
    counts: dict[int, int] = {}

    @seed(SEED)
    @settings(
        max_examples=int(CASES * SHARES[door]),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(conversations(door, fuzzed.origin.encode()))
    def talk(conversation: Conversation) -> None:
        got, ended = converse(fuzzed.ports[door], conversation.pieces, sure=conversation.sure)
        found = answers(got)
        for answer in found:
            if answer.status:
                judge(answer, door, root)
            counts[answer.status] = counts.get(answer.status, 0) + 1
        if conversation.sure:
            assert ended, f"it went on after {got[-300:]!r}"
            assert found
            assert all(answer.whole for answer in found), found[-1]

    talk()
    print(f"{door}: {dict(sorted(counts.items()))}")
    assert len(counts) > 2, "all was answered alike"
