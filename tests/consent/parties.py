"""Clients, and the places where private content lies: a registry that knows two users, and a store that knows signatures."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port, listens
from tests.support.program import running
from tests.support.registry import AUTHORIZATION, HTPASSWD, Registry, Sent, running_registry

# `htpasswd -nbBC 4 colleague another`.
_COLLEAGUE = "colleague:$2y$04$peerdpeerdpeerdpeerdpO6YB1bLmqJunVRw9tDq3r.vMjXbwGKpm\n"


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


CLIENTS: Mapping[str, str | None] = {
    "nobody": None,
    "a user": AUTHORIZATION,
    "another user": basic("colleague", "another"),
    "a user with a wrong password": basic("colleague", "wrong"),
    "whoever holds a made-up token": "Bearer made-up",
}


def headers_of(client: str) -> dict[str, str]:
    """What this client sends unasked."""
    credential = CLIENTS[client]
    return {} if credential is None else {"Authorization": credential}


@dataclass(frozen=True)
class PrivateRegistry:
    """A docker-registry whose two users are let in, or one of them only."""

    registry: Registry
    htpasswd: Path

    def let_in(self, *, colleague: bool) -> None:
        """Say whether the other user still is one; distribution reads a file again that has become younger."""
        before = self.htpasswd.stat().st_mtime_ns
        self.htpasswd.write_text(HTPASSWD + (_COLLEAGUE if colleague else ""))
        os.utime(self.htpasswd, ns=(before + 2_000_000_000, before + 2_000_000_000))

    def asked(self, path: str) -> int:
        """How often this path was asked for so far."""
        return sum(line.target.partition("?")[0] == path for line in self.registry.log())


@contextmanager
def running_private_registry(folder: Path) -> Iterator[PrivateRegistry]:
    """One within this block, which lets both users in."""
    with running_registry(folder, with_password=True) as registry:
        private = PrivateRegistry(registry, folder / "htpasswd")
        private.let_in(colleague=True)
        yield private


_SIGNED = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
user root;
events {{ worker_connections 256; }}
http {{
    log_format sent '$request_method $request_uri $status $body_bytes_sent';
    access_log {folder}/access.log sent;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            if (!-f {folder}/signatures/$arg_sig) {{ return 403; }}
            root {folder}/files;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class SignedStore:
    """nginx that serves files to URLs whose signature counts. Like Azure's SAS: `sig` with `sv`, left out of the key."""

    port: int
    folder: Path

    def sign(self, name: str, signature: str) -> str:
        """A URL of a file, which counts from now on until it is revoked."""
        (self.folder / "signatures" / signature).touch()
        return self.url(name, signature)

    def url(self, name: str, signature: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}?sv=2024-01-01&sig={signature}"

    def revoke(self, signature: str) -> None:
        (self.folder / "signatures" / signature).unlink()

    def put(self, name: str, data: bytes) -> None:
        (self.folder / "files" / name).write_bytes(data)

    def log(self) -> list[Sent]:
        """What it was asked so far."""
        lines = (line.split(" ") for line in (self.folder / "access.log").read_text().splitlines())
        return [Sent(method, target, int(status), int(count)) for method, target, status, count in lines]

    def asked(self, url: str) -> int:
        """How often this very URL was asked for so far."""
        return sum(f"http://127.0.0.1:{self.port}{line.target}" == url for line in self.log())


@contextmanager
def running_signed_store(folder: Path) -> Iterator[SignedStore]:
    """One within this block."""
    port = free_port()
    for part in ("files", "signatures", "temp"):
        (folder / part).mkdir()
    (folder / "nginx.conf").write_text(_SIGNED.format(folder=folder, port=port))
    with running(
        "nginx",
        ["nginx", "-c", folder / "nginx.conf", "-p", folder, "-e", "stderr"],
        folder / "nginx.log",
        ready=lambda: listens("127.0.0.1", port),
        package="nginx-light",
    ):
        yield SignedStore(port, folder)
