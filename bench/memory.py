"""Peak memory of a node while a file of 4 GiB passes through it, once with a cache that holds it and once with a smaller one.

    python -m bench.memory [--gib 4]

The upstream is nginx with a sparse file; the client reads and discards. Exit 1 when a peak is over the goal.
"""

import argparse
import http.client
import sys
import tempfile
import time
from pathlib import Path

from bench.servers import free_port, peak_mib, running_nginx, running_node

GOAL_MIB = 120
PIECE_BYTES = 1 << 20


def main() -> int:
    """Measure both; returns 1 when one is over the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=4, help="size of the file")
    size = parser.parse_args().gib << 30
    worst = 0
    print(f"{'cache':>8}  {'GiB/s':>6}  {'peak MiB':>8}   (goal: at most {GOAL_MIB})")
    for cache in (f"{(size >> 30) * 2 + 2}GiB", "1GiB"):
        with tempfile.TemporaryDirectory(prefix="peerd-bench-") as folder:
            peak, seconds = measure(Path(folder), size, cache)
        print(f"{cache:>8}  {size / (1 << 30) / seconds:6.2f}  {peak:8.0f}", flush=True)
        worst = max(worst, peak)
    return 1 if worst > GOAL_MIB else 0


def measure(folder: Path, size: int, cache: str) -> tuple[float, float]:
    """Peak resident memory in MiB of a node through which the file passed, and seconds that took."""
    (folder / "files").mkdir()
    with (folder / "files" / "large").open("wb") as file:
        file.truncate(size)
    upstream, door = free_port(), free_port()
    with (
        running_nginx(folder, upstream, f"server {{ listen 127.0.0.1:{upstream}; }}"),
        running_node(folder, door, "--cache-size", cache) as node,
    ):
        began = time.monotonic()
        read_through(door, f"/blobs/http://127.0.0.1:{upstream}/large", size)
        seconds = time.monotonic() - began
        return peak_mib(node.pid), seconds


def read_through(port: int, path: str, size: int) -> None:
    """Read and discard a whole file. Raises RuntimeError when it is not whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    got, buffer = 0, bytearray(PIECE_BYTES)
    while count := response.readinto(buffer):
        got += count
    connection.close()
    if response.status != 200 or got != size:
        raise RuntimeError(f"{path} was answered {response.status} with {got} of {size} bytes")


if __name__ == "__main__":
    sys.exit(main())
