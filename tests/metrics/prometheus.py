"""A real Prometheus that scrapes each second, with the rules of deploy/prometheus at a pace that tests can wait for."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containerd.network import Host
from tests.support.nodes import Node
from tests.support.ports import free_port
from tests.support.program import Program, installed

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yaml"

FASTER = 60
"""What is a minute in the rules is a second here: windows and `for` alike, and nothing else of them. Nodes are scraped sixty times as often too."""

HOLDS_WITHIN_SECONDS = 180.0
"""Several times the longest wait of the rules, as windows fill slowly on a machine that is busy."""

_WINDOW = re.compile(r"\[(\d+)([mh])\]")
_DURATION = re.compile(r"^(\d+)([mh])$")
_SECONDS = {"m": 60, "h": 3600}


def rules() -> list[dict[str, Any]]:
    """Of all groups, recording rules and alerts."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Those that alert, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def faster() -> dict[str, Any]:
    """The file with its rules, FASTER."""

    def seconds(match: re.Match[str]) -> str:
        count, rest = divmod(int(match[1]) * _SECONDS[match[2]], FASTER)
        assert count, "a window or wait that is too short to be tested"
        assert not rest, match[0]
        return f"{count}s"

    hurried: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for group in hurried["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _WINDOW.sub(lambda match: f"[{seconds(match)}]", rule["expr"])
            if "for" in rule:
                rule["for"] = _DURATION.sub(seconds, rule["for"])
    return hurried


def promtool(*arguments: str | Path, given: bytes = b"") -> str:
    """What it says; the test fails when it finds fault."""
    command = [installed("promtool", "prometheus"), *arguments]
    run = subprocess.run(command, check=False, capture_output=True, input=given, timeout=60)
    said = (run.stdout + run.stderr).decode()
    assert run.returncode == 0, said
    return said


@dataclass
class Prometheus:
    """One that runs."""

    program: Program
    address: str
    targets: Path
    host: Host | None
    _scraped: dict[str, list[Node]] = field(default_factory=dict)

    def scrape(self, job: str, nodes: Sequence[Node]) -> None:
        """Scrape these too from now on, as the cluster `job`; wait until each was."""
        self._scraped[job] = list(nodes)
        groups = [
            {"targets": [node.netloc for node in nodes], "labels": {"job": job}} for job, nodes in self._scraped.items()
        ]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.replace(self.targets)  # It may be read at any moment.
        self.wait_until(lambda: len(self.query(f'up{{job="{job}"}} == 1')) == len(nodes), f"scraping all of {job}")
        # It may have been without a node for so long that it has said so.
        self.wait_until(lambda: "PeerdAbsent" not in self.alerts(job), "content that there are nodes")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression has now."""
        result: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return result

    def alerts(self, job: str, *, states: Sequence[str] = ("firing",)) -> set[str]:
        """Names of the alerts that fire for a cluster, or for none in particular."""
        return {
            alert["labels"]["alertname"]
            for alert in self._ask("alerts")["alerts"]
            if alert["labels"].get("job", job) == job and alert["state"] in states
        }

    def rules(self) -> list[dict[str, Any]]:
        """What became of each rule."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until it holds; fail when that takes too long, or Prometheus ends."""
        deadline = time.monotonic() + HOLDS_WITHIN_SECONDS
        while not holds():
            if not self.program.runs:
                pytest.fail(f"{self.program.name} ended\n{self.program.tail()}")
            if time.monotonic() > deadline:
                now = sorted(
                    {(alert["labels"]["alertname"], alert["state"]) for alert in self._ask("alerts")["alerts"]}
                )
                pytest.fail(f"not {what} within {HOLDS_WITHIN_SECONDS:.0f} s; there are {now}\n{self.program.tail()}")
            time.sleep(0.02)

    def _ask(self, what: str, **arguments: str) -> dict[str, Any]:
        url = f"http://{self.address}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"

        def answer() -> dict[str, Any]:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=20) as response:
                data: dict[str, Any] = json.load(response)["data"]
                return data

        return self.host.inside(answer) if self.host else answer()


@contextmanager
def running_prometheus(folder: Path, host: Host | None = None) -> Iterator[Prometheus]:
    """One within this block, here or on a host of a test's network."""
    (folder / "alerts.yaml").write_text(json.dumps(faster()))  # JSON is YAML.
    targets = folder / "targets.json"
    targets.write_text("[]")
    found = {"files": [str(targets)], "refresh_interval": "1s"}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {"job_name": "nodes", "metrics_path": "/metrics/prometheus", "file_sd_configs": [found]},
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        installed("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]

    def ready() -> bool:
        try:
            return prometheus.query("vector(1)") != []
        except OSError:
            return False

    started = host.command(*command) if host else command
    program = Program("prometheus", started, folder / "prometheus.log", ready=ready)
    prometheus = Prometheus(program, address, targets, host)
    try:
        program.wait_until_ready()
        yield prometheus
    finally:
        program.end()
