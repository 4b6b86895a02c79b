"""Requests as nobody should send them, as hypothesis strategies.

`ORIGIN` stands for the origin's host and port, which are not known before it runs.
"""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from tests.fuzz.conftest import FILE, MANIFEST, REGISTRY_NAME
from tests.support.made import digest_of

LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""After what is drawn, so that a connection ends once all is answered."""

TARGETS = {
    "node": [
        "/",
        "/v2/",
        "/v2",
        f"/v2/app/manifests/1?ns={REGISTRY_NAME}",
        f"/v2/app/manifests/{digest_of(MANIFEST)}",
        f"/v2/app/blobs/{digest_of(FILE)}?ns={REGISTRY_NAME}",
        f"/v2/app/blobs/sha256:{'0' * 64}",
        "/v2/app/tags/list",
        "/v2/app/blobs/uploads/",
        "/blobs/http://ORIGIN/file",
        "/blobs/http://ORIGIN/file",
        "/blobs/http://ORIGIN/file?sig=a%2Fb&x",
        "/blobs/http%3A%2F%2FORIGIN%2Ffile",
        "/blobs/http://ORIGIN/empty",
        "/blobs/http://ORIGIN/401",
        "/blobs/http://ORIGIN/403",
        "/blobs/http://ORIGIN/404",
        "/blobs/http://other.test/file",
        "/blobs/ftp://ORIGIN/file",
        "/blobs/",
        "/healthz",
        "/readyz",
        "/metrics/prometheus",
        "/docs",
        "/docs/assets/docs.css",
        "/page/page.js",
        "/openapi.json",
        "/api/v1/status",
        "/api/v1/members",
        "/api/v1/contents?limit=3",
        "/api/v1/contents?limit=0&after=%00",
        "/api/v1/transfers",
        "/api/v1/images",
        f"/api/v1/contents/{digest_of(FILE)}",
        "/api/v1/contents/http%3A%2F%2FORIGIN%2Ffile?all_nodes=true",
        "/api/v1/preheat",
        "/api/v1/preheat/none",
    ],
    "metrics": [
        "/healthz",
        "/readyz",
        "/metrics/prometheus",
        "/",
        "/v2/",
        "/blobs/http://ORIGIN/file",
        "/api/v1/status",
    ],
    "peer": [
        f"/contents/{digest_of(FILE)}",
        f"/contents/{digest_of(FILE)}/stat",
        f"/contents/{digest_of(FILE)}/lease",
        f"/contents/{digest_of(FILE)}@{REGISTRY_NAME}",
        f"/names/{'a' * 64}",
        "/names/%2e%2e%2fetc",
        "/resolve",
        "/manifest",
        "/orders/purge",
        "/orders/bring",
        "/orders/bring/none",
        "/load",
        "/",
    ],
}
ODD_TARGETS = [
    "*",
    "",
    "localhost:80",
    "http://localhost/healthz",
    "http:///healthz",
    "https://other.test/v2/",
    "//healthz",
    "/../../etc/passwd",
    "/page/..%2f..%2fpyproject.toml",
    "/docs/assets/%2e%2e/docs.html",
    "/%",
    "/%zz",
    "/%00",
    "/%c0%af",
    "/v2/%ff/manifests/%fe",
    "/v2/app/manifests/1?ns=%ff%fe",
    "/v2/APP/manifests/1",
    "/v2/app/blobs/sha256:xyz",
    "/v2//manifests/",
    "/blobs/http://",
    "/blobs/http://[::1",
    "/blobs/http://user:secret@ORIGIN/file",
    "/blobs/http://ORIGIN:99999/file",
    "/blobs/http://ORIGIN/%",
    "/blobs/http%3A//ORIGIN/fi%6ce",
    "/healthz#fragment",
    "/healthz?" + "q" * 9000,
    "/" + "a/" * 20_000,
    "/" + "x" * 70_000,
]
RANGES = [
    "bytes=0-4",
    "bytes=5-",
    "bytes=-6",
    "bytes=-0",
    "bytes=9-3",
    "bytes=0-4,11-15,-2",
    "bytes=0-0," * 40 + "1-1",
    "bytes=0-99999999999999999999999999",
    "bytes=99999999999999999999999999-",
    "bytes=-99999999999999999999999999",
    "bytes=" + "9" * 5000 + "-",
    "bytes=40000-",
    "bytes=39999-39999",
    "bytes=,",
    "bytes= 1 - 2 ",
    "bytes=\u00b2-\u00b3",
    "Bytes=0-1",
    "items=0-1",
    "bytes 0-1",
    "bytes=0x1-0x2",
    "bytes=+1-+2",
    "bytes=1_0-2_0",
]
FIELDS = [
    *[f"Range: {value}" for value in RANGES],
    *[
        f"{name}: {value}"
        for name in ("If-Range", "If-None-Match", "If-Match")
        for value in (
            '"1"',
            'W/"1"',
            "*",
            '"',
            '"a", "1"',
            "Sun, 01 Jun 2025 08:00:00 GMT",
            ",,,",
            '"' + "a" * 4000,
            "",
        )
    ],
    "If-Modified-Since: Sun, 01 Jun 2025 08:00:00 GMT",
    "Host: a\r\nHost: b",
    "Host:",
    "Host: \xff\xfe",
    "Connection: close",
    "Connection: keep-alive, close",
    "Connection: \x01",
    "Expect: 100-continue",
    "Expect: 200-maybe",
    "Accept: application/openmetrics-text",
    "Accept: ;;;q=,,",
    "Accept-Encoding: gzip, identity;q=0, *;q=x",
    "Authorization: Basic !!!",
    "Authorization: Bearer " + "t" * 20_000,
    "OCI-Namespace: registry.test",
    "OCI-Namespace: http://169.254.169.254/",
    "OCI-Namespace: \xe9",
    "X-MS-Peerd-CorrelationId: " + "c" * 5000,
    "X-MS-Peerd-CorrelationId: a b;c\tд".encode().decode("latin-1"),
    "X-MS-Peerd-RequestFromPeer: true",
    "X-MS-Peerd-Node: mallory",
    "Content-Type: application/json",
    "Content-Type: multipart/form-data",
    "Folded: a\r\n b",
    "No-Colon",
    "Name With Blanks: 1",
    ": empty",
    "Nul: a\0b",
    "Bare-LF: a\nb: c",
    *[f"X-{number}: {number}" for number in range(3)],
    "\r\n".join(f"Many-{number}: {number}" for number in range(500)),
    "Long: " + "l" * 70_000,
]
UPGRADES = [
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Connection: Upgrade\r\nUpgrade: \x7f",
]
BODIES = [
    b"{}",
    b'{"references": []}',
    b'{"references": ["http://ORIGIN/file"]}',
    b'{"references": ["http://ORIGIN/404"], "nodes": 1}',
    b'{"references": ["\\ud800", ""], "nodes": -1}',
    b'{"references": ["a"], "nodes": 1e400}',
    b"[" * 20_000,
    b'"' + b"x" * 100_000,
    b"\xff\xfe\x00",
    b'{"without": []}',
    b'{"without": [1, null, {}]}',
]
FRAMINGS = [
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n3;" + b"e" * 9000 + b"\r\nabc\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: a\r\nContent-Length: 9\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: identity\r\n\r\nabc",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: +3\r\n\r\nabc",
    b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"Content-Length: 99999999999999999999999\r\n\r\n",
    b"Content-Length: 1000\r\n\r\nshort",
    b"Content-Length: 0x3\r\n\r\nabc",
]


@dataclass(frozen=True, repr=False)
class Conversation:
    """What is sent, piece by piece. `sure`: each request has an end that everybody would see, so each is answered."""

    pieces: tuple[bytes, ...]
    sure: bool

    def __repr__(self) -> str:
        """Short enough to be read; the seed has the rest."""
        cut = [piece if len(piece) <= 800 else piece[:600] + b" ... " + piece[-200:] for piece in self.pieces]
        return f"Conversation({cut}, sure={self.sure})"


def _framed(body: bytes, chunked: bool) -> bytes:
    if chunked:
        return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


METHODS = ["GET"] * 8 + ["HEAD"] * 3 + ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
ODD_METHODS = ["TRACE", "CONNECT", "PROPFIND", "get", "BREW", "G\0T", "", "PRI", "M-SEARCH", "GET" * 3000]
VERSIONS = ["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/1", "http/1.1", "", "HTTP/1.1 x"]


@st.composite
def _proper(draw: st.DrawFn, door: str, origin: bytes) -> bytes:
    """A request that is HTTP, whatever it asks for."""
    lines = [f"{draw(st.sampled_from(METHODS))} {draw(st.sampled_from(TARGETS[door]))} HTTP/1.1", "Host: localhost"]
    fields = [f"Range: {value}" for value in RANGES if value.isascii()]
    fields += ['If-None-Match: "1"', "If-Match: *", 'If-Match: "2"', 'If-Range: "1"', "Accept: */*"]
    fields += ["X-MS-Peerd-RequestFromPeer: true"] * 5
    lines += draw(st.lists(st.sampled_from(fields), max_size=3))
    head = "\r\n".join(lines).encode("latin-1").replace(b"ORIGIN", origin) + b"\r\n"
    body = draw(st.none() | st.sampled_from(BODIES))
    return head + (b"\r\n" if body is None else _framed(body.replace(b"ORIGIN", origin), draw(st.booleans())))


@st.composite
def _odd(draw: st.DrawFn, door: str, origin: bytes) -> bytes:
    """One with something wrong in any of its parts."""
    method = draw(st.sampled_from([*METHODS, *ODD_METHODS]))
    target = draw(
        st.sampled_from(TARGETS[door])
        | st.sampled_from(ODD_TARGETS)
        | st.builds(
            "{}{}".format, st.sampled_from(TARGETS[door]), st.text(st.characters(max_codepoint=255), max_size=8)
        )
    )
    lines = [" ".join((method, target, draw(st.sampled_from(VERSIONS)))), "Host: localhost"]
    lines += draw(st.lists(st.sampled_from([*FIELDS, *UPGRADES]), max_size=4))
    head = "\r\n".join(lines).encode("latin-1").replace(b"ORIGIN", origin)
    head += draw(st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r"]))
    body = draw(st.sampled_from(BODIES)).replace(b"ORIGIN", origin)
    return head + draw(st.sampled_from([b"\r\n", b"\r\n", b"", _framed(body, False), _framed(body, True), *FRAMINGS]))


@st.composite
def _mutated(draw: st.DrawFn, door: str, origin: bytes) -> bytes:
    """One of which bytes were turned, cut out or put in."""
    data = bytearray(draw(_proper(door, origin) | _odd(door, origin)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(data), 600)))
        match draw(st.integers(0, 2)):
            case 0:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[place : place + draw(st.integers(1, 8))]
            case _:
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@st.composite
def conversations(draw: st.DrawFn, door: str, origin: bytes) -> Conversation:
    """One to four requests on one connection, sent in pieces that end anywhere."""
    sure = draw(st.booleans())
    kinds = (
        _proper(door, origin)
        if sure
        else st.one_of(_proper(door, origin), _odd(door, origin), _odd(door, origin), _mutated(door, origin))
    )
    data = b"".join([*draw(st.lists(kinds, min_size=1, max_size=4)), LAST])
    cuts = sorted(draw(st.lists(st.integers(1, len(data) - 1), max_size=3)))
    if not sure and cuts and draw(st.integers(0, 3)) == 0:
        data = data[: cuts[-1]]  # The rest never comes.
    ends = [0, *cuts, len(data)]
    return Conversation(tuple(data[start:stop] for start, stop in pairwise(ends) if stop > start), sure)
