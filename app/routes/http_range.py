"""`Range` headers in, byte ranges out (RFC 9110, section 14). The only place of "- 1": inclusive ends stay in here.

    ranges-specifier = range-unit "=" range-set
    range-set        = 1#range-spec
    range-spec       = int-range / suffix-range / other-range
    int-range        = first-pos "-" [ last-pos ]
    suffix-range     = "-" suffix-length

A header that does not parse is ignored, as section 14.2 allows; but `last < first` and `-0` are answered 416, so that nobody
who counted wrong is sent a whole disk instead.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.content.byte_range import ByteRange
from app.errors import RangeNotSatisfiable

RANGES_MAX = 16
"""More are answered with the whole: section 14.2 names many small or overlapping ranges as an attack."""

_SPEC = re.compile(r"(\d*)-(\d*)", re.ASCII)
_FAR = 10**18
"""Beyond the end of any content; a position of more digits counts as this one."""


@dataclass(frozen=True, slots=True)
class RequestedRange:
    """What one range-spec asks for, before the size is known. `first` None: the last `last` bytes; `last` inclusive."""

    first: int | None
    last: int | None

    def resolve(self, size: int) -> ByteRange | None:
        """The bytes of it that a content of `size` bytes has; None when it has none of them."""
        if self.first is None:
            count = min(self.last or 0, size)
            return ByteRange(size - count, size) if count else None
        stop = size if self.last is None else min(self.last + 1, size)
        return ByteRange(self.first, stop) if self.first < stop else None


def parse_range(header: str | None) -> tuple[RequestedRange, ...] | None:
    """What a `Range` header asks for; None where there is none, or it is to be ignored."""
    if header is None:
        return None
    unit, equals, specs = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    requested: list[RequestedRange] = []
    for spec in specs.split(","):
        text = spec.strip(" \t")
        if not text:
            continue  # An empty list element is allowed (section 5.6.1.2).
        match = _SPEC.fullmatch(text)
        if match is None or match[0] == "-":
            return None
        requested.append(RequestedRange(_position(match[1]), _position(match[2])))
    return tuple(requested) or None


def _position(digits: str) -> int | None:
    """RFC 9110, section 14.1.2: any number of digits is allowed, and must not overflow."""
    significant = digits.lstrip("0")
    if len(significant) > 18:
        return _FAR
    return int(significant or "0") if digits else None


def resolve(requested: Sequence[RequestedRange] | None, size: int) -> list[ByteRange] | None:
    """The ranges to answer with; None: the whole, with 200.

    Raises:
        RangeNotSatisfiable: nothing of what was asked for exists.
    """
    if requested is None:
        return None
    found = [part for part in (one.resolve(size) for one in requested) if part is not None]
    if not found:
        raise RangeNotSatisfiable(size)
    if len(found) > RANGES_MAX or _overlap(found):
        return None
    return found


def _overlap(ranges: Sequence[ByteRange]) -> bool:
    """Whether any byte would be sent twice (section 14.2, on overlapping ranges)."""
    in_order = sorted(ranges)
    return any(after.start < before.stop for before, after in itertools.pairwise(in_order))


def content_range(part: ByteRange, size: int | None) -> str:
    """The value of `Content-Range` for `part` (section 14.4)."""
    return f"bytes {part.start}-{part.stop - 1}/{'*' if size is None else size}"


def unsatisfied(size: int) -> str:
    """The value of `Content-Range` in a 416."""
    return f"bytes */{size}"
