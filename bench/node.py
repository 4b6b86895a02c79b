"""What a node costs that knows a large cluster: filters of 3,000 members, an index of 20,000 chunks, 8 transfers under way.

    python -m bench.node [--members 3000] [--keys 1000] [--chunks 20000] [--seconds 30]

The node is a process of its own, wired as `peerd serve` wires it, but for who tells of members: no machine runs 3,000 of them, so an
engine of this file's own names them, and their filters come in as messages of replication do. The cache's files are as a former life
left them. Exit 1 when resident memory or idle processor time is over its goal.
"""

import argparse
import asyncio
import hashlib
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import uvloop

from app import assembly
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Layout, Meta, proof_of
from app.main import application
from app.settings import load_settings
from bench.servers import cpu_seconds, free_port, resident_mib, running
from peerd_gossip import Member, MemberState
from peerd_gossip.membership.interface import Greeter, Report
from peerd_gossip.messages import Answer, Stamp
from peerd_gossip.store import image_of

RSS_MIB = 130
IDLE_PERCENT = 1.0
TRANSFERS = 8
TRANSFER_BYTES_PER_SECOND = 2 << 20
CHUNK_BYTES = 1 << 20
CHUNKS_EACH = 500
"""Of a content: as large as a large layer."""


def main() -> int:
    """Measure; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=3000)
    parser.add_argument("--keys", type=int, default=1000, help="of each member")
    parser.add_argument("--chunks", type=int, default=20_000, help="of 1 MiB in the cache")
    parser.add_argument("--seconds", type=float, default=30.0, help="of idleness, and of transfers")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds until the news of so many filters is old")
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(Path(arguments.serve), arguments.port, arguments.members, arguments.keys)
        return 0
    with tempfile.TemporaryDirectory(prefix="peerd-bench-") as name:
        folder = Path(name)
        digests = fill(folder / "cache", arguments.chunks)
        port = free_port()
        size = ["--members", str(arguments.members), "--keys", str(arguments.keys)]
        command = [sys.executable, "-m", "bench.node", "--serve", folder, "--port", str(port), *size]
        with running(command, port) as node:
            wait_until_known(port)
            time.sleep(arguments.settle)
            began, before = time.monotonic(), cpu_seconds(node.pid)
            time.sleep(arguments.seconds)
            idle = (cpu_seconds(node.pid) - before) / (time.monotonic() - began) * 100
            at_rest = resident_mib(node.pid)
            with transferring(port, digests[:TRANSFERS]):
                time.sleep(arguments.seconds)
                resident = resident_mib(node.pid)
    print(
        f"{arguments.members} members of {arguments.keys} keys, {arguments.chunks} chunks in the cache\n"
        f"  idle processor time          {idle:6.2f} %    (goal: at most {IDLE_PERCENT})\n"
        f"  resident, idle               {at_rest:6.0f} MiB\n"
        f"  resident, {TRANSFERS} transfers        {resident:6.0f} MiB  (goal: at most {RSS_MIB})"
    )
    return 0 if idle <= IDLE_PERCENT and resident <= RSS_MIB else 1


def fill(cache: Path, chunks: int) -> list[str]:
    """Contents of zeros, whole and proved, as a former life left them; returns what they are called."""
    layout = Layout(cache)
    layout.prepare()
    checksum = hashlib.sha256(bytes(CHUNK_BYTES)).digest()
    proof = proof_of(checksum * CHUNKS_EACH)
    digests = []
    for number in range(chunks // CHUNKS_EACH):
        digest = Digest.parse(f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}")
        key = ContentKey.of_digest(digest)
        meta = Meta(key, CHUNKS_EACH * CHUNK_BYTES, CHUNK_BYTES, digest, verified=True, proof=proof, source="bench")
        entry = Entry.create(meta, layout.content(key))
        file = entry.file()
        os.ftruncate(file.fileno(), meta.size)
        for index in range(CHUNKS_EACH):
            entry.commit(index, checksum, 1.0)
        digests.append(str(digest))
    return digests


class Told:
    """A membership that is told who there is."""

    def __init__(self, names: Sequence[str]) -> None:
        self.members = [Member(name, 1, "127.0.0.1:9", "127.0.0.1:9", "", "bench") for name in names]

    @asynccontextmanager
    async def running(self, me: Member, greeter: Greeter, report: Report) -> AsyncIterator[None]:
        """All are alive from the beginning."""
        del me, greeter
        for member in self.members:
            report(member, MemberState.ALIVE)
        yield

    def heard_from(self, member: Member) -> None:
        """Nobody is."""

    async def leave(self) -> None:
        """Nobody is told."""

    def round_trip_estimate(self, name: str) -> None:
        """Unknown."""


def serve(folder: Path, port: int, members: int, keys: int) -> None:
    """The node's process."""
    told = Told([f"node-{number}" for number in range(members)])
    assembly._membership = lambda _settings: told  # noqa: SLF001 -- everything else is as it is
    options = {
        "http_addr": f"127.0.0.1:{port}",
        "peer_addr": f"127.0.0.1:{free_port()}",
        "gossip_addr": f"127.0.0.1:{free_port()}",
        "serf_bind": "127.0.0.1:7946",
        "insecure_peers": True,
        "cache_dir": str(folder / "cache"),
        "cache_size": "25GiB",
        "log_level": "warning",
        "log_format": "text",
    }

    async def run() -> None:
        rng = random.Random(1)
        async with assembly.running(load_settings(options, {}), {}, application) as node:
            gossip = node.gossip
            assert gossip is not None
            size_log2 = max(10, (keys * 10 * 3 // 2).bit_length())
            for member in told.members:
                held = [rng.getrandbits(64) for _ in range(keys)]
                image = image_of(Stamp(member.id, 1, 1), held, size_log2)
                gossip.on_message(Answer(filters=(image,)), member.id)
                await asyncio.sleep(0)
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def wait_until_known(port: int) -> None:
    """Until the index does not grow any more."""
    before = -1.0
    for _ in range(100):
        time.sleep(3)
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics/prometheus")
        text = connection.getresponse().read().decode()
        connection.close()
        known = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("peerd_index_keys "))
        if known == before and known > 0:
            return
        before = known
    raise TimeoutError("the node goes on learning filters")


@contextmanager
def transferring(port: int, digests: Sequence[str]) -> Iterator[None]:
    """Clients within this block that read a blob each, slowly."""
    over = threading.Event()

    def read(digest: str) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/v2/bench/blobs/{digest}")
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{digest} was answered {response.status}")
        while not over.is_set() and response.read(TRANSFER_BYTES_PER_SECOND // 10):
            time.sleep(0.1)
        connection.close()

    with ThreadPoolExecutor(len(digests)) as clients:
        done = [clients.submit(read, digest) for digest in digests]
        try:
            yield
        finally:
            over.set()
        for one in done:
            one.result()


if __name__ == "__main__":
    sys.exit(main())
