"""What members tell each other of an operation: orders, and how they went. Values and their JSON.

Owns: what of another member's document is believed. Every reader raises ValueError where a document is not one.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, cast, get_args

from app.content.byte_range import chunk_count
from app.content.digest import Digest
from app.content.json_text import parsed
from app.errors import BadRequest
from app.observability.copies import CONTENTS_TOLD, NAME_LENGTH_MAX, Received, piece_size

REFERENCES_MAX = 100
"""References of one preheat; openapi/peerd.yaml says the same."""

PARTS_MAX = 800
"""Digests in one document. An index of 20 platforms with 30 layers each has 641."""

COUNT_MAX = 1 << 60
"""Of bytes: more than any node has moved, and little enough that those of all members can be put together."""

_CONTENT = re.compile(r"[0-9a-f]{32}")
_PIECES = re.compile(r"[0-9a-f]{1,256}")

BringState = Literal["waiting", "running", "finished", "failed"]


def _fields(text: bytes) -> dict[str, Any]:
    fields = parsed(text)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 -- one error for all that is wrong with a document
    return fields


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is no count: {value!r}")
    return value


def _digests(fields: dict[str, Any], name: str) -> frozenset[Digest]:
    texts = fields.get(name)
    if not isinstance(texts, list) or len(texts) > PARTS_MAX or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} is no list of digests")
    try:
        return frozenset(map(Digest.parse, texts))
    except BadRequest as error:
        raise ValueError(f"{name}: {error}") from error


def _texts(digests: Iterable[Digest]) -> list[str]:
    return sorted(map(str, digests))[:PARTS_MAX]


@dataclass(frozen=True, slots=True)
class PurgeOrder:
    """Forget `target`, as `targets.parse_target` reads it.

    Attributes:
        roots: what the asking node knows the target's tag to stand for; others may remember nothing, or something older.
        parts: what is known to belong to the image; who holds chunks of a layer need not hold the manifest that names it.
    """

    target: str
    roots: frozenset[Digest] = frozenset()
    parts: frozenset[Digest] = frozenset()

    def to_json(self) -> bytes:
        """As it is sent."""
        fields = {"target": self.target, "roots": _texts(self.roots), "parts": _texts(self.parts)}
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ValueError."""
        fields = _fields(text)
        target = fields.get("target")
        if not isinstance(target, str):
            raise ValueError("not an order to purge")  # noqa: TRY004
        return cls(target, _digests(fields, "roots"), _digests(fields, "parts"))


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one node forgot.

    Attributes:
        freed: bytes on its disk.
        contents: how many, those included of which no byte was held any more.
        names: tags and URLs of which it does not remember any more what they stand for.
        roots: what the image's name stood for.
        parts: what was found to belong to the image and to no other.
    """

    freed: int = 0
    contents: int = 0
    names: int = 0
    roots: frozenset[Digest] = frozenset()
    parts: frozenset[Digest] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.contents or self.names)

    def __add__(self, later: Self) -> Self:
        """What was forgotten by two orders."""
        return type(self)(
            self.freed + later.freed,
            self.contents + later.contents,
            self.names + later.names,
            self.roots | later.roots,
            self.parts | later.parts,
        )

    def to_json(self) -> bytes:
        """As it is sent."""
        fields = {"freed": self.freed, "contents": self.contents, "names": self.names}
        return json.dumps({**fields, "roots": _texts(self.roots), "parts": _texts(self.parts)}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ValueError."""
        fields = _fields(text)
        freed, contents, names = (_count(fields, name) for name in ("freed", "contents", "names"))
        return cls(freed, contents, names, _digests(fields, "roots"), _digests(fields, "parts"))


@dataclass(frozen=True, slots=True)
class BringOrder:
    """Bring `references`, as `targets.parse_reference` reads them, onto the node that gets this.

    Attributes:
        id: under which the node is asked how far it is.
        from_members: a member has it all; the node takes it from there and not from upstream, as far as it can.
    """

    id: str
    references: tuple[str, ...]
    from_members: bool = False

    def to_json(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ValueError."""
        fields = _fields(text)
        identity, references, from_members = (fields.get(name) for name in ("id", "references", "from_members"))
        if (
            not isinstance(identity, str)
            or not isinstance(from_members, bool)
            or not isinstance(references, list)
            or not 0 < len(references) <= REFERENCES_MAX
            or not all(isinstance(one, str) for one in references)
        ):
            raise ValueError("not an order to bring content")
        return cls(identity, tuple(references), from_members)


@dataclass(frozen=True, slots=True)
class BringProgress:
    """How far one node is. Sizes in bytes.

    Attributes:
        done: held; of a node that has finished, verified too where there is a digest.
        total: None until the node knows all that is to be brought.
        brought: which of the order's references are whole, by their place in it.
    """

    state: BringState = "waiting"
    done: int = 0
    total: int | None = None
    error: str | None = None
    brought: frozenset[int] = frozenset()

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("finished", "failed")

    def to_json(self) -> bytes:
        """As it is sent."""
        return json.dumps({**asdict(self), "brought": sorted(self.brought)}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ValueError."""
        fields = _fields(text)
        state, error, brought = fields.get("state"), fields.get("error"), fields.get("brought")
        if (
            state not in get_args(BringState)
            or not isinstance(error, str | None)
            or not isinstance(brought, list)
            or not all(isinstance(one, int) and 0 <= one < REFERENCES_MAX for one in brought)
        ):
            raise ValueError("not a node's progress")
        total = None if fields.get("total") is None else _count(fields, "total")
        return cls(cast("BringState", state), _count(fields, "done"), total, error, frozenset(brought))


def _received(told: object) -> Received:
    """One row of a load."""
    if not isinstance(told, list) or len(told) != 6:
        raise ValueError(f"not what upstream sent of a content: {told!r}")
    name, content, pieces, *counts = told
    if (
        not all(isinstance(one, str) for one in (name, content, pieces))
        or not 0 < len(name) <= NAME_LENGTH_MAX
        or not name.isprintable()
        or not _CONTENT.fullmatch(content)
        or not _PIECES.fullmatch(pieces)
        or not all(isinstance(one, int) and 0 < one < COUNT_MAX for one in counts)
    ):
        raise ValueError(f"not what upstream sent of a content: {told!r}")
    size, count, at = counts
    bits = int(pieces, 16)
    if not 0 < bits < 1 << chunk_count(size, piece_size(size)):
        raise ValueError(f"a content of {size} bytes has no such pieces: {pieces}")
    return Received(name, content, size, count, bits, at)


@dataclass(frozen=True, slots=True)
class Load:
    """What a node holds now, and what it has moved since its start. All in bytes.

    `from_upstream` is what it was lately sent by upstream, newest first.
    """

    cache_used: int
    cache_quota: int
    served_cache: int
    served_containerd: int
    served_peer: int
    served_upstream: int
    received_peer: int
    received_upstream: int
    uploaded: int
    from_upstream: tuple[Received, ...] = ()

    def to_json(self) -> bytes:
        """As it is sent."""
        rows = [[one.name, one.content, f"{one.pieces:x}", one.size, one.count, one.at] for one in self.from_upstream]
        return json.dumps({**asdict(self), "from_upstream": rows}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ValueError."""
        said = _fields(text)
        rows = said.get("from_upstream", [])
        if not isinstance(rows, list) or len(rows) > CONTENTS_TOLD:
            raise ValueError(f"not what upstream sent to a member: {rows!r:.100}")
        counts = {one.name: _count(said, one.name) for one in fields(cls) if one.name != "from_upstream"}
        return cls(**counts, from_upstream=tuple(map(_received, rows)))
