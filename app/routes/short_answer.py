"""Answers to requests that a plan covers: their heads, and what is told and counted of them, as of every other answer."""

import time
from dataclasses import dataclass, field

from app.content.source import SourceKind
from app.observability.metrics import Metrics
from app.observability.request import CORRELATION_HEADER, NODE_HEADER, new_correlation_id, tell
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
    node_bytes: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Encode what every head has."""
        object.__setattr__(self, "node_bytes", self.node.encode("latin-1"))


class ShortAnswer:
    """One answer, from its request to its end, by `is_over` or `gives_way`, once.

    Attributes:
        count: of its body's bytes.
        has_begun: its head goes out, or went.
    """

    __slots__ = (
        "_planned",
        "_telling",
        "_transfer",
        "began",
        "correlation_id",
        "count",
        "has_begun",
        "status",
    )

    def __init__(self, telling: Telling, planned: Planned) -> None:
        plan = planned.plan
        self.began = time.perf_counter()
        self._telling = telling
        self._planned = planned
        self.correlation_id = planned.asked.correlation_id or new_correlation_id()
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
        planned = self._planned
        plan, wanted = planned.plan, planned.wanted
        lines = b"%bcontent-length: %d\r\ncache-status: %b\r\n%b: %b\r\n%b: %b\r\n" % (
            plan.lines,
            self.count,
            _CACHE_STATUS[kind],
            NODE_HEADER,
            self._telling.node_bytes,
            CORRELATION_HEADER,
            self.correlation_id,
        )
        if planned.is_range:
            lines += b"content-range: %b\r\n" % content_range(wanted, plan.entry.meta.size).encode()
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
        seconds = time.perf_counter() - self.began
        if whole:
            self._telling.metrics.was_answered(self._planned.plan.handler, self.status, seconds)
        status, outcome = self.status if self.has_begun else 0, "served" if whole else "broken off"
        tell("GET", self._planned.asked.target, status, outcome, seconds, self.correlation_id)

    def gives_way(self) -> None:
        """To another answer, which is told of where it is given."""
        self._telling.transfers.end(self._transfer, whole=False)

    def was_refused(self, status: int) -> None:
        """The other answer, given in place of this one, has this status."""
        self._telling.metrics.was_answered(self._planned.plan.handler, status, time.perf_counter() - self.began)
