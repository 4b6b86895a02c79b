"""kill -9 while chunks are coming in: what is half-written is never served, and what was whole is, without upstream."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from app.content.byte_range import ByteRange, chunk_range
from app.content.layout import PRESENT, Layout, Meta, read_records, read_whole
from tests.support.blob_store import BlobStore
from tests.support.made import content, write
from tests.support.nodes import Node, running_alone
from tests.support.wire import Reply

FILLS = int(os.environ.get("PEERD_CRASH_FILLS") or 100)
"""How many are to be cut short, that is, to leave some of their chunks."""

ROUNDS = int(os.environ.get("PEERD_CRASH_ROUNDS") or 0)
"""How often the node is killed at least; 200 in the long form."""

FILES = 10
"""Filled at once, until a crash."""

FILE_BYTES = (6 << 20) + 12_345
CHUNK_BYTES = 256 << 10
LATEST_SECONDS = 0.6
REFUSED_EVERY = 5
"""In so many rounds a chunk that was lost is asked for once while upstream is away: it is tried for ten seconds."""


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path]) -> Iterator[Node]:
    with running_alone(new_folder(), "--chunk-size", "256KiB", "--no-prefetch", "--cache-size", "1GiB") as node:
        yield node


def read_and_discard(node: Node, target: str) -> None:
    """A client that the crash cuts off."""
    try:
        node.ask(target)
    except (OSError, EOFError):
        return


def ask(node: Node, blob_store: BlobStore, name: str, span: ByteRange) -> Reply:
    """One chunk of a file."""
    return node.ask(f"/blobs/{blob_store.url}/{name}", headers={"Range": f"bytes={span.start}-{span.stop - 1}"})


def kept(cache: Path) -> dict[int, set[int]]:
    """Chunks that the cache's files say are here, by the size of their content, which names it in this test."""
    found: dict[int, set[int]] = {}
    for folder in Layout(cache).contents():
        if not (folder / "meta.json").exists():  # The crash came before the content was described.
            continue
        meta = Meta.from_json(read_whole(folder / "meta.json"))
        states, _ = read_records(folder / "chunks", meta.chunks)
        found[meta.size] = {index for index, state in enumerate(states) if state == PRESENT}
    return found


def read_kept(node: Node, blob_store: BlobStore, name: str, size: int, here: Iterable[int]) -> list[ByteRange]:
    """Read the chunks of a file that are said to be here; returns the others."""
    data, missing = content(name, size), set(range(-(-size // CHUNK_BYTES)))
    for index in here:
        span = chunk_range(index, size, CHUNK_BYTES)
        reply = ask(node, blob_store, name, span)
        assert reply.status == 206, f"chunk {index} of {name} was whole: {reply.body[:300]!r}"
        assert reply.body == data[span.start : span.stop]
        missing.discard(index)
    return [chunk_range(index, size, CHUNK_BYTES) for index in sorted(missing)]


@pytest.mark.timeout(2400)
def test_nothing_half_written_is_served_and_what_was_whole_is(node: Node, blob_store: BlobStore) -> None:
    seed = int(os.environ.get("PEERD_CRASH_SEED") or random.SystemRandom().getrandbits(32))
    print(f"PEERD_CRASH_SEED={seed}")
    rng = random.Random(seed)
    cache = node.program.log.parent / node.name
    cut_short = served = turn = 0
    while cut_short < FILLS or turn < ROUNDS:
        turn += 1
        assert turn <= max(ROUNDS, 5 * FILLS / FILES), (
            f"only {cut_short} fills were cut short: the crash came too early or too late"
        )
        # Each file of a size of its own, so that the cache's entries can be told apart.
        files = {f"{turn}-{number}": FILE_BYTES + turn * FILES + number for number in range(FILES)}
        for name, size in files.items():
            write(blob_store.files / name, name, size)
        clients = [
            threading.Thread(target=read_and_discard, args=(node, f"/blobs/{blob_store.url}/{name}")) for name in files
        ]
        for client in clients:
            client.start()
        time.sleep(rng.uniform(0.0, LATEST_SECONDS))
        node.program.end(signal.SIGKILL)
        for client in clients:
            client.join()
        whole = kept(cache)
        with blob_store.program.away():
            node.program.start_again()
            # At the same time, because for each of them the node looks first whether upstream is back.
            with ThreadPoolExecutor(FILES) as readers:
                here = [whole.get(size, set()) for size in files.values()]
                lists = list(readers.map(partial(read_kept, node, blob_store), files, files.values(), here))
            lost = [(name, span) for name, missing in zip(files, lists, strict=True) for span in missing]
            served += sum(map(len, here))
            cut_short += sum(bool(there) and bool(missing) for there, missing in zip(here, lists, strict=True))
            if lost and turn % REFUSED_EVERY == 1:
                name, span = rng.choice(lost)
                reply = ask(node, blob_store, name, span)
                assert reply.status in (502, 503), f"{span} of {name} was never whole"
        for name, _ in rng.sample(lost, min(2, len(lost))):
            reply = node.ask(f"/blobs/{blob_store.url}/{name}")
            assert reply.correct
            assert reply.body == content(name, files[name]), f"{name} is not what it was after its other part came"
        for name in files:
            (blob_store.files / name).unlink()
    print(f"{turn} times killed; {cut_short} of {turn * FILES} fills cut short; {served} chunks served again")
    assert served
