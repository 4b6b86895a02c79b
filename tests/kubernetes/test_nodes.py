"""Nodes in pods: `peerd serve` beside an API server, over TLS, from their start to their end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kubernetes.kube_apiserver import KubeApiserver
from tests.kubernetes.stand_in import NAMESPACE, StandIn
from tests.support.blob_store import BlobStore
from tests.support.made import content
from tests.support.nodes import INSECURE, Node, end_node, start_node

AWAY_SECONDS = float(os.environ.get("PEERD_API_AWAY_SECONDS") or 6)
"""How long the API server is away at least; a minute is passed on virtual time (test_ledger.py), or here by this argument."""

EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
GONE = "all other members are gone, it serves alone until one comes"
Server = StandIn | KubeApiserver
Start = Callable[..., Node]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The stand-in, unless a test wants another."""
    found: Server = request.getfixturevalue(getattr(request, "param", "stand_in"))
    return found


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Start]:
    """`start(1, "--zone", "a")`: a node in the pod peerd-1 on the Kubernetes node worker-1."""
    with ExitStack() as stack:

        def start_in_pod(number: int, *options: str, **variables: str) -> Node:
            pod, worker = f"peerd-{number}", f"worker-{number}"
            uid = server.add_pod(pod)
            server.add_node(worker, {"topology.kubernetes.io/zone": f"zone-{number}"})
            account = server.account(tmp_path / f"account-{number}")
            around = account.around(pod, **{"POD_UID": uid, "NODE_NAME": worker, **variables})
            node = start_node(
                tmp_path, f"node-{number}", f"127.0.0.{number}", ["--membership", "static", *options], around=around
            )
            stack.callback(end_node, node)
            return node

        yield start_in_pod


@pytest.fixture
def two(start: Start) -> tuple[Node, Node]:
    """Two that know each other."""
    first = start(1, *INSECURE)
    second = start(2, *INSECURE, "--join", f"{first.host}:{first.gossip_port}")
    for node in (first, second):
        node.program.wait_until_ready()
    return first, second


def reasons(server: Server, pod: str) -> list[tuple[str, int]]:
    """Reason and count of each event on a pod, in the order of their last change."""
    return [(event["reason"], event["count"]) for event in server.events_of(pod)]


def wait_for(server: Server, node: Node, *wanted: str, count: int = 1) -> None:
    """Until the node's pod has these events, the last so often."""
    pod = node.name.replace("node", "peerd")

    def there() -> bool:
        told = dict(reasons(server, pod))
        return told.keys() >= set(wanted) and told[wanted[-1]] == count

    node.program.wait_until(there, f"told of {wanted}, x{count}")


def put(blob_store: BlobStore, name: str, size: int) -> tuple[bytes, str]:
    """New content at a URL."""
    data = content(name, size)
    (blob_store.files / name).write_bytes(data)
    return data, f"{blob_store.url}/{name}"


def fetch(node: Node, url: str) -> bytes:
    reply = node.ask(f"/blobs/{url}")
    assert reply.status == 200, reply
    return reply.body


@pytest.mark.parametrize("server", ["stand_in", "kube_apiserver"], indirect=True)
def test_two_lives_from_start_to_end(server: Server, two: tuple[Node, Node], blob_store: BlobStore) -> None:
    first, second = two
    for node in two:
        wait_for(server, node, "P2PInitializing", "P2PConnected")
    data, url = put(blob_store, "shared", 3 << 20)
    assert fetch(first, url) == data
    assert fetch(second, url) == data
    wait_for(server, second, "P2PActive")
    first.program.end()
    wait_for(server, first, "P2PDisconnected")
    wait_for(server, second, "P2PDisconnected")
    assert [reason for reason, _ in reasons(server, "peerd-2")] == [
        "P2PInitializing",
        "P2PConnected",
        "P2PActive",
        "P2PDisconnected",
    ]
    messages = {event["reason"]: (event["type"], event["message"]) for event in server.events_of("peerd-2")}
    assert messages == {
        "P2PInitializing": ("Normal", "P2P proxy is initializing on instance peerd-2"),
        "P2PConnected": (
            "Normal",
            "P2P proxy is connected to cluster on instance peerd-2: filters exchanged with node-1",
        ),
        "P2PActive": ("Normal", "P2P proxy is active on instance peerd-2: bytes of a peer have reached a client"),
        "P2PDisconnected": (
            "Warning",
            f"P2P proxy is disconnected from cluster on instance peerd-2: {GONE}",
        ),
    }
    (left,) = (event for event in server.events_of("peerd-1") if event["reason"] == "P2PDisconnected")
    assert (left["type"], left["message"].partition(": ")[2]) == ("Normal", "it was told to end")
    second.program.end()
    assert all(count == 1 for pod in ("peerd-1", "peerd-2") for _, count in reasons(server, pod))


def test_a_member_that_comes_back_changes_the_count(stand_in: StandIn, two: tuple[Node, Node]) -> None:
    first, second = two
    wait_for(stand_in, second, "P2PConnected")
    with first.program.away():
        wait_for(stand_in, second, "P2PDisconnected")
    wait_for(stand_in, second, "P2PConnected", count=2)
    assert len(stand_in.events_of("peerd-2")) == 3, "each reason is one event"


