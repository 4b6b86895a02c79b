"""A real blob store: nginx over a folder, with its access log to be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.containerd.network import Host
from tests.support.ports import free_port, listens
from tests.support.program import Program, installed, running
from tests.support.registry import Sent

_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
user root;
events {{ worker_connections 1024; }}
http {{
    log_format sent '$request_method $request_uri $status $body_bytes_sent';
    access_log {folder}/access.log sent;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    sendfile on; keepalive_requests 1000000;
    default_type application/octet-stream;
    server {{
        listen {address}:{port};
        root {files};
    }}
}}
"""


@dataclass(frozen=True)
class BlobStore:
    """One that runs. What is put into `files` is served."""

    port: int
    files: Path
    program: Program
    access_log: Path
    address: str

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def log(self) -> list[Sent]:
        """What it was asked so far, without requests that are still being answered."""
        lines = (line.split(" ") for line in self.access_log.read_text().splitlines())
        return [Sent(method, target, int(status), int(count)) for method, target, status, count in lines]

    def sent_of(self, path: str) -> int:
        """Bytes of this file that went out."""
        return sum(line.count for line in self.log() if urlsplit(line.target).path == path)


@contextmanager
def running_blob_store(folder: Path, host: Host | None = None) -> Iterator[BlobStore]:
    """A blob store within this block, on a host of a test's network or on loopback."""
    address, port, files = host.address if host else "127.0.0.1", free_port(), folder / "files"
    files.mkdir()
    (folder / "temp").mkdir()
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, address=address, port=port, files=files))
    command: list[str | Path] = [installed("nginx", "nginx-light"), "-c", config, "-p", folder, "-e", "stderr"]
    with running(
        "nginx",
        host.command(*command) if host else command,
        folder / "nginx.log",
        ready=lambda: host.inside(lambda: listens(address, port)) if host else listens(address, port),
        package="util-linux",
    ) as program:
        yield BlobStore(port, files, program, folder / "access.log", address)
