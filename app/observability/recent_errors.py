"""The last warnings and errors of this process' log, for people who look at the page and not at the log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.observability.logs import cut_secrets

REMEMBERED_MAX = 20
MESSAGE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class LoggedError:
    """Lines that say the same. `at` is when the last was written, in seconds since the epoch."""

    at: float
    message: str
    count: int


class RecentErrors(logging.Handler):
    """Remembers them; `listening` says how long. Logging's own lock guards it, as threads log too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._by_message: dict[str, LoggedError] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Whatever is logged within this block is seen."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One record; called by logging, under the lock."""
        message = cut_secrets(record.getMessage())
        if record.exc_info and (error := record.exc_info[1]) is not None:
            message += f": {type(error).__name__}: {cut_secrets(str(error))}"
        message = message[:MESSAGE_LENGTH_MAX]
        known = self._by_message.pop(message, None)
        self._by_message[message] = LoggedError(record.created, message, known.count + 1 if known else 1)
        if len(self._by_message) > REMEMBERED_MAX:
            del self._by_message[next(iter(self._by_message))]

    def newest_first(self) -> list[LoggedError]:
        """What is remembered."""
        self.acquire()
        try:
            return list(self._by_message.values())[::-1]
        finally:
            self.release()
