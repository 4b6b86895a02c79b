"""What a blocking client puts on the wire, and what it takes for an answer."""

import datetime as dt
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from urllib3.util.ssltransport import SSLTransport

from app.cli.authority import new_authority
from app.http1 import HEAD_BYTES_MAX, INTERIM_MAX, Headers, NotHttp, Response, ask, be_patient, is_quiet
from app.server.certificates import Certificates
from tests.support.certificates import written


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the client's end, and the server's."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def answered(ends: tuple[socket.socket, socket.socket], answer: bytes) -> Response:
    """To a request for nothing in particular, by a server that says no more than this."""
    client, server = ends
    server.sendall(answer)
    server.shutdown(socket.SHUT_WR)
    return ask(client, "GET", "/", {"Host": "h"})


def test_a_request_is_what_it_was_said_to_be(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    with ask(client, "POST", "/a%2b?b", {"Host": "h:80", "X-Empty": ""}, b"body"):
        assert server.recv(1000) == b"POST /a%2b?b HTTP/1.1\r\nHost: h:80\r\nX-Empty: \r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/ä", "/\x00"])
def test_a_target_stays_one_word(ends: tuple[socket.socket, socket.socket], target: str) -> None:
    with pytest.raises(NotHttp, match="target"):
        ask(ends[0], "GET", target, {})


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "\x00"), ("X: y", "a"), ("", "a")]
)
def test_a_header_stays_one_line(ends: tuple[socket.socket, socket.socket], name: str, value: str) -> None:
    with pytest.raises(NotHttp, match=re.escape(f"header {name!r}")):
        ask(ends[0], "GET", "/", {"Host": "h", name: value, "Range": "bytes=0-1"})


@pytest.mark.parametrize(
    ("head", "body", "is_last"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"hello", False),
        (b"HTTP/1.1 200\r\ncontent-length: 5\r\n", b"hello", False),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n", b"hello", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", b"", False),
        (b"HTTP/1.1 204 No Content\r\n", b"", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n", b"", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: Chunked \r\n", b"5\r\nhello\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked,\r\n", b"5\r\nhello\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n" + 2 * b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", b"hello", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", b"hello", True),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n", b"hello", False),
        (b"HTTP/1.1 200 OK\r\n", b"hello", True),
    ],
)
def test_an_answer_ends_where_its_framing_says(
    ends: tuple[socket.socket, socket.socket], head: bytes, body: bytes, is_last: bool
) -> None:
    ending = b"\n" if head.endswith(b"5\n") else b"\r\n"
    behind = b"" if is_last else b"HTTP/1.1 500 Of Another\r\n\r\n"
    with answered(ends, head + ending + body + behind) as response:
        assert response.read() == (b"hello" if body else b"")
        assert response.will_close is is_last


def test_a_body_fills_a_buffer_of_the_callers(ends: tuple[socket.socket, socket.socket]) -> None:
    buffer = bytearray(8)
    with answered(ends, b"HTTP/1.1 206 Partial Content\r\nContent-Length: 11\r\n\r\nhello world") as response:
        counts = []
        while count := response.readinto(buffer):
            counts.append(count)
        assert counts == [8, 3]
        assert buffer == b"rldlo wo"


def test_what_comes_before_the_final_answer_is_passed_over(ends: tuple[socket.socket, socket.socket]) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with answered(ends, interim * INTERIM_MAX + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as response:
        assert response.status == 404
        assert "Link" not in response.headers


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + HEAD_BYTES_MAX * b"a" + b"\r\n\r\n",
        (INTERIM_MAX + 1) * b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_anything_else_is_no_answer(ends: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    with pytest.raises((HTTPException, OSError)):
        answered(ends, answer)


def test_a_connection_is_quiet_until_something_comes(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    assert is_quiet(client)
    server.sendall(b"H")
    assert not is_quiet(client)
    client.recv(1)
    assert is_quiet(client)
    server.close()
    assert not is_quiet(client)


@pytest.mark.parametrize("is_within_tls", [False, True], ids=["TLS", "TLS within TLS"])
def test_what_tls_has_decrypted_already_is_not_quiet(tmp_path: Path, is_within_tls: bool) -> None:
    """The end of one answer and what nobody asked for came in one record: the socket has nothing more."""
    authority = new_authority(days=10, now=dt.datetime.now(dt.UTC))
    ours, theirs = (
        Certificates(written(tmp_path / "a", authority, "a")),
        Certificates(written(tmp_path / "b", authority, "b")),
    )
    near, far = socket.socketpair()

    def serve() -> None:
        with theirs.door.wrap_socket(far, server_side=True) as server:
            server.sendall(b"answer and more")
            server.sendall(b"and more")
            server.recv(1)

    serving = threading.Thread(target=serve)
    serving.start()
    context = ours.client()
    context.check_hostname = False
    near.settimeout(10)
    wire: Any = SSLTransport(near, context) if is_within_tls else context.wrap_socket(near)
    try:
        assert wire.recv(6) == b"answer"
        assert not is_quiet(wire)
        assert wire.recv(9) == b" and more"
        time.sleep(0.1)
        assert not is_quiet(wire)
        assert wire.recv(8) == b"and more"
        assert is_quiet(wire)
    finally:
        wire.close()
        near.close()
        serving.join(10)


def test_headers_are_found_whatever_their_case_and_all_of_one_name() -> None:
    headers = Headers()
    headers.add(b"ETag", b' "e"\t')
    headers.add(b"vary", b"a")
    headers.add(b"Vary", b"b")
    assert headers["etag"] == headers["ETAG"] == '"e"'
    assert headers["Vary"] == "a, b"
    assert "VARY" in headers
    assert headers.get("VARY", "") == "a, b"
    assert headers.get("Location") is None
    assert headers.get("Location", "") == ""
    assert sorted(headers) == ["etag", "vary"]
    assert '"e"' not in repr(headers)


def test_a_piece_is_waited_for_however_slowly_it_comes(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    be_patient(client, 0.4)
    body = bytes(range(256)) * 400

    def answer() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        for at in range(0, len(head), 10):
            server.sendall(head[at : at + 10])
            time.sleep(0.02)
        for at in range(0, len(body), 10_000):  # For longer in all than a silence may last.
            server.sendall(body[at : at + 10_000])
            time.sleep(0.1)

    answering = threading.Thread(target=answer)
    answering.start()
    buffer = memoryview(bytearray(len(body)))
    with ask(client, "GET", "/", {"Host": "h"}) as response:
        got = 0
        while count := response.readinto(buffer[got:]):
            got += count
    answering.join()
    assert buffer == body


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbegin"]
)
def test_silence_is_waited_for_as_long_as_was_said(ends: tuple[socket.socket, socket.socket], said: bytes) -> None:
    client, server = ends
    be_patient(client, 0.5)
    server.sendall(said)
    began = time.monotonic()
    with pytest.raises(TimeoutError), ask(client, "GET", "/", {"Host": "h"}) as response:
        response.readinto(memoryview(bytearray(100_000)))
    assert time.monotonic() - began > 0.45


def test_a_request_that_nobody_reads_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    client, _ = ends
    be_patient(client, 0.5)
    with pytest.raises(TimeoutError):
        ask(client, "POST", "/", {"Host": "h"}, bytes(16 << 20))
