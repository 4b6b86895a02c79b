"""The steps of `helm uninstall` that ask the API server; the chart's Jobs run them in the image of peerd.

    stop    delete a DaemonSet, and return when none of its pods is left
    wait    return when a DaemonSet has a ready pod on every node

A node that is not ready is named and not waited for: what its pods do is not known until it comes back. Exit 1, with the nodes
that are waited for, when the time is over.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

_PAUSE_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
# Objects in one answer: those of a thousand nodes would take more memory than the Job has.
_PAGE = 100


@dataclass(frozen=True)
class Pods:
    """A DaemonSet's pods, as the API server knows them."""

    namespace: str
    daemon_set: str
    app: str

    def stop(self) -> None:
        """Delete the DaemonSet, if it is there; its pods are told to end."""
        try:
            client.AppsV1Api().delete_namespaced_daemon_set(
                self.daemon_set, self.namespace, propagation_policy="Background", _request_timeout=_ANSWER_SECONDS
            )
        except client.ApiException as error:
            if error.status != 404:
                raise

    def left(self) -> set[str]:
        """Nodes that have one of its pods."""
        return {pod.spec.node_name for pod in self._pods() if pod.spec.node_name}

    def unready(self) -> set[str]:
        """Nodes whose pod is not ready; pods that are not there yet are counted in the name."""
        status = (
            client.AppsV1Api()
            .read_namespaced_daemon_set(self.daemon_set, self.namespace, _request_timeout=_ANSWER_SECONDS)
            .status
        )
        if not status.observed_generation:
            return {"(all: the DaemonSet is new)"}
        pods = self._pods()
        unready = {pod.spec.node_name or "(none yet)" for pod in pods if not _is_true("Ready", pod.status.conditions)}
        if (missing := status.desired_number_scheduled - len(pods)) > 0:
            unready.add(f"({missing} without a pod)")
        return unready

    def _pods(self) -> list[client.V1Pod]:
        list_pods = client.CoreV1Api().list_namespaced_pod
        return [*_all(partial(list_pods, self.namespace, label_selector=f"app={self.app}"))]


def _all(list_some: Callable[..., Any]) -> Iterator[Any]:
    """What a list holds, a page after the other."""
    following = None
    while True:
        page = list_some(limit=_PAGE, _continue=following, _request_timeout=_ANSWER_SECONDS)
        yield from page.items
        following = page.metadata.var_continue
        if not following:
            return


def _is_true(kind: str, conditions: list[Any] | None) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in conditions or [])


def _lost_nodes() -> set[str]:
    """Nodes whose kubelet does not report."""
    nodes = _all(client.CoreV1Api().list_node)
    return {node.metadata.name for node in nodes if not _is_true("Ready", node.status.conditions)}


def _until_none(waited_for: Callable[[], set[str]], what: str, *, seconds: float) -> int:
    """The exit code."""
    deadline = time.monotonic() + seconds
    said: tuple[set[str], set[str]] | None = None
    while True:
        try:
            nodes, lost = waited_for(), _lost_nodes()
        except (client.ApiException, HTTPError) as error:
            _say(f"the API server: {error}; asking again")
        else:
            if said != (nodes - lost, nodes & lost):
                said = (nodes - lost, nodes & lost)
                _say(f"{what}: {_names(nodes - lost)}; not ready, so not waited for: {_names(nodes & lost)}")
            if not nodes - lost:
                return 0
        if time.monotonic() > deadline:
            _say(f"after {seconds:.0f} s, {what}: {_names(said[0] if said else set())}")
            return 1
        time.sleep(_PAUSE_SECONDS)


def _names(nodes: set[str]) -> str:
    return " ".join(sorted(nodes)) or "none"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    """Run one step; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["stop", "wait"])
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--daemon-set", required=True)
    parser.add_argument("--app", required=True, help="the label `app` of its pods")
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    config.load_config()
    pods = Pods(given.namespace, given.daemon_set, given.app)
    if given.step == "stop":
        pods.stop()
        return _until_none(pods.left, "nodes on which peerd still runs", seconds=given.seconds)
    return _until_none(pods.unready, "nodes whose files are not put back yet", seconds=given.seconds)


if __name__ == "__main__":
    sys.exit(main())
