"""Plans: what a target was found to be a moment ago, and so how another range of it is answered.

Reading a layer or a file in ranges asks for the same target again and again, and FastAPI's way to it costs several times what
sendfile does. A route that has found a content says so with `remember`; for a second, requests for the same target with the same
credential are covered by that. Whatever else there is to a request (a condition, several ranges, one that can not be satisfied, HEAD)
goes the whole way, which also renews the plan: what a route decides, upstream's new version and a client's consent included, is never
older than that second.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request

from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor
from app.content.entry import Entry
from app.content.library import Found
from app.content.manifests import FoundManifest
from app.content.reader import Reader
from app.observability.request import given_correlation_id

PLAN_SECONDS = 1.0
PLANS_MAX = 1024
"""So many targets at once; a node with more clients than that has the time to go the whole way."""

_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{0,18})")
# Whoever sends one of these says more than a plan knows of: conditions, a body, another protocol.
_SAYS_MORE = frozenset(
    (
        b"if-match",
        b"if-none-match",
        b"if-range",
        b"if-modified-since",
        b"if-unmodified-since",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
    )
)
# Whoever sends another of these asks for something else.
_ASKER = frozenset((b"authorization", b"oci-namespace"))
# RFC 9110, section 5.5: what no value of a field may hold.
_NOT_IN_A_FIELD = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

Headers = Sequence[tuple[bytes, bytes]]
"""Of a request, their names in lower case."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a target is answered.

    Attributes:
        file: kept open meanwhile.
        headers: of every answer, without the media type.
        lines: the same as they are sent, with it.
        by: who asked: the headers that the answer depends on.
    """

    found: Found | FoundManifest
    entry: Entry
    file: Descriptor
    headers: Mapping[str, str]
    lines: bytes
    media_type: str
    kind: Literal["blob", "manifest", "file"]
    by: frozenset[tuple[bytes, bytes]]

    @property
    def handler(self) -> Literal["files", "oci"]:
        """Which door it is, in metrics."""
        return "files" if self.kind == "file" else "oci"

    @property
    def door(self) -> Literal["files", "mirror"]:
        """Which door it is, in transfers."""
        return "files" if self.kind == "file" else "mirror"


@dataclass(slots=True)
class Asked:
    """What a GET says, as far as a plan may cover it; an `app.server.repeated.Asked`.

    Attributes:
        target: a path and a query, as they were sent.
        by: who asks: the headers that the answer depends on.
        range: the value of the one Range that there is.
        correlation_id: with which it came, where it did with one that is given back.
    """

    target: bytes
    by: frozenset[tuple[bytes, bytes]]
    range: bytes | None
    correlation_id: bytes | None

    @classmethod
    def read(cls, target: bytes, headers: Headers) -> "Asked | None":
        """What these headers say; None where it is more than that."""
        range_: bytes | None = None
        by: list[tuple[bytes, bytes]] = []
        for pair in headers:
            name = pair[0]
            if name in _SAYS_MORE:
                return None
            if name == b"range":
                if range_ is not None:
                    return None
                range_ = pair[1]
            elif name in _ASKER:
                by.append(pair)
        asker = frozenset(by)
        if len(asker) < len(by):  # One that says the same twice is for the whole way to refuse.
            return None
        return cls(target, asker, range_, given_correlation_id(headers))

    def with_range(self, value: bytes) -> "Asked":
        """The same for another range."""
        return Asked(self.target, self.by, value, self.correlation_id)


@dataclass(slots=True)
class Planned:
    """A request that its plan covers: the bytes that are meant, and whether they are a range."""

    asked: Asked
    plan: Plan
    wanted: ByteRange
    is_range: bool


class Plans:
    """Plans for targets that were found lately. A target is a path and a query, as they were sent."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._plans: dict[bytes, Plan] = {}

    def remember(
        self,
        request: Request,
        found: Found | FoundManifest,
        headers: Mapping[str, str],
        *,
        media_type: str,
        kind: Literal["blob", "manifest", "file"],
    ) -> None:
        """What `request` asked for is `found`; `headers` are those of every answer of it."""
        target, entry = target_of(request.scope), found.entry
        if entry is None or (len(self._plans) >= PLANS_MAX and target not in self._plans):
            return
        if kind == "manifest" and not self._reader.is_settled(entry):
            return
        try:
            file = entry.file()
        except OSError:  # The whole way tells of it.
            return
        named = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        named.append((b"content-type", media_type.encode("latin-1")))
        if any(_NOT_IN_A_FIELD.search(value) for _, value in named):  # The whole way refuses it.
            return
        lines = b"".join(b"%b: %b\r\n" % pair for pair in named)
        by = frozenset(pair for pair in request.scope["headers"] if pair[0] in _ASKER)
        plan = self._plans[target] = Plan(found, entry, file, dict(headers), lines, media_type, kind, by)
        asyncio.get_running_loop().call_later(PLAN_SECONDS, self.forget, target, plan)

    def forget(self, target: bytes, plan: Plan) -> None:
        """The next request of this target goes the whole way."""
        if self._plans.get(target) is plan:
            del self._plans[target]

    def find(self, asked: Asked) -> Planned | None:
        """What is meant by a GET; None where it has to go the whole way."""
        plan = self._plans.get(asked.target)
        if plan is None or plan.by != asked.by or not self._reader.is_current(plan.entry):
            return None
        size = plan.entry.meta.size
        if plan.kind == "manifest" or asked.range is None:
            return Planned(asked, plan, ByteRange(0, size), is_range=False) if size else None
        found = _RANGE.fullmatch(asked.range)
        if found is None:
            return None
        first, last = int(found[1]), int(found[2] or size)
        if first >= size or last < first:
            return None
        return Planned(asked, plan, ByteRange(first, min(last + 1, size)), is_range=True)


def target_of(scope: Mapping[str, Any]) -> bytes:
    """Path and query of a request, as they were sent."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path
