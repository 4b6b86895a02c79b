"""What earlier lives left in a cache folder, and what of it is believed.

Owns: the folder's lock, and mending what a life that ended in the middle left between two steps. Blocks; for a thread.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Layout

log = logging.getLogger(__name__)


class CacheLocked(Exception):
    """Another process uses this cache folder."""


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """The folder is this process' alone meanwhile. Raises CacheLocked, OSError."""
    with layout.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = layout.lock.parent
            raise CacheLocked(f"{where} is in use by another peerd; give each node a --cache-dir of its own") from None
        yield


def inherited(layout: Layout, *, chunk_size: int, clock: Callable[[], float]) -> Iterator[Entry]:
    """The contents that are there; what can not be believed is deleted. `clock` as the cache's."""
    for folder in list(layout.contents()):
        try:
            entry = _inherited(layout, folder, chunk_size)
            if entry.present:
                entry.last_read = clock() - (time.time() - (entry.folder or folder).joinpath("data").stat().st_mtime)
        except (ValueError, OSError) as error:
            log.warning("dropped %s from the cache: %s", folder.name[:12], error)
            shutil.rmtree(folder, ignore_errors=True)
            continue
        yield entry


def _inherited(layout: Layout, folder: Path, chunk_size: int) -> Entry:
    entry = Entry.load(folder)
    meta = entry.meta
    if meta.chunk_size != chunk_size:
        raise ValueError(f"its chunks are of {meta.chunk_size} bytes, and --chunk-size is {chunk_size}")
    if entry.verified and entry.proof() != meta.proof:
        _demote(layout, entry)
    elif folder != layout.content(meta.key):
        if not entry.verified:
            raise ValueError("it lies in another content's folder")
        _move(entry, layout.content(meta.key))  # `promote` was cut short.
    return entry


def _demote(layout: Layout, entry: Entry) -> None:
    """What its chunks must hash to is not what was proved, or not known: it is what its host claims, until it is proved again.

    A power loss may have left records from before, when a liar's were among them; and a member could fill a gap with anything.
    """
    digest = entry.meta.digest
    if digest is None:
        raise ValueError("it is said to be proved, and names no digest")
    key = ContentKey.of_unverified(digest, entry.meta.source)
    _move(entry, layout.content(key))
    entry.replace_meta(replace(entry.meta, key=key, verified=False, proof=None))


def _move(entry: Entry, folder: Path) -> None:
    if entry.folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        entry.folder.rename(folder)
    entry.folder = folder
