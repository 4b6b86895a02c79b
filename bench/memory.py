"""Peak memory of a node while a file of 4 GiB passes through it, once with a cache that holds it and once with a smaller one.

    python -m bench.memory [--gib 4]

The upstream is nginx with a sparse file; the client reads and discards. Exit 1 when a peak is over the goal.
"""

import argparse
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_MIB = 120
PIECE_BYTES = 1 << 20

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}
http {{
    access_log off; sendfile on; root {folder}/files;
    client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
    uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
    server {{ listen 127.0.0.1:{port}; }}
}}
"""


def main() -> int:
    """Measure both; returns 1 when one is over the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=4, help="size of the file")
    size = parser.parse_args().gib << 30
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        print("nginx is missing: apt-get install nginx-light")
        return 1
    worst = 0
    print(f"{'cache':>8}  {'GiB/s':>6}  {'peak MiB':>8}   (goal: at most {GOAL_MIB})")
    for cache in (f"{(size >> 30) * 2 + 2}GiB", "1GiB"):
        with tempfile.TemporaryDirectory(prefix="peerd-bench-") as folder:
            peak, seconds = measure(Path(folder), nginx, size, cache)
        print(f"{cache:>8}  {size / (1 << 30) / seconds:6.2f}  {peak:8.0f}", flush=True)
        worst = max(worst, peak)
    return 1 if worst > GOAL_MIB else 0


def measure(folder: Path, nginx: str, size: int, cache: str) -> tuple[float, float]:
    """Peak resident memory in MiB of a node through which the file passed, and seconds that took."""
    (folder / "files").mkdir()
    (folder / "t").mkdir()
    folder.chmod(0o755)
    with (folder / "files" / "large").open("wb") as file:
        file.truncate(size)
    upstream, door = free_port(), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=upstream))
    options = ["--http-addr", f"127.0.0.1:{door}", "--cache-dir", str(folder / "cache"), "--cache-size", cache]
    options += ["--upstream-allow", "127.0.0.1:*", "--log-format", "text", "--log-level", "warning"]
    with (
        running([nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)], upstream),
        running([sys.executable, "-m", "app.cli", "serve", *options], door) as node,
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


def peak_mib(pid: int) -> float:
    """The most that was resident, as the kernel counted it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc")


class running:  # noqa: N801 -- reads as what it does
    """A server, from its first answer on the port to its end by pid."""

    def __init__(self, command: list[str], port: int) -> None:
        self._command = command
        self._port = port

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._command, cwd=Path(__file__).parent.parent, env={**os.environ})
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
