"""What came back on a connection, judged by h11: a parser of another make, and stricter than clients are."""

from dataclasses import dataclass

import h11

SOURCES = ("Traceback (most recent call last)", 'File "', "site-packages", "/app/routes", "/app/server", "/app/content")
"""What a client must never see: how the program is made and where it lies."""


@dataclass(frozen=True)
class Answer:
    """One answer; `whole` unless it broke off."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


def answers(data: bytes) -> list[Answer]:
    """All of them. Raises h11.RemoteProtocolError where that is not HTTP."""
    found = []
    while data:
        answer, data = _first(data, _has_no_body(data))
        found.append(answer)
    return found


def _has_no_body(data: bytes) -> bool:
    """Whether the first is one to HEAD, which its framing does not say: the next begins where its body would.

    No body that is sent here begins like an answer. An interim answer has none, and is no answer to HEAD for that: the question is
    about the one that follows it (RFC 9110, section 15.2).
    """
    head, _, rest = data.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 1"):
        head, _, rest = rest.partition(b"\r\n\r\n")
    return not rest or rest.startswith(b"HTTP/1.")


def _first(data: bytes, to_head: bool) -> tuple[Answer, bytes]:
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method="HEAD" if to_head else "GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head: h11.Response | None = None
    body = bytearray()
    while True:
        match event := client.next_event():
            case h11.Response():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                rest = bytes(client.trailing_data[0])
                break
            case _ if event in (h11.NEED_DATA, h11.PAUSED):
                rest = b""
                break
    whole = client.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
    if head is None:
        # Interim answers only, or a head that broke off.
        return Answer(0, {}, b"", whole=False), rest
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Answer(head.status_code, headers, bytes(body), whole), rest