@pytest.mark.parametrize("how", ["nobody listens", "its answers are lost"])
def test_what_happens_while_the_api_server_is_away_is_told_once(
    stand_in: StandIn, two: tuple[Node, Node], blob_store: BlobStore, how: str
) -> None:
    first, second = two
    wait_for(stand_in, second, "P2PConnected")
    if how == "nobody listens":
        stand_in.stop()
    else:
        stand_in.orders.lose_answers = True
    away_until = time.monotonic() + AWAY_SECONDS
    data, url = put(blob_store, "meanwhile", 2 << 20)
    assert fetch(first, url) == data
    assert fetch(second, url) == data, "the API server is in nobody's way"
    time.sleep(1.5)  # a look of the watcher: that it is active is found out before the others are gone
    with first.program.away():
        second.program.wait_until(lambda: second.sees_alive(1), "alone")
        time.sleep(1.5)
    second.program.wait_until(lambda: second.sees_alive(2), "together again")
    time.sleep(max(away_until - time.monotonic(), 0.0))
    if how == "nobody listens":
        stand_in.start()
    stand_in.orders.lose_answers = False
    wait_for(stand_in, second, "P2PActive", "P2PDisconnected", "P2PConnected", count=2)
    assert sorted(reasons(stand_in, "peerd-2")) == [
        ("P2PActive", 1),
        ("P2PConnected", 2),
        ("P2PDisconnected", 1),
        ("P2PInitializing", 1),
    ]
    assert [path for method, path, status in stand_in.asked if status == 400] == []


class TestZone:
    def test_is_read_from_the_node(self, two: tuple[Node, Node]) -> None:
        two[1].program.wait_until(lambda: two[1].sees_alive(2), "of two")
        zones = {name: member["zone"] for name, member in two[1].members().items()}
        assert zones == {"node-1": "zone-1", "node-2": "zone-2"}

    def test_is_not_asked_for_where_it_is_given(self, stand_in: StandIn, start: Start) -> None:
        node = start(1, *INSECURE, "--zone", "mine")
        node.program.wait_until_ready()
        assert node.members()["node-1"]["zone"] == "mine"
        assert [path for _, path, _ in stand_in.asked if "/nodes/" in path] == []

    def test_is_not_waited_for_without_end(self, stand_in: StandIn, start: Start) -> None:
        stand_in.orders.delay_seconds = 3600.0
        node = start(1, *INSECURE)
        node.program.wait_until_ready()
        assert node.members()["node-1"]["zone"] in ("", None)
        assert "no zone: Kubernetes did not answer within 5 s" in node.program.log.read_text()


class TestTrouble:
    def test_without_rights_a_node_serves_and_says_so_once(
        self, stand_in: StandIn, start: Start, blob_store: BlobStore
    ) -> None:
        stand_in.orders.forbidden = {("create", "events"), ("get", "nodes"), ("get", "pods")}
        node = start(1, *INSECURE, POD_UID="")
        node.program.wait_until_ready()
        data, url = put(blob_store, "alone", 1 << 20)
        assert fetch(node, url) == data
        node.program.wait_until(lambda: ("POST", EVENTS, 403) in stand_in.asked, "refused")
        end_node(node)
        log = node.program.log.read_text()
        assert log.count("does not take the event P2PInitializing: 403 events is forbidden") == 1
        assert log.count("no zone: Kubernetes does not tell it") == 1
        assert log.count("Kubernetes was not told of") == 1
        assert stand_in.writes == []

    def test_a_silent_api_server_does_not_keep_a_node_from_ending(self, stand_in: StandIn, start: Start) -> None:
        node = start(1, *INSECURE, "--zone", "mine")
        node.program.wait_until_ready()
        wait_for(stand_in, node, "P2PInitializing")
        stand_in.orders.delay_seconds = 3600.0
        end_node(node)

    def test_a_pod_without_an_account_serves(self, stand_in: StandIn, start: Start, tmp_path: Path) -> None:
        node = start(1, *INSECURE, KUBERNETES_SERVICE_PORT="")
        node.program.wait_until_ready()
        assert "without a service account: no events" in node.program.log.read_text()
        assert stand_in.asked == []

    def test_one_that_can_not_run_says_why(self, stand_in: StandIn, start: Start) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            node = start(1, *INSECURE, "--metrics-addr", f"127.0.0.1:{port}", "--zone", "mine")
            assert node.program.end(signal.SIGCONT) == 1  # it ends by itself
        failed = stand_in.events_of("peerd-1")[-1]
        assert [event["reason"] for event in stand_in.events_of("peerd-1")] == ["P2PInitializing", "P2PFailed"]
        assert failed["type"] == "Warning"
        assert re.match(rf"P2P proxy failed on instance peerd-1: .*127\.0\.0\.1:{port}", failed["message"])
        assert failed["involvedObject"]["namespace"] == NAMESPACE


def test_outside_a_cluster_the_client_is_not_loaded_and_inside_only_what_is_used() -> None:
    script = (
        "import sys, app.main\n"
        "assert 'kubernetes' not in sys.modules\n"
        "import app.kubernetes.api\n"
        "assert 'kubernetes.client.api.core_v1_api' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
