"""Answers to requests that a plan covers: their heads, and what is told and counted of them, as of every other answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.content.source import SourceKind
from app.observability.metrics import Metrics
from app.observability.request import CORRELATION_HEADER, NODE_HEADER, correlation_id_of, tell
from app.observability.transfers import Transfers
from app.routes.http_range import content_range
from app.routes.plans import Planned
from app.routes.sending import CACHE_STATUS, broken_off
from app.server.sendfile import BodyBrokenOff

_CACHE_STATUS = {kind: text.encode() for kind, text in CACHE_STATUS.items()}


@dataclass(frozen=True, slots=True)
class Telling:
    """Where answers are told of; `node` is this node's name."""

    transfers: Transfers
    metrics: Metrics
    node: str


class ShortAnswer:
    """One answer, from its request to its end, by `is_over` or `gives_way`, once.

    Attributes:
        count: of its body's bytes.
        has_begun: its head goes out, or went.
    """

    __slots__ = (
        "_planned",
        "_target",
        "_telling",
        "_transfer",
        "began",
        "correlation_id",
        "count",
        "has_begun",
        "status",
    )

    def __init__(
        self, telling: Telling, planned: Planned, target: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> None:
        plan = planned.plan
        self.began = time.perf_counter()
        self._telling = telling
        self._planned = planned
        self._target = target
        self.correlation_id = correlation_id_of(headers)
        self.count = len(planned.wanted)
        self.status = 206 if planned.is_range else 200
        self.has_begun = False
        self._transfer = telling.transfers.begin(
            plan.entry.meta.key.text,
            kind=plan.kind,
            door=plan.door,
            total=self.count,
            correlation_id=self.correlation_id.decode(),
        )

    def lines(self, kind: SourceKind) -> bytes:
        """The head's lines, each with its CR LF, of an answer whose first byte comes from `kind`; it is sent now. From any thread."""
        self.has_begun = True
        plan = self._planned.plan
        lines = b"%bcontent-length: %d\r\ncache-status: %b\r\n%b: %b\r\n%b: %b\r\n" % (
            plan.lines,
            self.count,
            _CACHE_STATUS[kind],
            NODE_HEADER,
            self._telling.node.encode("latin-1"),
            CORRELATION_HEADER,
            self.correlation_id,
        )
        if self._planned.is_range:
            lines += b"content-range: %b\r\n" % content_range(self._planned.wanted, plan.entry.meta.size).encode()
        return lines

    def went_out(self, kind: SourceKind, count: int) -> None:
        """So many bytes more of the body, which came from there."""
        self._telling.transfers.sent(self._transfer, kind, count)

    def broken_off(self, error: Exception) -> BodyBrokenOff:
        """The rest can not be had; to be raised."""
        return broken_off(self._transfer, error)

    def is_over(self, *, whole: bool) -> None:
        """The last byte went out, or no more will."""
        self._telling.transfers.end(self._transfer, whole=whole)
        if whole:
            self.was_counted_as(self.status)
        status, outcome = self.status if self.has_begun else 0, "served" if whole else "broken off"
        tell("GET", self._target, status, outcome, time.perf_counter() - self.began, self.correlation_id)

    def gives_way(self) -> None:
        """To another answer, which is told of where it is given."""
        self._telling.transfers.end(self._transfer, whole=False)

    def was_counted_as(self, status: int) -> None:
        """An answer with this status was given."""
        self._telling.metrics.was_answered(self._planned.plan.handler, status, time.perf_counter() - self.began)
