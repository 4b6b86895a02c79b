"""A cluster's machines, each a host with a containerd and a peerd of its own, and a real registry on the same network.

A machine is set up as an operator would: containerd's `config_path` names a folder, peerd is told of containerd's configuration and
of the registry that it mirrors, peers prove themselves with certificates of `peerd certs`, and all else is at its default.
"""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from app.cli.commands.certs import command as certs
from tests.containerd.daemon import CALL_SECONDS_MAX, Containerd
from tests.containerd.network import Host, network
from tests.containerd.oci import OciImage
from tests.support.nodes import Node, end_node, is_ready
from tests.support.ports import listens
from tests.support.program import Program, installed
from tests.support.registry import HTPASSWD, PASSWORD, USER, Registry
from tests.support.wire import Wire

REGISTRY_NAME = "registry.test"
REGISTRY_PORT = 5000
CREDENTIALS = f"{USER}:{PASSWORD}"


@dataclass(frozen=True)
class RegistryHost(Registry):
    """A docker-registry on a host of its own."""

    host: Host
    storage: Path

    @property
    def netloc(self) -> str:
        return f"{self.host.address}:{self.port}"

    def publish(self, image: OciImage, repository: str, tag: str = "1") -> str:
        """Put an image in; returns the name by which it is pulled."""
        image.publish(self.storage, repository, tag)
        return f"{REGISTRY_NAME}/{repository}:{tag}"

    def sent(self, image: OciImage) -> int:
        """Bytes of the image's blobs that went out so far."""
        return sum(self.sent_of(str(digest)) for digest in image.blobs)


@dataclass(frozen=True)
class HostedNode(Node):
    """A peerd on a host of its own: its door is on that host's loopback."""

    machine: Host

    def connect(self) -> Wire:
        return self.machine.inside(lambda: Wire(self.host, self.http_port))


@dataclass
class Pull:
    """A pull that was begun."""

    process: subprocess.Popen[str]
    node: Node
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def wait_until_in_a_layer(self, sent_bytes: int, transferred: Callable[[], int]) -> None:
        """Return when so much of it has gone out and it is still under way."""
        self.node.program.wait_until(
            lambda: transferred() > sent_bytes or self.process.poll() is not None, "in the middle of a layer"
        )
        assert self.process.poll() is None, "the pull was over before it was in the middle of a layer"

    def wait(self) -> None:
        """Until it is there; fails when it does not come."""
        if not self.seconds:
            said, _ = self.process.communicate(timeout=CALL_SECONDS_MAX)
            self.seconds = time.monotonic() - self.began
            assert self.process.returncode == 0, f"{said[-2000:]}\n{self.node.program.tail()}"


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster."""

    host: Host
    containerd: Containerd
    node: HostedNode
    cache_dir: Path
    mirrors: Path
    plain: Path

    def pull(self, name: str, *options: str, mirrored: bool = True) -> float:
        """Pull an image, unpacked, as `ctr` does it; fails when it does not come. Returns how many seconds it took."""
        began = time.monotonic()
        self.containerd.ctr(*self._pull(name, options, mirrored=mirrored))
        return time.monotonic() - began

    @contextmanager
    def pulling(self, name: str, *options: str) -> Iterator["Pull"]:
        """The same, begun; at the end of this block it must have come."""
        pull = Pull(self.containerd.begin(*self._pull(name, options, mirrored=True)), self.node)
        try:
            yield pull
            pull.wait()
        finally:
            pull.process.kill()
            pull.process.communicate()

    def _pull(self, name: str, options: Sequence[str], *, mirrored: bool) -> list[object]:
        return ["images", "pull", "--hosts-dir", self.mirrors if mirrored else self.plain, *options, name]

    def run(self, name: str, *command: str) -> str:
        """What a command in a container of an image says."""
        identity = f"{self.host.namespace}-{time.monotonic_ns()}"
        return self.containerd.ctr("run", "--rm", name, identity, *command).stdout

    def has(self, image: OciImage) -> bool:
        """Whether containerd holds all of an image, each blob of it right."""
        digests = {str(digest) for digest in image.digests}
        return digests <= self.containerd.blobs() and not self.containerd.rotten_blobs()

    def forget(self) -> None:
        """Remove all images from containerd and all contents from peerd's cache."""
        self.containerd.remove_images()
        for content in self.contents():
            self.node.ask(f"/api/v1/contents/{content['key']}", method="DELETE")

    def contents(self) -> list[dict[str, object]]:
        """What peerd says that it holds."""
        found: list[dict[str, object]] = json.loads(self.node.ask("/api/v1/contents").body)["contents"]
        return found

    def served(self) -> dict[str, float]:
        """Bytes that peerd sent to its clients so far, by where they came from."""
        sources = ("cache", "containerd", "peer", "upstream")
        return {source: self.node.metric("peerd_served_bytes_total", source=source) for source in sources}

    def transferred(self) -> int:
        """Bytes of blobs that peerd has sent to clients who are not done yet."""
        transfers = json.loads(self.node.ask("/api/v1/transfers").body)["transfers"]
        return sum(one["done_bytes"] for one in transfers if one["state"] == "running" and one["kind"] == "blob")


