"""SIGTERM under load, again and again: no client sees a body that breaks off, and who comes later is sent elsewhere at once."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.blob_store import BlobStore
from tests.support.made import content, write
from tests.support.nodes import Node, running_nodes
from tests.support.tables import Figures
from tests.support.wire import End, Wire

pytestmark = [pytest.mark.xdist_group("drain")]

ROUNDS = int(os.environ.get("PEERD_DRAIN_ROUNDS") or 6)
"""200 in the long form; each takes about 5 s on two busy cores."""

FILES = 5
FILE_BYTES = 12 << 20
"""More than the kernel keeps for a connection, so that a node is not done with a body before its client is."""

PIECE_BYTES = 256 << 10
CLIENTS_OF_THE_LEAVING = 6
CLIENTS_OF_THE_OTHER = 2
LATEST_SECONDS = 0.6


@dataclass
class Seen:
    """What clients saw since a round began."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: Counter[str] = field(default_factory=Counter)
    """Bodies, by the node that sends them."""

    whole: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    """Requests that were turned away before an answer began, and answered by the other node."""

    wrong: list[str] = field(default_factory=list)


class Client:
    """One that asks for one file after the other, at `nodes[0]` as long as that one takes it."""

    def __init__(self, nodes: Sequence[Node], store: BlobStore, files: Sequence[bytes], seed: str) -> None:
        self._nodes = nodes
        self._store = store
        self._files = files
        self._rng = random.Random(seed)

    def go_on(self, seen: Seen, over: threading.Event) -> None:
        """Until `over`; every answer that began is read to its end."""
        wires: dict[str, Wire] = {}
        try:
            while not over.is_set():
                number = self._rng.randrange(FILES)
                for node in self._nodes:
                    try:
                        # One time in three over a connection that was kept.
                        if node.name not in wires or self._rng.random() < 0.67:
                            if node.name in wires:
                                wires.pop(node.name).close()
                            wires[node.name] = node.connect()
                        head = wires[node.name].begin(f"/blobs/{self._store.url}/drain-{number}")
                    except (OSError, EOFError):
                        if node.name in wires:
                            wires.pop(node.name).close()
                        with seen.lock:
                            seen.elsewhere += 1
                        continue
                    if head.status != 200:
                        seen.wrong.append(f"{node.name} answered {head.status}")
                    elif not self._read(wires[node.name], node.name, self._files[number], seen):
                        wires.pop(node.name).close()
                    break
                else:
                    seen.wrong.append("no node answered")
        finally:
            for wire in wires.values():
                wire.close()

    def _read(self, wire: Wire, name: str, data: bytes, seen: Seen) -> bool:
        """Take a body at a pace of its own."""
        pause = self._rng.uniform(0.0, 0.02)
        with seen.lock:
            seen.under_way[name] += 1
        at, end, right = 0, End.WHOLE, True
        while at < len(data) and end is End.WHOLE and right:
            piece, end = wire.read(min(PIECE_BYTES, len(data) - at))
            right = piece == data[at : at + len(piece)]
            at += len(piece)
            time.sleep(pause)
        with seen.lock:
            seen.under_way[name] -= 1
            if end is End.WHOLE and right:
                seen.whole[name] += 1
                return True
            seen.wrong.append(f"a body of {name} ended {end.value} at byte {at}{'' if right else ', with wrong bytes'}")
            return False


def watch(node: Node, over: threading.Event, answers: list[int | None]) -> None:
    """Ask `/readyz` all the time, each on a new connection: its answers, None where there was none; without repetition."""
    while not over.is_set():
        answer: int | None
        try:
            answer = node.ask("/readyz").status
        except (OSError, EOFError):
            answer = None
        if answers[-1:] != [answer]:
            answers.append(answer)
        time.sleep(0.005)


@pytest.fixture(scope="module")
def nodes(new_folder: Callable[[], Path], blob_store: BlobStore) -> Iterator[list[Node]]:
    """Two that can keep less than what is asked for: all the time they take it from each other, and from upstream."""
    for number in range(FILES):
        write(blob_store.files / f"drain-{number}", f"drain {number}", FILE_BYTES)
    with running_nodes(new_folder(), 2, "--drain-timeout", "15s", "--cache-size", f"{2 * FILE_BYTES}") as nodes:
        yield nodes


