"""Against a real blob store: nginx over a folder."""

import asyncio
import random
from urllib.parse import quote

import pytest

from app.content.location import FileAtUrl
from app.errors import ContentChanged, ContentUnknown
from tests.support.blob_store import BlobStore
from tests.upstream.reading import content, fetch

DATA = random.Random(4).randbytes(3 * 1024 * 1024 + 11)
SEED = 20_250_701


async def test_random_ranges_by_many_readers(source, blob_store: BlobStore) -> None:
    (blob_store.files / "ranges").write_bytes(DATA)
    rng = random.Random(SEED)
    location = FileAtUrl(f"{blob_store.url}/ranges?sv=1&sig=%2babc%2F")
    stat = await source.stat(location)
    assert (stat.size, stat.ranged, stat.validator is not None) == (len(DATA), True, True)
    what = content(location, stat.size, stat.validator)

    async def read(start: int, stop: int) -> None:
        assert await fetch(source, what, start, stop) == DATA[start:stop], f"seed {SEED}: {start} to {stop}"

    spans = [sorted(rng.sample(range(len(DATA) + 1), 2)) for _ in range(100)]
    await asyncio.gather(*(read(start, stop) for start, stop in spans))


@pytest.mark.parametrize("name", ["a b", "a+b", "ä", "100%", "a?b", "a#b", "sub//file", "a%2Fb"])
async def test_names_that_have_to_be_escaped(source, blob_store: BlobStore, name: str) -> None:
    on_disk = blob_store.files / name.replace("//", "/")
    on_disk.parent.mkdir(exist_ok=True)
    on_disk.write_bytes(name.encode())
    assert (await source.stat(FileAtUrl(f"{blob_store.url}/{quote(name)}"))).size == len(name.encode())


async def test_an_empty_file(source, blob_store: BlobStore) -> None:
    (blob_store.files / "empty").write_bytes(b"")
    stat = await source.stat(FileAtUrl(f"{blob_store.url}/empty"))
    assert (stat.size, stat.validator is not None) == (0, True)


async def test_a_file_that_is_replaced_is_never_mixed(source, blob_store: BlobStore) -> None:
    path = blob_store.files / "changing"
    path.write_bytes(DATA)
    location = FileAtUrl(f"{blob_store.url}/changing")
    stat = await source.stat(location)
    path.write_bytes(DATA[::-1] + b"longer")
    for start, stop in [(5, 9), (0, len(DATA))]:
        with pytest.raises(ContentChanged):
            await fetch(source, content(location, stat.size, stat.validator), start, stop)


async def test_a_file_that_is_not_there(source, blob_store: BlobStore) -> None:
    with pytest.raises(ContentUnknown):
        await source.stat(FileAtUrl(f"{blob_store.url}/missing"))
