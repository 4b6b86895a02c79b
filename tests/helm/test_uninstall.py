"""The script of the chart's Jobs, where what it waits for does not come, or is large."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helm.api_server import ADMINISTRATOR, DAEMON_SET_STATUS, ApiServer
from tests.helm.chart import CHART, Document

SCRIPT = CHART / "files" / "uninstall.py"
NODES = 250


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer().running() as api:
        yield api


def ready(is_ready: bool) -> dict[str, object]:
    return {"conditions": [{"type": "Ready", "status": str(is_ready)}]}


def add_node(api: ApiServer, name: str, *, is_ready: bool = True) -> None:
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}, status=ready(is_ready))


def add_pod(api: ApiServer, node: str, *, app: str, is_ready: bool = True) -> None:
    metadata = {"name": f"{app}-{node}", "namespace": "peerd-ns", "labels": {"app": app}}
    pod: Document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    api.put(pod, spec={"nodeName": node, "containers": []}, status=ready(is_ready))


def add_daemon_set(api: ApiServer, name: str, pods: int) -> None:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": []}}
    daemon_set: Document = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "peerd-ns"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    status = {**DAEMON_SET_STATUS, "observedGeneration": 1, "desiredNumberScheduled": pods}
    api.put(daemon_set, status=status)


def run(api: ApiServer, folder: Path, step: str, daemon_set: str, *, seconds: float) -> tuple[int, str]:
    """Exit code, and what was said."""
    kubeconfig = api.kubeconfig(folder / "kubeconfig", ADMINISTRATOR)
    words = (step, "--namespace=peerd-ns", f"--daemon-set={daemon_set}", f"--app={daemon_set}", f"--seconds={seconds}")
    done = subprocess.run(
        [sys.executable, SCRIPT, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.defpath, "KUBECONFIG": str(kubeconfig)},
    )
    return done.returncode, done.stderr


def test_nodes_that_are_not_done_in_time_are_named(api: ApiServer, tmp_path: Path) -> None:
    for name in ("done", "stuck"):
        add_node(api, name)
        add_pod(api, name, app="restore", is_ready=name == "done")
    add_daemon_set(api, "restore", pods=3)
    code, said = run(api, tmp_path, "wait", "restore", seconds=0)
    assert code == 1
    assert said.splitlines()[-1] == "after 0 s, nodes whose files are not put back yet: (1 without a pod) stuck"


def test_what_is_gone_already_is_stopped(api: ApiServer, tmp_path: Path) -> None:
    code, said = run(api, tmp_path, "stop", "peerd", seconds=0)
    assert code == 0, said


def test_stopping_waits_for_the_last_pod(api: ApiServer, tmp_path: Path) -> None:
    add_node(api, "slow")
    add_pod(api, "slow", app="peerd")
    add_daemon_set(api, "peerd", pods=1)

    def drain() -> None:
        """Once it has been seen, the pod ends."""
        while not [one for one in api.requests if one[1] == "list" and one[2].endswith("/pods")]:
            if deleted.wait(0.05):
                return
        api.drop(("pods", "peerd-ns", "peerd-slow"))

    deleted = threading.Event()
    kubelet = threading.Thread(target=drain)
    kubelet.start()
    try:
        code, said = run(api, tmp_path, "stop", "peerd", seconds=30)
    finally:
        deleted.set()
        kubelet.join()
    assert code == 0, said
    assert api.keys() == {("nodes", "", "slow")}
    assert [line.partition(";")[0] for line in said.splitlines()] == [
        "nodes on which peerd still runs: slow",
        "nodes on which peerd still runs: none",
    ]


def test_many_nodes_are_asked_for_in_pages(api: ApiServer, tmp_path: Path) -> None:
    for number in range(NODES):
        add_node(api, f"node-{number}", is_ready=number != NODES - 1)
        add_pod(api, f"node-{number}", app="restore", is_ready=number != NODES - 1)
    add_daemon_set(api, "restore", pods=NODES)
    code, said = run(api, tmp_path, "wait", "restore", seconds=30)
    assert code == 0, said
    assert said.strip().endswith(f"not waited for: node-{NODES - 1}")
    asked = [path for _, _, path in api.requests if path.endswith("/nodes")]
    assert len(asked) >= 3


def test_an_api_server_that_refuses_is_asked_until_the_time_is_over(api: ApiServer, tmp_path: Path) -> None:
    code, said = run(api, tmp_path, "wait", "restore", seconds=0)
    assert code == 1
    assert "404" in said
    assert "asking again" in said
