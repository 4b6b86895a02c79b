"""The shortest way: what a plan covers and the cache has, and may show. Answered where the request is read (`app/server/at_once.py`)."""

from collections.abc import Sequence

from app.content.descriptor import Descriptor
from app.content.library import Found
from app.content.reader import Held, Reader
from app.routes.plans import Asked, Planned, Plans
from app.routes.short_answer import ShortAnswer, Telling


class AtHand:
    """An `Answerer` of what is at hand."""

    def __init__(self, plans: Plans, reader: Reader, telling: Telling) -> None:
        self._plans = plans
        self._reader = reader
        self._telling = telling

    def read(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Asked | None:
        """See `app.server.at_once.Answerer`."""
        return Asked.read(target, headers)

    def answer(self, asked: Asked) -> "_Answer | None":
        """See `app.server.at_once.Answerer`."""
        planned = self._plans.find(asked)
        if planned is None:
            return None
        plan = planned.plan
        content = plan.found.content if isinstance(plan.found, Found) else None
        try:
            held = self._reader.at_hand(content, plan.entry, planned.wanted)
        except OSError:  # The whole way tells of it.
            return None
        return None if held is None else _Answer(self._telling, planned, held)


class _Answer(ShortAnswer):
    """One answer; see `app.server.at_once.Ready`."""

    __slots__ = ("_held", "file", "headers", "offset")

    def __init__(self, telling: Telling, planned: Planned, held: Held) -> None:
        super().__init__(telling, planned)
        self._held = held
        self.file: Descriptor = held.part.file
        self.offset = held.part.offset
        self.headers = self.lines(held.part.kind)

    def sent(self, count: int) -> None:
        """So many bytes more of the body went out."""
        self.went_out(self._held.part.kind, count)

    def ended(self, *, whole: bool) -> None:
        """The last byte went out, or no more will."""
        self._held.let_go()
        self.is_over(whole=whole)
