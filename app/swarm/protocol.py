"""What members say to each other over the peer door: paths, headers and documents.

    GET  /contents/<key>         with `Range: bytes=a-b`: a chunk that the member holds
    POST /contents/<key>/lease   the same, of the chunk's home; JSON: `without`, the members that failed the asker
    GET  /contents/<key>/stat    JSON: size in bytes, media type
    GET  /names/<identity>       JSON: what a tag or URL stands for, as remembered
    POST /resolve                JSON: what a tag or URL stands for now; POST /manifest: a manifest (`delegate`)
    POST /orders/purge           JSON: forget a content (`app/operations/documents.py` has the documents of orders)
    POST /orders/bring           JSON: bring contents here; GET /orders/bring/<id> tells how far that is
    GET  /load                   JSON: what the member holds and has moved, for the page

A chunk is answered with 206, its bytes and their `Content-Digest` (RFC 9530); else with

    404   does not have it after all
    503   has it and is busy; `X-MS-Peerd-Alternates` names members that lately got it
    202   is fetching it; ask again; `X-MS-Peerd-Received`, how many bytes of the content it has by now, tells whether it gets on
    409   of a home: the asker has leave to go one step further, to the home of all or to upstream; an alternate named with it has
          leave in another zone, and is asked before upstream
    423   of a home: somebody else has leave; the alternate

and each of these with `X-MS-Peerd-Chunks`, which chunks of the content the member has (`knowledge.write_bits`), if any, and with
`X-MS-Peerd-Uploads`, how many chunks it is sending, or is about to. No request
for a chunk makes a member ask another one, so none can loop; a question for what a name stands for does, and says how far it may
still travel. Whoever opens this door has shown a certificate of the cluster, or all doors are on loopback (`--insecure-peers`). A
client's credential never travels; a signature inside a URL does, with a question for its name, in memory only.
"""

import base64
import json
from collections.abc import AsyncIterator
from urllib.parse import quote

from app.content.json_text import parsed
from app.content.key import ContentKey
from app.content.names import Name
from app.content.source import Stat

FROM_PEER_HEADER = "X-MS-Peerd-RequestFromPeer"
NODE_HEADER = "X-MS-Peerd-Node"
CHUNKS_HEADER = "X-MS-Peerd-Chunks"
ALTERNATES_HEADER = "X-MS-Peerd-Alternates"
UPLOADS_HEADER = "X-MS-Peerd-Uploads"
RECEIVED_HEADER = "X-MS-Peerd-Received"

CHUNK_SIZE_MAX = 64 << 20
"""Bytes that one request may ask for."""

DOCUMENT_SIZE_MAX = 64 << 10
ORDER_SIZE_MAX = 1 << 20

RESOLVE_PATH = "/resolve"
MANIFEST_PATH = "/manifest"
PURGE_PATH = "/orders/purge"
BRING_PATH = "/orders/bring"
LOAD_PATH = "/load"


async def read_body(pieces: AsyncIterator[bytes], size_max: int = DOCUMENT_SIZE_MAX) -> bytes:
    """The body of a request; raises ValueError where it is longer than `size_max` bytes."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > size_max:
            raise ValueError(f"a body here has at most {size_max} bytes")
    return bytes(body)


def content_path(key: ContentKey) -> str:
    """Where a member offers a content's chunks."""
    return f"/contents/{quote(key.text, safe='')}"


def lease_path(key: ContentKey) -> str:
    """Where a home is asked for a chunk, or for leave to fetch it."""
    return f"{content_path(key)}/lease"


def common_name(key: str) -> str:
    """What members call a content among themselves, proved or not: bit fields, homes and leases go by it."""
    return key.partition("@")[0]


def stat_path(key: ContentKey) -> str:
    """Where a member says what it knows of a content."""
    return f"{content_path(key)}/stat"


def name_path(name: Name) -> str:
    """Where a member says what a name stands for."""
    return f"/names/{name.identity}"


def progress_path(identity: str) -> str:
    """Where a member says how far an order to bring contents is."""
    return f"{BRING_PATH}/{identity}"


def content_digest(sha256: bytes) -> str:
    """The value of `Content-Digest`."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def parse_content_digest(header: str | None) -> bytes | None:
    """The sha-256 of a `Content-Digest` header; None where it has none that can be read."""
    for member in (header or "").split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm == "sha-256" and len(value) > 1 and value.startswith(":") and value.endswith(":"):
            try:
                checksum = base64.b64decode(value[1:-1], validate=True)
            except ValueError:
                return None
            return checksum if len(checksum) == 32 else None
    return None


def write_stat(size: int, media_type: str | None) -> str:
    """The document at `stat_path`."""
    return json.dumps({"size": size, "media_type": media_type})


def read_stat(text: bytes) -> Stat:
    """Raises ValueError where the document is not one."""
    fields = parsed(text)
    if not isinstance(fields, dict):
        raise ValueError("not a stat document")  # noqa: TRY004 -- one error for all that is wrong with a document
    size, media_type = fields.get("size"), fields.get("media_type")
    if not isinstance(size, int) or size < 0 or not isinstance(media_type, str | None):
        raise ValueError("not a stat document")
    return Stat(size, None, media_type)
