"""Half-open byte ranges and the chunks they touch.

Inclusive ends exist only in headers; `routes/http_range.py` is where they are turned into these.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes from `start` up to, not including, `stop`. Both in bytes, never empty."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuse what is not a range."""
        if not 0 <= self.start < self.stop:
            raise ValueError(f"not a byte range: start={self.start}, stop={self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def chunks(self, chunk_size: int) -> range:
        """Indices of the chunks that this range touches."""
        return range(self.start // chunk_size, (self.stop - 1) // chunk_size + 1)

    def covers(self, size: int) -> bool:
        """Whether this is the whole of a content of `size` bytes."""
        return self.start == 0 and self.stop == size


def chunk_count(size: int, chunk_size: int) -> int:
    """How many chunks a content of `size` bytes has; an empty content has none."""
    return -(-size // chunk_size)


def chunk_range(index: int, size: int, chunk_size: int) -> ByteRange:
    """Where chunk `index` of a content of `size` bytes lies; the last one may be shorter."""
    return ByteRange(index * chunk_size, min((index + 1) * chunk_size, size))
