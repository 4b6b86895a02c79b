"""A Docker daemon of the tests' own: its processes, its network and its data are no other daemon's.

It runs twice. `building` gives it this machine's network and no bridge, so that a build reaches package registries and nothing
is changed on the machine; `serving` gives it a network namespace, so that the ports that containers publish are taken from
nobody. Either way it has a process namespace: what it starts ends with it, and it ends with the tests.

Images are kept from run to run in the user's cache folder, as they take minutes to make.
"""

import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containerd.network import Host, network
from tests.support.program import Program, installed, running

CALL_SECONDS_MAX = 120
UNUSED_IMAGES_KEPT = "168h"


@dataclass(frozen=True)
class Daemon:
    """One that runs."""

    socket: Path
    host: Host | None
    program: Program

    def environment(self, **more: str) -> dict[str, str]:
        """With which clients talk to it. The builder of 2013 is the one that every Docker has."""
        mine = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
        return os.environ | mine | more

    def docker(self, *arguments: str, seconds_max: float = CALL_SECONDS_MAX) -> str:
        """What `docker` prints; the test fails when it does."""
        return self.call("docker", *arguments, seconds_max=seconds_max)

    def call(self, *command: str | Path, seconds_max: float = CALL_SECONDS_MAX, **environment: str) -> str:
        """What a client of it prints on standard output; the test fails when the client does."""
        run = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds_max,
            env=self.environment(**environment),
        )
        if run.returncode != 0:
            said = f"{run.stdout}\n{run.stderr}"[-5000:]
            pytest.fail(f"{' '.join(map(str, command))}: exit {run.returncode}\n{said}")
        return run.stdout

    def near(self, *command: str | Path) -> list[str | Path]:
        """The same command, where published ports are found."""
        return self.host.command(*command) if self.host else list(command)

    def left(self) -> dict[str, list[str]]:
        """Containers, volumes and networks: all but those that a daemon always has."""
        return {
            "containers": self.docker("ps", "--all", "--quiet").split(),
            "volumes": self.docker("volume", "ls", "--quiet").split(),
            "networks": self.docker("network", "ls", "--quiet", "--filter", "type=custom").split(),
        }

    def tidy(self) -> None:
        """Remove what a run that was killed has left, and images that nothing has used for long."""
        if containers := self.left()["containers"]:
            self.docker("rm", "--force", "--volumes", *containers)
        self.docker("network", "prune", "--force")
        if volumes := self.left()["volumes"]:
            self.docker("volume", "rm", *volumes)
        self.docker("image", "prune", "--force", "--filter", f"until={UNUSED_IMAGES_KEPT}")


@contextmanager
def images_folder() -> Iterator[Path]:
    """The folder of all images, for one run of tests at a time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peerd-tests" / "docker"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache / "data"


@contextmanager
def building(images: Path) -> Iterator[Daemon]:
    """A daemon for builds, within this block."""
    with _running(
        images, None, "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"
    ) as daemon:
        daemon.tidy()
        yield daemon


@contextmanager
def serving(images: Path) -> Iterator[Daemon]:
    """A daemon for containers, within this block; they reach each other and nobody else."""
    with network() as own_network, _running(images, own_network.host(1)) as daemon:
        yield daemon


@contextmanager
def _running(images: Path, host: Host | None, *options: str) -> Iterator[Daemon]:
    if os.geteuid() != 0:
        pytest.fail("a Docker daemon needs root")
    dockerd = installed("dockerd", "docker.io")
    installed("docker", "docker.io")
    # A short path: a socket's may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="peerd-dk-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        socket = folder / "sock"
        configuration = folder / "daemon.json"
        configuration.write_text("{}")  # and not this machine's
        command = [
            "unshare", "--pid", "--mount-proc", "--fork", "--kill-child", "--",
            dockerd,
            f"--host=unix://{socket}",
            f"--config-file={configuration}",
            f"--data-root={images}",
            f"--exec-root={folder / 'exec'}",
            f"--pidfile={folder / 'pid'}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--log-level=warn",
            *options,
        ]  # fmt: skip

        def answers() -> bool:
            ping = ["docker", "--host", f"unix://{socket}", "version"]
            return subprocess.run(ping, check=False, capture_output=True, timeout=10).returncode == 0

        started = host.command(*command) if host else command
        with running("dockerd", started, folder / "log", ready=answers, package="util-linux") as program:
            try:
                yield Daemon(socket, host, program)
            finally:
                # unshare waits for its child and takes no signal; the child is the daemon.
                children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
                for child in children.read_text().split() if program.runs else ():
                    os.kill(int(child), signal.SIGTERM)
