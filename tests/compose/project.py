"""docker-compose.yml as a project of a daemon."""

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compose.daemon import Daemon
from tests.support.program import installed

ROOT = Path(__file__).parents[2]
REGISTRY_PUBLISHED = "127.0.0.1:5500"
PROMETHEUS_PUBLISHED = "http://127.0.0.1:9090"
HOLDS_WITHIN_SECONDS = 90.0


class Project:
    """What docker-compose does with the file, and what the containers do then."""

    name = "peerdtest"

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._instead: dict[str, str] = {}
        installed("docker-compose", "docker-compose")

    def compose(self, *arguments: str, seconds_max: float = 120) -> str:
        """One call of docker-compose."""
        files = ["--file", str(ROOT / "docker-compose.yml"), "--project-directory", str(ROOT)]
        return self.daemon.call(
            "docker-compose", "--project-name", self.name, *files, *arguments, seconds_max=seconds_max
        )

    def stands_in(self, what: str, instead: str) -> None:
        """Of what is typed from now on, put something in the place of what is not here."""
        self._instead[what] = instead

    def type(self, line: str) -> str:
        """What a shell at a terminal prints, in the project's folder and near published ports; then wait until all are well."""
        for what, instead in self._instead.items():
            line = line.replace(what, instead)
        terminal = ["script", "--quiet", "--return", "--command", f"bash -euc {shlex.quote(line)}", "/dev/null"]
        printed = self.daemon.call(
            *self.daemon.near("env", "--chdir", ROOT, *terminal), COMPOSE_PROJECT_NAME=self.name, seconds_max=240
        )
        self.wait_until(lambda: not self._unwell(), lambda: f"not healthy: {self._unwell()}")
        return printed

    def build(self) -> None:
        """The image, as the file says; for a daemon that builds."""
        extra = ["--file", str(ROOT / "tests/compose/build_network.yml")]
        self.compose(*extra, "build", seconds_max=900)

    def up(self, *arguments: str) -> None:
        """Bring containers up, and wait until those that say how they are say that they are well."""
        self.compose("up", "--detach", "--no-build", *arguments)
        self.wait_until(lambda: not self._unwell(), lambda: f"not healthy: {self._unwell()}")

    def down(self) -> None:
        self.compose("--profile", "monitoring", "down", "--volumes")

    def execute(self, service: str, *command: str, index: int = 1) -> str:
        """What a command prints in a service's container."""
        return self.compose("exec", "-T", f"--index={index}", service, *command)

    def pull(self, service: str, image: str, *, index: int = 1) -> dict[str, Any]:
        """What `peerd pull` says of an image, pulled through a node."""
        (pulled,) = json.loads(self.execute(service, "peerd", "pull", "--json", image, index=index))["pulled"]
        assert pulled["verified"]
        assert sum(pulled["bytes_by_source"].values()) == pulled["size_bytes"]
        return dict(pulled)

    def members_alive(self, service: str) -> int:
        """How many members a node knows to be alive, itself included."""
        return int(json.loads(self.execute(service, "peerd", "status", "--json"))["status"]["members"]["alive"])

    def wait_for_members(self, count: int, *services: str) -> None:
        """Wait until each of these nodes knows so many."""

        def known() -> list[int]:
            return [self.members_alive(service) for service in services]

        self.wait_until(lambda: known() == [count] * len(services), lambda: f"{services} know {known()} members")

    def push(self, layout: Path, tag: str, name: str) -> None:
        """Push an image of a layout into the registry, as a user of this machine does."""
        skopeo = installed("skopeo", "skopeo")
        command = self.daemon.near(
            skopeo, "copy", "--quiet", "--all", "--dest-tls-verify=false",
            f"oci:{layout}:{tag}", f"docker://{REGISTRY_PUBLISHED}/{name}",
        )  # fmt: skip
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr

    def exit_codes(self) -> dict[str, int]:
        """Of all containers, by name."""
        names = self.daemon.docker("ps", "--all", "--format", "{{.Names}}").split()
        codes = self.daemon.docker("inspect", "--format", "{{.State.ExitCode}}", *names).split()
        return {name: int(code) for name, code in zip(names, codes, strict=True)}

    def wait_until(self, holds: Callable[[], bool], why_not: Callable[[], str]) -> None:
        """Poll until it holds; fail with the reason and the nodes' last words when that takes too long."""
        deadline = time.monotonic() + HOLDS_WITHIN_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                reason = why_not()
                pytest.fail(f"{reason}\n{self.compose('logs', '--no-color', '--tail=15')[-8000:]}")
            time.sleep(0.3)

    def _unwell(self) -> list[str]:
        """Names and states of containers that run and are not healthy, though they have a check of health."""
        lines = self.daemon.docker("ps", "--format", "{{.Names}}\t{{.Status}}").splitlines()
        return [line for line in lines if "(health: starting)" in line or "(unhealthy)" in line]
