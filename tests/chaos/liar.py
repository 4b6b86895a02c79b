"""A member that lies: between its peer door, which is on loopback, and the others, who reach it here instead.

It shows the member's own certificate, hands on what it is asked, and tells the answers in its own way. Its lies about bytes
contradict what the answer says that they hash to: a member with a certificate of the cluster that also forges the checksums is
beyond what reading a part can notice (docs/design.md, "Who believes what of whom").
"""

import contextlib
import itertools
import random
import re
import socket
import socketserver
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import BinaryIO, assert_never

from tests.containerd.network import Host
from tests.support.hosted import PEER_PORT

_PIECE_BYTES = 64 << 10
_SILENCE_SECONDS_MAX = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"\r\ncontent-range: *bytes (\d+)-", re.IGNORECASE)

Message = tuple[bytes, bytes]
"""Head and body of a request or an answer."""


class Lie(Enum):
    """How an answer is told."""

    TRUE = "as it is"
    WRONG_BYTES = "other bytes"
    WRONG_RANGE = "another part"
    SHORT = "too short"
    SLOW = "4 KiB a second"
    ENDLESS = "endless"
    SILENT = "silent"
    NONSENSE = "no HTTP"
    HUNG_UP = "hung up"


_OF_PARTS = {Lie.WRONG_BYTES, Lie.WRONG_RANGE}
"""These are about a part of a content; what a tag stands for is believed of a member."""


class Deck:
    """Lies in an order of chance, each once before any comes again.

    A member that was caught is not asked for a while. So parts of contents are lied about always, and what else is asked, which
    leads to them, one time in five.
    """

    def __init__(self, rng: random.Random) -> None:
        self.told: Counter[Lie] = Counter()
        self._rng = rng
        lies = [lie for lie in Lie if lie is not Lie.TRUE]
        others = [lie for lie in lies if lie not in _OF_PARTS]
        self._all = {True: lies, False: [*others, *[Lie.TRUE] * 4 * len(others)]}
        # The worst first: a short run may ask for few parts.
        self._left: dict[bool, list[Lie]] = {True: [Lie.WRONG_BYTES], False: []}
        self._lock = threading.Lock()

    def draw(self, request: Message, answer: Message) -> Lie:
        """How this answer is told."""
        is_part = answer[0].startswith(b"HTTP/1.1 206") and b"/contents/" in request[0]
        with self._lock:
            left = self._left[is_part]
            if not left:
                left += self._rng.sample(self._all[is_part], len(self._all[is_part]))
            lie = left.pop()
            self.told[lie] += 1
        return lie

    def pieces(self, lie: Lie, answer: Message) -> Iterable[bytes]:
        """What is sent instead of it."""
        (head, body), whole = answer, b"".join(answer)
        match lie:
            case Lie.WRONG_BYTES:
                at = self._rng.randrange(len(body))
                return [head, body[:at], bytes(255 - byte for byte in body[at : at + 16]), body[at + 16 :]]
            case Lie.WRONG_RANGE:
                return [_RANGE.sub(rb"\r\nContent-Range: bytes 1\1-", head), body]
            case Lie.SHORT:
                return [whole[: len(whole) // 2]]
            case Lie.SLOW:
                return (whole[start : start + 1024] for start in range(0, len(whole), 1024))
            case Lie.ENDLESS:
                return itertools.chain([whole], itertools.repeat(bytes(_PIECE_BYTES)))
            case Lie.NONSENSE:
                return [b"220 mail.example ESMTP\r\n"]
            case Lie.SILENT | Lie.HUNG_UP:
                return []
            case Lie.TRUE:
                return [whole]
        assert_never(lie)


class _Door(socketserver.ThreadingTCPServer):
    """Where the others believe that they reach the member. Its threads are waited for when it is closed."""

    allow_reuse_address = True

    def __init__(self, address: str, name: str, certificates: Path, deck: Deck) -> None:
        super().__init__((address, PEER_PORT), socketserver.BaseRequestHandler)
        self._deck = deck
        self._name = f"{name}.peerd"
        self._certificates = certificates
        self._as_member = self._context(ssl.PROTOCOL_TLS_SERVER, self._name)
        self._open: set[socket.socket] = set()

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        """One connection, in a thread of its own."""
        request.settimeout(_SILENCE_SECONDS_MAX)
        with (
            contextlib.suppress(OSError),  # Whoever asked, or the member itself, hung up.
            self._as_member.wrap_socket(request, server_side=True) as asker,
        ):
            self._open.add(asker)
            try:
                self._converse(asker)
            finally:
                self._open.discard(asker)

    def hang_up(self) -> None:
        """On everybody."""
        for asker in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(asker, socket.SHUT_RDWR)

    def _converse(self, asker: ssl.SSLSocket) -> None:
        ((_, name),) = (one for one in asker.getpeercert()["subjectAltName"] if one[0] == "DNS")
        with asker.makefile("rb") as questions:
            while (request := _message(questions)) is not None and (answer := self._truth(name, request)) is not None:
                lie = self._deck.draw(request, answer)
                for piece in self._deck.pieces(lie, answer):
                    asker.sendall(piece)
                    if lie is Lie.SLOW:
                        time.sleep(0.25)
                if lie is Lie.SILENT:
                    asker.recv(1)
                if lie is not Lie.TRUE:
                    return

    def _truth(self, asker: str, request: Message) -> Message | None:
        """What the member answers: it answers nobody who shows another's certificate."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, asker)
        with ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", PEER_PORT), _SILENCE_SECONDS_MAX))
            member = stack.enter_context(context.wrap_socket(plain, server_hostname=self._name))
            member.sendall(b"".join(request))
            return _message(stack.enter_context(member.makefile("rb")))

    def _context(self, protocol: int, name: str) -> ssl.SSLContext:
        """TLS with the certificate of `<node-name>.peerd`."""
        context, files = ssl.SSLContext(protocol), self._certificates / name.removesuffix(".peerd")
        context.load_cert_chain(files.with_suffix(".crt"), files.with_suffix(".key"))
        context.load_verify_locations(self._certificates / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def _message(stream: BinaryIO) -> Message | None:
    """The next one; None where none comes any more."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    length = _LENGTH.search(head)
    wanted = int(length[1]) if length else 0
    body = stream.read(wanted)
    return (bytes(head), body) if len(body) == wanted else None


@contextmanager
def lying(host: Host, name: str, certificates: Path, rng: random.Random) -> Iterator[Counter[Lie]]:
    """Such a member within this block: `name` on `host`. Counts what is told.

    Its peer door is at loopback. `certificates` are those of all members: it is asked in the name of whoever asks.
    """
    deck = Deck(rng)
    door = host.inside(lambda: _Door(host.address, name, certificates, deck))
    thread = threading.Thread(target=host.inside, args=(door.serve_forever,), name="liar")
    thread.start()
    try:
        yield deck.told
    finally:
        door.shutdown()
        thread.join()
        door.hang_up()
        door.server_close()
