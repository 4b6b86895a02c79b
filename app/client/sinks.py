"""Where fetched bytes go: nowhere, into memory, or into a file that appears when it is whole and right."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from app.errors import Unobtainable


class Nowhere:
    """Counts on the hash alone: the bytes are verified and dropped."""

    def write(self, data: memoryview, /) -> None:
        """Drop them."""

    def restart(self) -> None:
        """Nothing is kept, so nothing is forgotten."""


class InMemory:
    """A small document; more than `limit` bytes are refused, so that no answer fills the memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def write(self, data: memoryview, /) -> None:
        """Keep them; raises Unobtainable beyond the limit."""
        if len(self._data) + len(data) > self._limit:
            raise Unobtainable(f"a document of more than {self._limit} bytes; that is no manifest")
        self._data += data

    def restart(self) -> None:
        """Begin again."""
        self._data.clear()

    def bytes(self) -> bytes:
        """What was written."""
        return bytes(self._data)


class IntoFile:
    """A file under its own name only once the block ends well; until then `NAME.partial` beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._file = self._partial.open("wb")

    def write(self, data: memoryview, /) -> None:
        """Append them."""
        self._file.write(data)

    def restart(self) -> None:
        """Begin again."""
        self._file.seek(0)
        self._file.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._partial, self._path)  # noqa: PTH105 - the verb is the point
        else:
            self._partial.unlink(missing_ok=True)
