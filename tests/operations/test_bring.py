"""What counts as brought, where upstream's last byte is here a moment before its chunk is kept."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from app.content.byte_range import ByteRange
from app.content.library import Found, Library, Readable
from app.content.location import Location
from app.content.manifests import Manifests
from app.content.source import Sink
from app.operations.bring import Bringer, Bringing
from app.operations.documents import BringOrder
from tests.content.heart import CHUNK, Conduct, FakeSource, Heart, good, heart, pattern, read

DATA = pattern(5 * CHUNK + 1)


class OneFile:
    """A library that has this file, and nothing else."""

    def __init__(self, it: Heart) -> None:
        self._heart = it
        self.found = Found(*it.content(DATA))

    async def find(self, _location: Location) -> Found:
        return self.found

    @asynccontextmanager
    async def reading(self, found: Found, _wanted: Sequence[ByteRange]) -> AsyncIterator[Readable]:
        assert found.entry is not None
        with self._heart.reader.reading(found.content, found.entry) as reading:
            yield reading

    async def at_rest(self, found: Found) -> None:
        assert found.entry is not None
        await self._heart.flights.at_rest(found.entry)


async def test_a_file_is_brought_when_its_chunks_are_kept(tmp_path: Path) -> None:
    kept = threading.Event()

    def says_late_that_it_is_done(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
        good(conduct, data, span, sink)
        kept.wait(10)

    async with heart(tmp_path, [FakeSource(DATA, [Conduct(says_late_that_it_is_done)])]) as it:
        library = OneFile(it)
        bringer = Bringer(
            it.cache,
            cast("Library", library),
            cast("Manifests", None),
            registry_hosts=(),
            is_announced=lambda _: False,
        )
        bringing = Bringing(BringOrder("1", ("http://upstream.test/file",)))
        brought = asyncio.create_task(bringer.bring(bringing))
        assert library.found.entry is not None
        with it.reader.reading(library.found.content, library.found.entry) as another:
            assert await read(another) == DATA  # Every byte is shown
        assert not library.found.entry.whole  # before any chunk is kept.
        await asyncio.sleep(0.05)
        assert not brought.done()
        kept.set()
        await brought
        assert bringing.progress.state == "finished", bringing.progress.error
        await it.assert_nothing_is_left_behind()
