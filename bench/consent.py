"""What a consent costs that is remembered, and what asking for one does (`--consent upstream`).

    python -m bench.consent [--requests 2000]

HEAD of a file behind a password, of two nodes that hold it, in turn: one that asks upstream for consent and remembers it, and one
that does not ask. HEAD goes the whole way through routes and library, and moves no bytes. Exit 1 when a remembered consent costs
more than the goal.
"""

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from app.consent.ask import Consent
from app.consent.memory import CONSENTS_MAX, ConsentMemory
from app.consent.seal import Seal
from app.content.digest import Digest
from app.content.location import FileAtUrl, Location, ManifestInRegistry
from app.content.source import Stat
from bench.servers import free_port, running_nginx, running_node

GOAL_RATIO = 1.15
ROUNDS = 10
CREDENTIAL = {"Authorization": "Bearer of-a-client"}
SERVER = """
map $http_authorization $allowed {{ default 0; "Bearer of-a-client" 1; }}
server {{ listen 127.0.0.1:{port}; location / {{ if ($allowed = 0) {{ return 401; }} }} }}
"""


def main() -> int:
    """Measure; returns 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="of each node, over all rounds")
    requests = parser.parse_args().requests
    micros, size = asyncio.run(in_memory())
    print(
        f"looked up in memory: {micros:.1f} µs; kept: {size:.0f} bytes each, {size * CONSENTS_MAX / 2**20:.1f} MiB at most"
    )
    with tempfile.TemporaryDirectory(prefix="peerd-bench-") as folder:
        ratio = through_nodes(Path(folder), requests)
    return 1 if ratio > GOAL_RATIO else 0


class Yes:
    """Upstream that gives everything, at once: what is measured is all around it."""

    async def stat(self, location: Location, *, alone: bool) -> Stat:  # noqa: ARG002
        """One byte, of no version."""
        return Stat(1, None)

    async def manifest_digest(self, location: ManifestInRegistry, *, alone: bool) -> tuple[Digest, str, int]:
        """Files are asked for here."""
        raise TypeError(f"{location} is no file, alone={alone}")


async def in_memory() -> tuple[float, float]:
    """Microseconds of one look-up, and bytes of one consent, when there are as many as are kept."""
    consent = Consent(Yes(), ConsentMemory(300, clock=time.monotonic), Seal(), told=lambda _answer, _by: None)
    places = [FileAtUrl(f"https://store.example/files/{n}?sv=1&sig={n:064x}") for n in range(CONSENTS_MAX)]
    tracemalloc.start()
    for place in places:
        await consent.ask(place)
    size = tracemalloc.get_traced_memory()[0] / len(places)
    tracemalloc.stop()
    began = time.perf_counter()
    for place in places:
        await consent.ask(place)
    return (time.perf_counter() - began) / len(places) * 1e6, size


def through_nodes(folder: Path, requests: int) -> float:
    """How many times as long a request takes where consent is remembered."""
    upstream, asking, trusting = free_port(), free_port(), free_port()
    (folder / "files").mkdir()
    for number in range(ROUNDS):
        (folder / "files" / str(number)).write_bytes(b"x" * 100_000)
    with (
        running_nginx(folder, upstream, SERVER.format(port=upstream)),
        running_node(folder / "asking", asking, "--consent", "upstream", "--tag-ttl", "1h", "--consent-ttl", "1h"),
        running_node(folder / "trusting", trusting, "--consent", "cluster", "--tag-ttl", "1h"),
    ):
        first, took = [], {asking: [], trusting: []}
        for number in range(ROUNDS):
            target = f"/blobs/http://127.0.0.1:{upstream}/{number}"
            for port in (asking, trusting):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                seconds = ask(connection, "GET", target)
                first += [seconds] if port == asking else []
                took[port] += [ask(connection, "HEAD", target) for _ in range(requests // ROUNDS)]
                connection.close()
    median = {port: statistics.median(seconds) * 1e6 for port, seconds in took.items()}
    ratio = median[asking] / median[trusting]
    print(f"{'HEAD of a file that is held':34}  {'µs':>6}")
    print(f"{'nobody is asked (cluster)':34}  {median[trusting]:6.0f}")
    print(
        f"{'consent is remembered (upstream)':34}  {median[asking]:6.0f}   {ratio:.2f} times (goal: at most {GOAL_RATIO})"
    )
    print(f"{'first GET, upstream is asked':34}  {statistics.median(first) * 1e6:6.0f}")
    return ratio


def ask(connection: http.client.HTTPConnection, method: str, target: str) -> float:
    """Seconds that one request takes. Raises RuntimeError when it is not answered with what was asked for."""
    began = time.perf_counter()
    connection.request(method, target, headers=CREDENTIAL)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise RuntimeError(f"{method} {target} was answered {response.status}")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
