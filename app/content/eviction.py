"""Which chunks are least worth keeping. Pure.

What nobody has read for longest goes first, one content after the other and each from its end: a content of which the
beginning is left can be read on at once while the rest comes, and finishing what was begun leaves fewer contents in part.
Only when all that is left is being read do contents under readers lose chunks, those that were used longest ago: that is
how a file larger than the cache passes through it.
"""

from collections.abc import Iterable, Iterator

from app.content.entry import Entry


def victims(entries: Iterable[Entry]) -> Iterator[tuple[Entry, int]]:
    """Chunks that may go, least worth keeping first. Never one that is pinned."""
    idle: list[Entry] = []
    in_use: list[Entry] = []
    for entry in entries:
        (in_use if entry.readers else idle).append(entry)
    idle.sort(key=lambda entry: entry.last_read)
    for entry in idle:
        for index in range(entry.meta.chunks - 1, -1, -1):
            if entry.has(index) and not entry.is_pinned(index):
                yield entry, index
    used = [
        (entry.used_at[index], position, index)
        for position, entry in enumerate(in_use)
        for index in range(entry.meta.chunks)
        if entry.has(index) and not entry.is_pinned(index)
    ]
    used.sort()
    for _, position, index in used:
        yield in_use[position], index
