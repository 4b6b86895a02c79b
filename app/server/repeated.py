"""A request that is the last one again but for its Range: it is compared with that one's bytes, and not read again.

Who reads a file in ranges over one connection sends the same head again and again, and to call Python for each of its lines costs as much
as to look for the answer. Nothing is guessed: what is the same to the byte reads the same, where the parser is between two requests; that
it is, and that what is remembered was one request, `app/server/at_once.py` sees to.
"""

import re
from typing import Generic, Protocol, Self, TypeVar

BYTES_MAX = 8 << 10
"""Of a request that is remembered, as each connection has one; a longer one is read each time."""

# A line of its own: what is folded (RFC 9112, section 5.2), or has another form, is found not to be what was read.
_RANGE_LINE = re.compile(rb"\r\nrange:[ \t]*(bytes=\d{1,18}-\d{0,18})[ \t]*\r\n", re.IGNORECASE)
_RANGE = re.compile(rb"bytes=\d{1,18}-\d{0,18}")


class Asked(Protocol):
    """What a request says.

    Attributes:
        range: the value of its one Range; None where it has none.
    """

    range: bytes | None

    def with_range(self, value: bytes) -> Self:
        """The same but for that value."""


AskedT = TypeVar("AskedT", bound=Asked)


class Repeated(Generic[AskedT]):
    """A request, as the bytes of its head, and what it says."""

    __slots__ = ("_asked", "_before", "_behind")

    def __init__(self, head: bytes, asked: AskedT) -> None:
        found = _RANGE_LINE.search(head)
        start, stop = (len(head), len(head)) if found is None or found[1] != asked.range else found.span(1)
        self._before, self._behind, self._asked = head[:start], head[stop:], asked

    @classmethod
    def of(cls, head: bytes, asked: AskedT) -> "Repeated[AskedT] | None":
        """Of one whole request without a body, and nothing else; None where it is too long to be kept."""
        return cls(head, asked) if len(head) <= BYTES_MAX else None

    def says(self, data: bytes) -> AskedT | None:
        """What `data` says, where it is the same request again, if perhaps with another Range."""
        if not (data.startswith(self._before) and data.endswith(self._behind)):
            return None
        value = data[len(self._before) : len(data) - len(self._behind)]
        if self._behind and _RANGE.fullmatch(value):
            return self._asked.with_range(value)
        return None if self._behind or value else self._asked
