"""What members say to each other over the peer door: paths, headers and documents.

    GET /contents/<key>         with `Range: bytes=a-b`, a chunk: 206, its bytes, `Content-Digest` (RFC 9530) of just these;
                                404 does not have it; 503 is busy
    GET /contents/<key>/stat    JSON: size in bytes, media type
    GET /names/<identity>       JSON: what a tag or URL stands for, as remembered

A member answers from what it holds and never asks on: a request makes one hop. Whoever opens this door has shown a
certificate of the cluster, or all doors are on loopback (`--insecure-peers`).
"""

import base64
import json
from urllib.parse import quote

from app.content.key import ContentKey
from app.content.names import Name
from app.content.source import Stat

FROM_PEER_HEADER = "X-MS-Peerd-RequestFromPeer"
NODE_HEADER = "X-MS-Peerd-Node"
CHUNK_SIZE_MAX = 64 << 20
"""Bytes that one request may ask for."""

DOCUMENT_SIZE_MAX = 64 << 10


def content_path(key: ContentKey) -> str:
    """Where a member offers a content's chunks."""
    return f"/contents/{quote(key.text, safe='')}"


def stat_path(key: ContentKey) -> str:
    """Where a member says what it knows of a content."""
    return f"{content_path(key)}/stat"


def name_path(name: Name) -> str:
    """Where a member says what a name stands for."""
    return f"/names/{name.identity}"


def content_digest(sha256: bytes) -> str:
    """The value of `Content-Digest`."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def parse_content_digest(header: str | None) -> bytes | None:
    """The sha-256 of a `Content-Digest` header; None where it has none that can be read."""
    for member in (header or "").split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm == "sha-256" and value.startswith(":") and value.endswith(":"):
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
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("not a stat document")  # noqa: TRY004 -- one error for all that is wrong with a document
    size, media_type = fields.get("size"), fields.get("media_type")
    if not isinstance(size, int) or size < 0 or not isinstance(media_type, str | None):
        raise ValueError("not a stat document")
    return Stat(size, None, media_type)
