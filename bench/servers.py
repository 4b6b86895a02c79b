"""Servers that benchmarks start: from their first answer on a port to their end by pid; and what they cost."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_rlimit_nofile 8192; user root;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush off; keepalive_requests 10000000; root {folder}/files; etag on;
    client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
    uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
    default_type application/octet-stream;
    {servers}
}}
"""

_READY_SECONDS = 60


class Missing(Exception):
    """A program that is measured against is not installed."""


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path], port: int, *, more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server within this block, which listens at `port` on loopback."""
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent, env={**os.environ, **(more or {})}) as process:
        try:
            deadline = time.monotonic() + _READY_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.05)
                else:
                    break
            yield process
        finally:
            process.terminate()


@contextmanager
def running_nginx(folder: Path, port: int, servers: str) -> Iterator[subprocess.Popen[bytes]]:
    """An nginx with one worker over `folder/files`; `servers` are its `server` blocks, of which one listens at `port`."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        raise Missing("nginx is missing: apt-get install nginx-light")
    for name in ("files", "t"):
        (folder / name).mkdir(exist_ok=True, parents=True)
    folder.chmod(0o755)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, servers=servers))
    with running([nginx, "-c", config, "-p", folder], port) as process:
        yield process


@contextmanager
def running_node(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node that is asked at `port`, and may ask upstreams on loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    own = ["--http-addr", f"127.0.0.1:{port}", "--cache-dir", str(folder / "cache")]
    own += ["--upstream-allow", "127.0.0.1:*", "--log-format", "text", "--log-level", "error"]
    with running([sys.executable, "-m", "app.cli", "serve", *own, *options], port) as process:
        yield process


def cpu_seconds(*pids: int) -> float:
    """What these processes and those that they started have used of processors (proc(5), /proc/pid/stat: utime and stime)."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) in pids or int(fields[1]) in pids:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The most that was resident, as the kernel counted it."""
    return _status_kib(pid, "VmHWM") / 1024


def resident_mib(pid: int) -> float:
    """What is resident now."""
    return _status_kib(pid, "VmRSS") / 1024


def _status_kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/{pid}/status")
