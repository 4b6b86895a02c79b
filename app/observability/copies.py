"""How often upstream sent the same bytes: per content what came from there, per image what that makes over the cluster.

Each node remembers, for the contents that upstream lately sent it anything of, how many bytes came and which pieces of the
content they belong to. Put together over the members, the bytes that came divided by the bytes that differ are the copies: 1 where
the cluster took each byte once, N where N nodes pulled straight. Only what was asked for counts, so a file of which one part was
read is at 1 too. What differs is counted in pieces, and never as more than came: where a part of a piece was fetched several times,
the copies are more than what is told, never less.

An image is `<registry>/<repository>`, a file is host and path. A query may sign a URL, so it is no part of a name. With `--consent
upstream` registries and hosts are told, and no more. A content that several images share is told under the one through which it was
fetched. Not counted are manifests, and content that is passed on without being kept: nobody knows whether two answers for it are copies
of each other.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from app.content.byte_range import ByteRange, chunk_count, chunk_range
from app.content.location import BlobInRegistry, Location
from app.content.source import Content

CONTENTS_MAX = 1000
"""How many contents a node remembers, those of which anything came last; and how many it puts together of all members."""

CONTENTS_TOLD = 80
"""How many of them it tells another member. Each takes less than 600 bytes, and a document may have 64 KiB."""

NAME_LENGTH_MAX = 200
"""A longer name is cut."""

_NAMES_MAX = 64
"""How many are not made anew for each chunk that comes in."""

PIECES_MAX = 1024
_PIECE_SIZE_MIN = 64 << 10


@dataclass(frozen=True, slots=True)
class Received:
    """What upstream sent of one content, to one node or to several together.

    Attributes:
        name: of the image or file through which it was asked for.
        content: 32 hex digits that tell contents apart.
        size: of the content, in bytes, not 0.
        count: bytes that came.
        pieces: bit i is set where anything of piece i came; see `piece_size`.
        at: when the last of it came, in seconds since the epoch.
    """

    name: str
    content: str
    size: int
    count: int
    pieces: int
    at: int

    @property
    def distinct(self) -> int:
        """How many of the bytes that came differ, at most."""
        size = piece_size(self.size)
        last = chunk_count(self.size, size) - 1
        whole = self.pieces.bit_count() * size
        if self.pieces >> last & 1:
            whole -= size - len(chunk_range(last, self.size, size))
        return min(whole, self.count)

    def __add__(self, other: "Received") -> "Received":
        """The same content, received by both."""
        at = max(other.at, self.at)
        return Received(self.name, self.content, self.size, self.count + other.count, self.pieces | other.pieces, at)


def piece_size(size: int) -> int:
    """How long a piece of a content of `size` bytes is: a power of two, so that a content has PIECES_MAX pieces at most."""
    return max(_PIECE_SIZE_MIN, 1 << (chunk_count(size, PIECES_MAX) - 1).bit_length())


def name_of(location: Location) -> str:
    """What people know an image or a file by; without a query, a user or a password."""
    if isinstance(location, BlobInRegistry):
        return f"{location.registry}/{location.repository}"
    return f"{host_of(location)}{urlsplit(location.url).path}"


def host_of(location: Location) -> str:
    """Its registry or host alone: where clients may not all know what the others get."""
    return location.host.rpartition("@")[2]


@lru_cache(_NAMES_MAX)
def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LENGTH_MAX else f"{name[: NAME_LENGTH_MAX - 1]}…"


class Copies:
    """What upstream sent this node since its start.

    `name` says under what the contents of a place are told; `clock` gives seconds since the epoch.
    """

    def __init__(self, name: Callable[[Location], str] = name_of, *, clock: Callable[[], float] = time.time) -> None:
        self._named = lru_cache(_NAMES_MAX)(lambda location: _cut(name(location)))
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Received] = OrderedDict()

    def came_in(self, content: Content, span: ByteRange) -> None:
        """Upstream sent these bytes of a content, whether or not their chunk was completed."""
        if content.location is None:
            return
        name, text = self._named(content.location), str(content.digest or content.key)
        touched = span.chunks(piece_size(content.size))
        count, pieces = len(span), (1 << len(touched)) - 1 << touched.start
        before = self._known.pop((name, text), None)
        if before is not None:
            count, pieces = before.count + count, before.pieces | pieces
        self._known[name, text] = Received(name, _hashed(text), content.size, count, pieces, int(self._clock()))
        if len(self._known) > CONTENTS_MAX:
            self._known.popitem(last=False)

    def newest_first(self) -> list[Received]:
        """All that is remembered."""
        return list(reversed(self._known.values()))


def together(told: Iterable[Received]) -> list[Received]:
    """What several nodes received, each content once, newest first, CONTENTS_MAX of them at most."""
    known: dict[tuple[str, str, int], Received] = {}
    for one in told:
        # Members that disagree about a size do not speak of the same content.
        identity = (one.name, one.content, one.size)
        before = known.get(identity)
        known[identity] = one if before is None else before + one
    return sorted(known.values(), key=lambda one: one.at, reverse=True)[:CONTENTS_MAX]


@dataclass(frozen=True, slots=True)
class ImageCopies:
    """What upstream sent of one image or file. `size` is that of its contents of which anything came; all in bytes."""

    name: str
    size: int
    received: int
    distinct: int
    at: int

    @property
    def copies(self) -> float:
        """How often upstream sent the same bytes, on average."""
        return self.received / self.distinct


def images_in(received: Sequence[Received]) -> list[ImageCopies]:
    """The images that these contents are of, each content being there once; newest first."""
    by_name: dict[str, list[Received]] = {}
    for one in received:
        by_name.setdefault(one.name, []).append(one)
    images = [
        ImageCopies(
            name,
            sum(one.size for one in parts),
            sum(one.count for one in parts),
            sum(one.distinct for one in parts),
            max(one.at for one in parts),
        )
        for name, parts in by_name.items()
    ]
    return sorted(images, key=lambda image: image.at, reverse=True)