@dataclass(frozen=True)
class Fleet:
    """All of it."""

    registry: RegistryHost
    machines: Sequence[Machine]

    def wait_until_told(self) -> None:
        """Until each knows as many keys of every other as that one holds."""

        def agreed() -> bool:
            views = [machine.node.members() for machine in self.machines]
            own = {name: member["keys"] for view in views for name, member in view.items() if member["me"]}
            return all(name in view and view[name]["keys"] == keys for view in views for name, keys in own.items())

        self.machines[0].node.program.wait_until(agreed, "told what all hold")

    def forget(self) -> None:
        """Nobody but the registry holds anything."""
        for machine in self.machines:
            machine.forget()
        self.wait_until_told()


@contextmanager
def running_fleet(
    folder: Path, count: int, *options: str, with_password: bool = False, own: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Fleet]:
    """Machines a, b, … within this block, of which each sees all others alive.

    `options` are further ones of each peerd, `own` those of single ones.
    """
    with ExitStack() as stack:
        net = stack.enter_context(network())
        registry = stack.enter_context(
            running_registry_host(folder / "registry", net.host(100), with_password=with_password)
        )
        hosts = {name: net.host(number) for number, name in enumerate("abcdefgh"[:count], start=1)}
        trust = certificates(folder / "certs", hosts)
        join = ("--join", f"{hosts['a'].address}:5002")
        machines = []
        for name, host in hosts.items():
            more = [*trust[name], *join, *options, *(own or {}).get(name, ())]
            machines.append(stack.enter_context(_machine(folder / name, name, host, registry, more)))
        for machine in machines:
            machine.node.program.wait_until_ready()
        for machine in machines:
            machine.node.program.wait_until(partial(machine.node.sees_alive, count), f"seeing {count} members alive")
        yield Fleet(registry, machines)


@contextmanager
def running_registry_host(folder: Path, host: Host, *, with_password: bool = False) -> Iterator[RegistryHost]:
    """A registry on `host` within this block."""
    storage = folder / "data"
    storage.mkdir(parents=True)
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"{host.address}:{REGISTRY_PORT}", "secret": "of-uploads"},
    }
    if with_password:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML.
    program = Program(
        "docker-registry",
        host.command(installed("docker-registry", "docker-registry"), "serve", folder / "config.yml"),
        folder / "docker-registry.log",
        ready=lambda: host.inside(lambda: listens(host.address, REGISTRY_PORT)),
    )
    try:
        program.wait_until_ready()
        yield RegistryHost(REGISTRY_PORT, program, host, storage)
    finally:
        program.end()


def certificates(folder: Path, hosts: Mapping[str, Host]) -> dict[str, list[str]]:
    """The options of mutual TLS for each machine."""
    with redirect_stdout(io.StringIO()):  # It says what it wrote.
        certs.main(["init", "--out", str(folder)], standalone_mode=False)
        for name, host in hosts.items():
            certs.main(["issue", "--name", name, "--ip", host.address, "--out", str(folder)], standalone_mode=False)
    files = {"--tls-ca": "ca.crt", "--tls-cert": "{name}.crt", "--tls-key": "{name}.key"}
    return {
        name: [part for option, file in files.items() for part in (option, str(folder / file.format(name=name)))]
        for name in hosts
    }


@contextmanager
def _machine(folder: Path, name: str, host: Host, registry: RegistryHost, options: Sequence[str]) -> Iterator[Machine]:
    mirrors, plain = folder / "certs.d", folder / "plain"
    mirrors.mkdir(parents=True)
    (plain / REGISTRY_NAME).mkdir(parents=True)
    # containerd 1.6 does not take a file that has a server and no host.
    (plain / REGISTRY_NAME / "hosts.toml").write_text(f'server = "{registry.url}"\n[host."{registry.url}"]\n')
    with ExitStack() as stack:
        containerd = Containerd(host, mirrors)
        stack.callback(containerd.close)
        containerd.start()
        command = host.command(
            # The console script beside this interpreter, whatever PATH says.
            str(Path(sys.executable).with_name("peerd")),
            "serve",
            *("--node-name", name),
            *("--advertise-host", host.address),
            *("--membership", "static"),
            *("--cache-dir", str(folder / "cache")),
            *("--registry", f"{REGISTRY_NAME}={registry.url}"),
            *("--hosts", REGISTRY_NAME),
            *("--containerd-socket", str(containerd.socket)),
            *("--containerd-content-dir", str(containerd.content_dir)),
            *("--containerd-config", str(containerd.config)),
            *("--drain-timeout", "2s"),
            *("--log-format", "text"),
            *options,
        )
        program = Program(
            f"peerd {name}",
            command,
            folder / "peerd.log",
            ready=lambda: host.inside(lambda: is_ready("127.0.0.1", 5000)),
        )
        node = HostedNode(name, "127.0.0.1", 5000, 5001, 5002, 7946, program, host)
        stack.callback(program.end)
        stack.callback(end_node, node)
        yield Machine(host, containerd, node, folder / "cache", mirrors, plain)