@contextmanager
def load(nodes: Sequence[Node], store: BlobStore, files: Sequence[bytes], seed: str) -> Iterator[tuple[Seen, list]]:
    """Clients of both within this block, and what `/readyz` of the first says."""
    seen, over, ready = Seen(), threading.Event(), []
    first, second = nodes
    with ThreadPoolExecutor(CLIENTS_OF_THE_LEAVING + CLIENTS_OF_THE_OTHER + 1) as threads:
        done = [threads.submit(watch, first, over, ready)]
        for number in range(CLIENTS_OF_THE_LEAVING + CLIENTS_OF_THE_OTHER):
            asked = [first, second] if number < CLIENTS_OF_THE_LEAVING else [second]
            client = Client(asked, store, files, f"{seed} {number}")
            done.append(threads.submit(client.go_on, seen, over))
        try:
            yield seen, ready
        finally:
            over.set()
    for one in done:
        one.result()


@pytest.mark.timeout(3000)
def test_no_body_breaks_off_when_a_node_is_told_to_leave(
    nodes: list[Node], blob_store: BlobStore, figures: Figures
) -> None:
    seed = int(os.environ.get("PEERD_DRAIN_SEED") or random.SystemRandom().getrandbits(32))
    print(f"PEERD_DRAIN_SEED={seed}")
    rng = random.Random(seed)
    files = [content(f"drain {number}", FILE_BYTES) for number in range(FILES)]
    first, second = nodes
    cut_into = after = elsewhere = refused = 0
    for turn in range(ROUNDS):
        with load(nodes, blob_store, files, f"{seed} {turn}") as (seen, ready):
            second.program.wait_until(lambda seen=seen: seen.under_way[first.name] > 0, "busy")
            time.sleep(rng.uniform(0.0, LATEST_SECONDS))
            under_way, whole = seen.under_way[first.name], seen.whole[first.name]
            code = first.program.end()
            # Whoever comes now is refused, and goes to the other.
            second.program.wait_until(lambda ready=ready: ready[-1] is None, "refused")
            since = seen.elsewhere
            second.program.wait_until(lambda seen=seen, since=since: seen.elsewhere > since, "asked instead")
            left = second.members()[first.name]["state"]
        assert code == 0, first.program.tail()
        assert not seen.wrong, f"round {turn}: {seen.wrong}"
        assert not seen.under_way[first.name]
        # 503 is seen when a probe comes in between; it is never ready again.
        assert ready in ([200, 503, None], [200, None]), ready
        assert left == "left", "it said farewell"
        cut_into += under_way
        after += seen.whole[first.name] - whole
        elsewhere += seen.elsewhere
        refused += ready == [200, 503, None]
        first.program.start_again()
    assert cut_into >= ROUNDS, "each came in the middle of bodies"
    figures(
        f"Drain: {ROUNDS} times SIGTERM under load",
        {
            "broken bodies": 0,
            "under way at SIGTERM": cut_into,
            "ended whole after it": after,
            "answered elsewhere": elsewhere,
            "readyz seen failing": refused,
        },
    )


def test_who_takes_nothing_at_either_door_is_waited_for_once(
    new_folder: Callable[[], Path], blob_store: BlobStore
) -> None:
    size = 32 << 20
    write(blob_store.files / "stalled", "stalled", size)
    # With what the peer door takes to give a reader up it would be more than the 20 s that a program of these tests has to end.
    with running_nodes(new_folder(), 2, "--drain-timeout", "16s", "--chunk-size", f"{size}") as nodes:
        node = nodes[0]
        target = f"/blobs/{blob_store.url}/stalled"
        assert node.ask(target).correct
        key = json.loads(node.ask("/api/v1/contents").body)["contents"][0]["key"]
        of_a_member = {"Range": f"bytes=0-{size - 1}", "X-MS-Peerd-RequestFromPeer": "true"}
        with node.connect() as client, Wire(node.host, node.peer_port) as member:
            assert client.begin(target).status == 200
            assert member.begin(f"/contents/{quote(key, safe='')}", headers=of_a_member).status == 206
            assert node.program.end() == 0
        log = node.program.tail()
        assert "200 broken off after" in log, log
        assert "Traceback" not in log, log
