"""A real registry: docker-registry (distribution), with its data in a folder and its access log to be read."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.ports import free_port, listens
from tests.support.program import Program, running
from tests.support.wire import Wire

USER, PASSWORD = "tester", "secret"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# `htpasswd -nbBC 4 tester secret`: bcrypt is all that distribution takes.
HTPASSWD = f"{USER}:$2y$04$peerdpeerdpeerdpeerdpOQCz3F9Ey05/pQLDJtxsv.uUcCWFFnNi\n"

# Apache's combined log format, which distribution writes to standard output.
_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.1" (?P<status>\d{3}) (?P<count>\d+) ')


@dataclass(frozen=True)
class Sent:
    """One line of an access log: what was asked for, and how many bytes of body went out."""

    method: str
    target: str
    status: int
    count: int


@dataclass(frozen=True)
class Registry:
    """One that runs."""

    port: int
    program: Program

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.netloc}"

    def log(self) -> list[Sent]:
        """What it was asked so far."""
        lines = _LINE.finditer(self.program.log.read_text(errors="replace"))
        return [Sent(line["method"], line["target"], int(line["status"]), int(line["count"])) for line in lines]

    def sent_of(self, digest: str) -> int:
        """Bytes of this blob that went out."""
        return sum(
            line.count
            for line in self.log()
            if line.method == "GET" and line.status in (200, 206) and urlsplit(line.target).path.endswith(digest)
        )

    def push_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        """Upload a blob in one piece (distribution-spec, Pushing a blob monolithically), and return its digest."""
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/octet-stream"}
        with Wire("127.0.0.1", self.port) as wire:
            begun = wire.ask(f"/v2/{repository}/blobs/uploads/", method="POST", headers=headers, body=b"")
            place = urlsplit(begun.headers["location"])
            target = f"{place.path}?{place.query}&digest={digest}"
            put = wire.ask(target, method="PUT", headers=headers, body=data)
        assert put.status == 201, (put.status, put.body)
        return digest


@contextmanager
def running_registry(folder: Path, *, with_password: bool = False) -> Iterator[Registry]:
    """A registry within this block; with a password it asks for `USER` and `PASSWORD`."""
    port = free_port()
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of-uploads"},
    }
    if with_password:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    written = folder / "config.yml"
    written.write_text(json.dumps(config))  # JSON is YAML.
    with running(
        "docker-registry",
        ["docker-registry", "serve", written],
        folder / "docker-registry.log",
        ready=lambda: listens("127.0.0.1", port),
        package="docker-registry",
    ) as program:
        yield Registry(port, program)
