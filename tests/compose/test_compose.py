"""The image and docker-compose.yml, with a real Docker daemon."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.daemon import Daemon, building, images_folder, serving
from tests.compose.project import PROMETHEUS_PUBLISHED, REGISTRY_PUBLISHED, ROOT, Project
from tests.docs.consoles import lines_for
from tests.metrics.prometheus import alerts
from tests.support.oci import Image, make_image
from tests.support.program import installed

# A fresh machine makes a base image and downloads all packages first.
pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.timeout(1500)]

MIB = 1 << 20
NODES = ("node1", "node2", "node3")
LABELS = {"VERSION": "9.8.7", "REVISION": "0123abc", "CREATED": "2031-02-03T04:05:06Z", "SOURCE": "https://src.example"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that has all images: the project's built, the others pulled or made."""
    installed("mmdebstrap", "mmdebstrap")
    with images_folder() as images:
        with building(images) as builder:
            builder.call(ROOT / "scripts/stand_in_images.sh", seconds_max=900)
            Project(builder).build()
            arguments = [f"--build-arg={name}={value}" for name, value in LABELS.items()]
            builder.docker("build", "--network=host", "--tag=peerd:labelled", *arguments, str(ROOT), seconds_max=900)
        with serving(images) as daemon:
            yield daemon


@pytest.fixture
def project(daemon: Daemon) -> Iterator[Project]:
    project = Project(daemon)
    yield project
    project.down()


@pytest.fixture(scope="module")
def images(new_folder: Callable[[], Path]) -> list[Image]:
    """Two that have nothing in common."""
    folder = new_folder()
    return [make_image(folder / name, {"amd64": [24 * MIB, 5 * MIB, 300_000]}, tag="1") for name in ("first", "second")]


def share_from(pulled: dict[str, Any], source: str) -> float:
    return float(pulled["bytes_by_source"].get(source, 0) / pulled["size_bytes"])


def test_an_image_goes_round_a_cluster_that_loses_a_node_and_grows(project: Project, images: list[Image]) -> None:
    """By the lines of the pages. Docker Hub and registry.example are not here: a layout and the project's registry are instead."""
    first, second = images
    project.stands_in("docker://docker.io/library/nginx", f"oci:{first.layout}:{first.tag}")
    project.stands_in("registry.example", REGISTRY_PUBLISHED)
    lines = lines_for("tests/compose/test_compose.py")
    up, push, pull_first, pull_second, scale, down = (line.text for line in lines if line.page == "README.md")
    project.type(up)
    project.wait_for_members(4, *NODES, "node")
    project.type(push)

    project.type(pull_first)
    assert share_received(project, "node1", "upstream") >= 0.95
    project.type(pull_second)
    assert share_received(project, "node2", "peer") >= 0.95
    pulled = project.pull("node3", "registry:5000/demo/app:v1")
    assert share_from(pulled, "peer") >= 0.95, pulled

    project.compose("kill", "node1")
    assert project.exit_codes()["peerdtest_node1_1"] == 137
    project.push(second.layout, second.tag, "demo/other:v1")
    project.pull("node2", "registry:5000/demo/other:v1")
    pulled = project.pull("node3", "registry:5000/demo/other:v1")
    assert share_from(pulled, "peer") >= 0.95, pulled

    for line in lines:
        if line.page != "README.md":
            project.type(line.text)
    project.type(scale)  # which starts the one that was killed, too
    project.wait_for_members(6, "node2", "node3")
    pulled = project.pull("node", "registry:5000/demo/app:v1", index=3)
    assert share_from(pulled, "peer") >= 0.95, pulled

    project.compose("stop")
    assert {code for name, code in project.exit_codes().items() if "_node" in name} == {0}
    project.type(down)
    assert project.daemon.left() == {"containers": [], "volumes": [], "networks": []}


def share_received(project: Project, node: str, source: str) -> float:
    """Of all that a node received since its start, how much from there."""
    received = json.loads(project.execute(node, "peerd", "status", "--json"))["status"]["bytes"]["received"]
    return float(received[source] / sum(received.values()))


