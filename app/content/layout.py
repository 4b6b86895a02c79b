"""The cache's files, drawn and named, and what of them is believed after a crash.

    <cache-dir>/
        lock                        held while a node runs here, so that two never share a folder
        v1/contents/<aa>/<id>/      id: sha-256 of the content key, aa: its first two digits
            meta.json               what the content is; written beside and renamed; its last line is a check sum
            chunks                  one record of 37 bytes a chunk: its state, its sha-256, and a check sum of both
            data                    chunk i at i * chunk_size; sparse, so what is missing takes no room
        v1/names/<aa>/<id>.json     what a tag or a URL stood for when it was last asked
        v1/trash/                   what is being deleted; emptied at start

A whole content is one plain file, so `sha256sum data` proves it and a range over many chunks is one sendfile.

Nothing is synced to disk, and nothing needs to be: a record says what the chunk hashes to, and a chunk is hashed before its
first use after a start. Data that did not reach the disk, a torn record, or a bit that rotted all end the same way: the
hash differs and the chunk is missing. A record has a check sum of its own, because the hash in it outlives the data: it says
what the next source must send. What was proved is told in `meta.json` with a check sum over the hashes that were proved: records that
the disk brought back from before add up to another, and count for no more than they did then. `meta.json` is whole or absent, because rename is atomic; one that power loss left empty, or in
which a bit rotted, does not add up and its folder is deleted.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from app.content.byte_range import chunk_count
from app.content.digest import Digest
from app.content.json_text import parsed
from app.content.key import ContentKey
from app.content.validator import Validator
from app.errors import BadRequest

ABSENT, PRESENT, GONE = 0, 1, 2
"""A chunk's state. GONE: not here any more, but what it hashed to is known."""

CHECKSUM_SIZE = 32
RECORD_SIZE = 1 + CHECKSUM_SIZE + 4

CHUNKS_MAX = 1 << 20
"""Of one content. An upstream may say any length; what is remembered of each chunk takes 49 bytes of memory."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a content is, as `meta.json` keeps it.

    Attributes:
        verified: the whole was hashed once and is what `digest` says.
        proof: of a verified content on disk, `proof_of` what its chunks hashed to then.
        source: registry or host it came from, for people to read; never a URL with its query.
    """

    key: ContentKey
    size: int
    chunk_size: int
    digest: Digest | None = None
    verified: bool = False
    proof: str | None = None
    media_type: str | None = None
    validator: Validator | None = None
    last_modified: str | None = None
    kind: Literal["blob", "manifest", "file"] = "blob"
    source: str = ""

    @property
    def chunks(self) -> int:
        """How many chunks the content has."""
        return chunk_count(self.size, self.chunk_size)

    def to_json(self) -> str:
        """The text of `meta.json`."""
        return json.dumps(
            {
                **asdict(self),
                "key": self.key.text,
                "digest": str(self.digest) if self.digest else None,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "Meta":
        """Raises ValueError where the text is not a whole and sensible `meta.json`."""
        try:
            fields: dict[str, Any] = parsed(text)
            fields["key"] = ContentKey(fields["key"])
            fields["digest"] = Digest.parse(fields["digest"]) if fields["digest"] else None
            fields["validator"] = Validator(**fields["validator"]) if fields["validator"] else None
            meta = cls(**fields)
            sensible = meta.size >= 0 and meta.chunk_size > 0 and meta.chunks <= CHUNKS_MAX
        except (TypeError, KeyError, AttributeError, BadRequest) as error:
            raise ValueError(f"not a meta.json: {error}") from error
        if not sensible:
            raise ValueError(f"not a meta.json: size {meta.size}, chunk size {meta.chunk_size}")
        return meta


class Layout:
    """Paths below one cache folder. Knows files, not what they are worth."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = root / "v1"

    def prepare(self) -> None:
        """Make the folders, and finish what a former life was deleting."""
        for name in ("contents", "names", "trash"):
            (self._base / name).mkdir(parents=True, exist_ok=True)
        for left_over in (self._base / "trash").iterdir():
            shutil.rmtree(left_over, ignore_errors=True)

    @property
    def lock(self) -> Path:
        """The file whose lock says that a node runs here."""
        return self.root / "lock"

    @property
    def scratch(self) -> Path:
        """Where nameless files are made, on the same disk as the rest."""
        return self._base / "trash"

    def content(self, key: ContentKey) -> Path:
        """The folder of one content."""
        identity = hashlib.sha256(key.text.encode()).hexdigest()
        return self._base / "contents" / identity[:2] / identity

    def name(self, identity: str) -> Path:
        """The file of one name; `identity` is hexadecimal."""
        return self._base / "names" / identity[:2] / f"{identity}.json"

    def contents(self) -> Iterator[Path]:
        """The folders of all contents."""
        yield from (self._base / "contents").glob("??/*")

    def names(self) -> Iterator[Path]:
        """The files of all names."""
        yield from (self._base / "names").glob("??/*.json")

    def discard(self, path: Path) -> Path:
        """Take a folder out of the way in one step; the caller deletes what is returned when there is time."""
        target = self._base / "trash" / f"{path.name}.{os.urandom(6).hex()}"
        path.rename(target)
        return target


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or the next life, sees the old or the new text, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        beside.write_text(f"{text}\n{_seal(text)}\n")
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def read_whole(path: Path) -> str:
    """What `write_whole` wrote. Raises ValueError where a bit of it rotted or never reached the disk; OSError."""
    text, _, seal = path.read_text().removesuffix("\n").rpartition("\n")
    if seal != _seal(text):
        raise ValueError(f"{path.name} is damaged")
    return text


def _seal(text: str) -> str:
    """A last line for a JSON document that leaves it readable as JSON."""
    return f'"{zlib.crc32(text.encode()):08x}"'


def record(state: int, checksum: bytes) -> bytes:
    """One chunk's record; that of an ABSENT one is nothing but zeros, as in a file that was never written."""
    if state == ABSENT:
        return bytes(RECORD_SIZE)
    body = bytes([state]) + checksum
    return body + zlib.crc32(body).to_bytes(4, "big")


def proof_of(checksums: bytes | bytearray) -> str:
    """Of the checksums of all chunks, one after the other, one sha-256 in hexadecimal."""
    return hashlib.sha256(checksums).hexdigest()


def read_records(path: Path, count: int) -> tuple[bytearray, bytearray]:
    """States and checksums of `count` chunks, as `chunks` keeps them; what the file lacks, or does not add up, is ABSENT."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""
    states, checksums = bytearray(count), bytearray(count * CHECKSUM_SIZE)
    for index in range(min(count, len(raw) // RECORD_SIZE)):
        found = raw[index * RECORD_SIZE : (index + 1) * RECORD_SIZE]
        state, checksum = found[0], found[1 : 1 + CHECKSUM_SIZE]
        if state in (PRESENT, GONE) and found == record(state, checksum):
            states[index] = state
            checksums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE] = checksum
    return states, checksums
