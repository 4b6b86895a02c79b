"""The shortest way: what a plan covers and the cache has, and may show. Answered where the request is read (`app/server/at_once.py`)."""

import time
from collections.abc import Sequence

from app.content.descriptor import Descriptor
from app.content.library import Found
from app.content.reader import Held, Reader
from app.observability.metrics import Metrics
from app.observability.request import CORRELATION_HEADER, NODE_HEADER, correlation_id_of, tell
from app.observability.transfers import Transfers
from app.routes.http_range import content_range
from app.routes.plans import Planned, Plans
from app.routes.sending import CACHE_STATUS

_CACHE_STATUS = {kind: text.encode() for kind, text in CACHE_STATUS.items()}


class AtHand:
    """An `Answerer` of what is at hand. Its answers are told of and counted as every other."""

    def __init__(self, plans: Plans, reader: Reader, transfers: Transfers, metrics: Metrics, *, node: str) -> None:
        self._plans = plans
        self._reader = reader
        self._transfers = transfers
        self._metrics = metrics
        self._node_line = b"%b: %b\r\n" % (NODE_HEADER, node.encode("latin-1"))

    def answer(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> "_Answer | None":
        """See `app.server.at_once.Answerer`."""
        planned = self._plans.find(target, headers)
        if planned is None:
            return None
        plan = planned.plan
        content = plan.found.content if isinstance(plan.found, Found) else None
        try:
            held = self._reader.at_hand(content, plan.entry, planned.wanted)
        except OSError:  # The whole way tells of it.
            return None
        if held is None:
            return None
        return _Answer(
            target, planned, held, correlation_id_of(headers), self._node_line, self._transfers, self._metrics
        )


class _Answer:
    """One answer; see `app.server.at_once.Ready`."""

    __slots__ = (
        "_began",
        "_correlation_id",
        "_held",
        "_metrics",
        "_planned",
        "_target",
        "_transfer",
        "_transfers",
        "count",
        "file",
        "headers",
        "offset",
        "status",
    )

    def __init__(
        self,
        target: bytes,
        planned: Planned,
        held: Held,
        correlation_id: bytes,
        node_line: bytes,
        transfers: Transfers,
        metrics: Metrics,
    ) -> None:
        plan, part = planned.plan, held.part
        self._began = time.perf_counter()
        self._target = target
        self._planned = planned
        self._held = held
        self._correlation_id = correlation_id
        self._transfers = transfers
        self._metrics = metrics
        self.file: Descriptor = part.file
        self.offset = part.offset
        self.count = part.count
        self.status = 206 if planned.is_range else 200
        self.headers = b"%bcontent-length: %d\r\ncache-status: %b\r\n%b%b: %b\r\n" % (
            plan.lines,
            part.count,
            _CACHE_STATUS[part.kind],
            node_line,
            CORRELATION_HEADER,
            correlation_id,
        )
        if planned.is_range:
            self.headers += b"content-range: %b\r\n" % content_range(planned.wanted, plan.entry.meta.size).encode()
        self._transfer = transfers.begin(
            plan.entry.meta.key.text,
            kind=plan.kind,
            door=plan.door,
            total=part.count,
            correlation_id=correlation_id.decode(),
        )

    def sent(self, count: int) -> None:
        """So many bytes more of the body went out."""
        self._transfers.sent(self._transfer, self._held.part.kind, count)

    def ended(self, *, whole: bool) -> None:
        """The last byte went out, or no more will."""
        self._held.let_go()
        self._transfers.end(self._transfer, whole=whole)
        seconds = time.perf_counter() - self._began
        if whole:
            self._metrics.was_answered(self._planned.plan.handler, self.status, seconds)
        tell("GET", self._target, self.status, "served" if whole else "broken off", seconds, self._correlation_id)
