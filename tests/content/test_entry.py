"""What an entry keeps on disk, while its data file is open and while it is not."""

import hashlib
import logging
import os
from pathlib import Path

import pytest

from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import ABSENT, GONE, PRESENT, Meta

CHUNK, CHUNKS = 1000, 4
CHECKSUM = hashlib.sha256(b"").digest()


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    meta = Meta(key=ContentKey("url:" + 64 * "a"), size=CHUNK * CHUNKS, chunk_size=CHUNK)
    return Entry.create(meta, tmp_path / "content")


def in_the_next_life(entry: Entry) -> list[int]:
    """The states of the chunks, as they are on disk."""
    assert entry.folder is not None
    return list(Entry.load(entry.folder).states)


@pytest.mark.parametrize("is_open", [True, False])
def test_what_becomes_of_a_chunk_outlives_a_restart(
    entry: Entry, is_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    held = entry.file() if is_open else None
    entry.commit(0, CHECKSUM, 1.0)
    entry.commit(1, CHECKSUM, 1.0)
    entry.saw(2, CHECKSUM)
    entry.drop(1)
    assert in_the_next_life(entry) == list(entry.states) == [PRESENT, GONE, GONE, ABSENT]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    del held


def test_no_file_stays_open_longer_than_the_data_is_used(entry: Entry) -> None:
    before = len(os.listdir("/proc/self/fd"))
    held = entry.file()
    for index in range(CHUNKS - 1):
        entry.commit(index, CHECKSUM, 1.0)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    entry.commit(CHUNKS - 1, CHECKSUM, 1.0)
    assert len(os.listdir("/proc/self/fd")) == before + 1, "a whole content has no more records to write"
    del held
    assert len(os.listdir("/proc/self/fd")) == before
