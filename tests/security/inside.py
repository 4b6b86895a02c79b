"""A host with things on it that nobody outside may reach: a listener, DNS whose answers change, and servers that redirect."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from tests.containerd.network import Host

DNS_ADDRESS = "127.0.0.53"
_A, _AAAA = 1, 28


@dataclass
class Listener:
    """Accepts connections at several addresses, counts them and closes them."""

    reached: list[tuple[str, int]] = field(default_factory=list)

    def accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.reached.append(connection.getsockname()[:2])
            connection.close()


@contextmanager
def listening(host: Host, addresses: Sequence[str], port: int) -> Iterator[Listener]:
    """One at all these addresses of `host` within this block."""
    listener = Listener()
    with ExitStack() as stack:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            place = host.inside(lambda a=address, f=family: socket.create_server((a, port), family=f))
            thread = threading.Thread(target=listener.accept, args=(place,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(place.close)
            stack.callback(place.shutdown, socket.SHUT_RDWR)
        yield listener


class Dns:
    """Answers from a table: for each name the answers to the first question, the second …, and the last for ever (RFC 1035, 4)."""

    def __init__(self, table: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._table = table
        self.asked: Counter[str] = Counter()
        self.ended = threading.Event()

    def serve(self, at: socket.socket) -> None:
        while not self.ended.is_set():
            try:
                question, asker = at.recvfrom(512)
            except TimeoutError:
                continue
            at.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        labels, place = [], 12
        while length := question[place]:
            labels.append(question[place + 1 : place + 1 + length].decode("latin-1"))
            place += 1 + length
        (kind,) = struct.unpack(">H", question[place + 1 : place + 3])
        name = ".".join(labels).lower()
        answers = self._table.get(name)
        found: list[bytes] = []
        if answers is not None:
            addresses = [ip_address(text) for text in answers[min(self.asked[name], len(answers) - 1)]]
            found = [one.packed for one in addresses if one.version == (6 if kind == _AAAA else 4)]
            # Both kinds are asked for at once, IPv4 first; they are one question.
            self.asked[name] += kind == _AAAA
        flags = 0x8180 if answers is not None else 0x8183  # An answer; or no such name.
        head = question[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
        records = [struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed for packed in found]
        return head + question[12 : place + 5] + b"".join(records)


@contextmanager
def answering(host: Host, table: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[Dns]:
    """DNS at DNS_ADDRESS of `host` within this block."""
    dns = Dns(table)

    def bound() -> socket.socket:
        at = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        at.bind((DNS_ADDRESS, 53))
        return at

    with host.inside(bound) as at:
        at.settimeout(0.2)
        thread = threading.Thread(target=dns.serve, args=(at,))
        thread.start()
        try:
            yield dns
        finally:
            dns.ended.set()
            thread.join()


FILE = b"what is public"
_REDIRECTS = (301, 302, 303, 307, 308)


class Redirecting(BaseHTTPRequestHandler):
    """`/hop/<hops>/<n>` redirects so often and then to target n; `/v2/realm<n>/…` wants a token of there; else a file."""

    targets: Sequence[str] = ()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, *rest = self.path.partition("?")[0].strip("/").split("/")
        if kind == "hop":
            hops, number = int(rest[0]), int(rest[1])
            place = self.targets[number] if hops == 0 else f"/hop/{hops - 1}/{number}"
            # http.server writes Latin-1; a target may have any character.
            self._send(_REDIRECTS[number % len(_REDIRECTS)], {"Location": place.encode().decode("latin-1")})
        elif kind == "v2" and rest[0].startswith("realm"):
            realm = self.targets[int(rest[0].removeprefix("realm"))].encode().decode("latin-1")
            self._send(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})
        else:
            self._send(200, {"ETag": '"1"'}, FILE)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # So that each request has its name looked up anew.
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def redirecting(host: Host, address: str, port: int, targets: Sequence[str]) -> Iterator[None]:
    """A server at an address of `host` within this block."""
    handler = type("Handler", (Redirecting,), {"targets": targets})
    server = ThreadingHTTPServer((address, port), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = host.inside(lambda: socket.create_server((address, port)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