def each_node_has_a_key_of_its_own_and_none_can_read_the_ca_s(project: Project) -> None:
    as_the_server = ("setpriv", "--reuid=peerd", "--regid=peerd", "--clear-groups", "--", "sh", "-c")
    fingerprints = set()
    for node in ("node1", "node2"):
        status = dict(
            line.split(":\t", 1)
            for line in project.execute(node, "cat", "/proc/1/status").splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == ["65532"] * 4
        assert int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        said = project.execute(node, *as_the_server, "cat /ca/ca.key 2>&1; cat /ca/serf.key 2>&1; true")
        assert said.count("Permission denied") == 2
        fingerprints.add(project.execute(node, *as_the_server, f"sha256sum </run/peerd/{node}.key"))
    assert len(fingerprints) == 2


def test_nodes_trust_each_other_alone_and_prometheus_finds_them(project: Project) -> None:
    project.up("--scale", "node=2", *NODES, "node", "prometheus")
    project.wait_for_members(5, "node1")
    each_node_has_a_key_of_its_own_and_none_can_read_the_ca_s(project)
    prometheus_finds_all_nodes_and_takes_the_rules(project)


def prometheus_finds_all_nodes_and_takes_the_rules(project: Project) -> None:

    def ask(path: str) -> Any:
        def answer() -> Any:
            with urllib.request.urlopen(f"{PROMETHEUS_PUBLISHED}{path}", timeout=10) as response:
                return json.load(response)["data"]

        host = project.daemon.host
        assert host is not None
        try:
            return host.inside(answer)
        except OSError:  # not started yet
            return {}

    def nodes_scraped() -> list[str]:
        targets = ask("/api/v1/targets").get("activeTargets", [])
        return sorted(target["labels"]["service"] for target in targets if target["health"] == "up")

    def rules_in_health() -> set[str]:
        groups = ask("/api/v1/rules").get("groups", [])
        return {rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"}

    expected = ["node", "node", *NODES]
    project.wait_until(lambda: nodes_scraped() == expected, lambda: f"scraped are {nodes_scraped()}")
    project.wait_until(lambda: alerts().keys() <= rules_in_health(), lambda: f"in health are {rules_in_health()}")


def test_the_image_holds_what_runs_and_no_more(daemon: Daemon) -> None:
    config = json.loads(daemon.docker("image", "inspect", "--format", "{{json .Config}}", "peerd:labelled"))
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    labels = {key.rpartition(".")[2]: value for key, value in config["Labels"].items() if "opencontainers" in key}
    assert {name.upper(): labels[name.lower()] for name in LABELS} == LABELS

    def run(*command: str) -> str:
        return daemon.docker("run", "--rm", "--network=none", "--read-only", *command)

    assert run("peerd:labelled", "--version").startswith("peerd ")
    unwanted = "cc gcc c++ g++ make pip pip3 hatchling pytest curl"
    look = f"for program in {unwanted}; do command -v $program; done; ls -A /var/lib/apt/lists"
    assert run("--entrypoint=sh", "peerd:labelled", "-c", look) == ""
    assert run("--entrypoint=sh", "peerd:labelled", "-c", "command -v serf; command -v setpriv").split() == [
        "/usr/bin/serf",
        "/usr/bin/setpriv",
    ]
    folders = run("--entrypoint=sh", "peerd:labelled", "-c", "ls /opt/peerd/lib/python3.11/site-packages").split()
    assert {"app", "peerd_gossip"} <= set(folders)
    assert not {"tests", "bench", "scripts", "docs", "pip"} & set(folders)


def test_a_node_alone_is_healthy_and_ends_when_it_is_told(daemon: Daemon) -> None:
    name = "peerdtest-alone"
    daemon.docker("run", "--detach", f"--name={name}", "--network=none", "--health-interval=1s", "peerd:labelled")
    try:
        Project(daemon).wait_until(
            lambda: daemon.docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() == "healthy",
            lambda: daemon.docker("logs", name),
        )
        daemon.docker("stop", "--time=40", name)
        assert daemon.docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    finally:
        daemon.docker("rm", "--force", "--volumes", name)
