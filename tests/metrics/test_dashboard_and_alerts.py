"""Real nodes, a real Prometheus, and real faults: each query of the dashboard is answered, and each alert fires when it should.

An alert is not only to fire: of the cluster that has the fault, no other one may. The rules run FASTER than in earnest, which
tests/metrics/prometheus.py does to them; `promtool test rules` tries them as they are (deploy/prometheus/alerts_test.yaml).
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.content.advertised import name
from app.content.names import Name
from tests.containerd.fleet import HostedNode
from tests.containerd.network import network
from tests.docs.markdown import Page
from tests.metrics.dashboard import DASHBOARD, queries
from tests.metrics.liar import running_liar
from tests.metrics.prometheus import FASTER, Prometheus, alerts, running_prometheus
from tests.support import made
from tests.support.blob_store import BlobStore
from tests.support.nodes import (
    INSECURE,
    Node,
    end_node,
    is_ready,
    joining,
    running_alone,
    running_nodes,
    start_node,
    wait_until_agreed,
)
from tests.support.ports import free_port
from tests.support.program import Program
from tests.support.registry import Registry

pytestmark = [pytest.mark.xdist_group("metrics")]

MIB = 1 << 20

STANDS_STILL_SECONDS = 0.3
"""Longer than a reader waits before it asks another member too, and shorter than what it takes for a stall (app/swarm/hedging.py)."""

# What each test below makes fire.
OF_A_CLUSTER_THAT_DECAYS = {
    "PeerdCertificateExpiring",
    "PeerdCertificateNearlyExpired",
    "PeerdFiltersRefused",
    "PeerdMembersFailed",
    "PeerdNodeDown",
}
OF_STRANGERS = {
    "PeerdClusterSplit",
    "PeerdCorruptChunks",
    "PeerdMirrorPassedBy",
    "PeerdRequestsFailing",
    "PeerdUpstreamRefused",
    "PeerdUpstreamShareHigh",
}
OF_A_SMALL_CACHE = {"PeerdCacheThrashing"}
OF_A_FULL_DISK = {"PeerdCacheDiskRefuses"}
OF_AN_OPEN_DOOR = {"PeerdNodeDoorExposed"}
OF_NOBODY = {"PeerdAbsent", "PeerdNodeDown"}
OF_A_LIAR = {"PeerdFalsePositivesHigh"}
OF_MEMBERS_THAT_FALTER = {"PeerdHedgedRequestsHigh"}


def test_every_alert_is_made_to_fire() -> None:
    assert alerts().keys() == (
        OF_A_CLUSTER_THAT_DECAYS
        | OF_STRANGERS
        | OF_A_SMALL_CACHE
        | OF_A_FULL_DISK
        | OF_AN_OPEN_DOOR
        | OF_NOBODY
        | OF_A_LIAR
        | OF_MEMBERS_THAT_FALTER
    )


@pytest.fixture(scope="module")
def prometheus(new_folder: Callable[[], Path]) -> Iterator[Prometheus]:
    with running_prometheus(new_folder()) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def authority(new_folder: Callable[[], Path]) -> Path:
    """A cluster's CA and three nodes' certificates."""
    folder = new_folder()
    certs("init", "--out", folder)
    for number in (1, 2, 3):
        certs("issue", "--name", f"node-{number}", "--ip", f"127.0.0.{number}", "--out", folder)
    return folder


def certs(*arguments: str | Path) -> None:
    peerd = Path(sys.executable).with_name("peerd")
    run = subprocess.run([peerd, "certs", *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def trust(authority: Path, name: str) -> list[str]:
    return [
        *("--tls-ca", str(authority / "ca.crt")),
        *("--tls-cert", str(authority / f"{name}.crt")),
        *("--tls-key", str(authority / f"{name}.key")),
    ]


@pytest.fixture(scope="module")
def cluster_at_work(
    new_folder: Callable[[], Path], prometheus: Prometheus, authority: Path, registry: Registry
) -> Iterator[list[Node]]:
    """Three nodes that nothing is wrong with, scraped as the job `peerd`."""
    with running_nodes(
        new_folder(),
        3,
        *("--registry", f"reg.test={registry.url}"),
        trust=[trust(authority, f"node-{number}") for number in (1, 2, 3)],
    ) as nodes:
        prometheus.scrape("peerd", nodes)
        yield nodes


def test_every_query_of_the_dashboard_is_answered_and_nothing_alerts(
    prometheus: Prometheus, cluster_at_work: list[Node], registry: Registry
) -> None:
    pulled = 0

    def pull() -> None:
        """Another layer on each node, so that there are rates."""
        nonlocal pulled
        data = made.content(f"layer {pulled}", 5 * MIB)
        pulled += 1
        target = f"/v2/team/app/blobs/{registry.push_blob('team/app', data)}?ns=reg.test"
        for node in cluster_at_work:
            assert node.ask(target).body == data

    unanswered = dict.fromkeys(queries(DASHBOARD))
    assert unanswered

    def all_are_answered() -> bool:
        pull()
        for query in list(unanswered):
            if prometheus.query(query.replace("$__rate_interval", "10s")):
                del unanswered[query]
        return not unanswered

    prometheus.wait_until(all_are_answered, f"answering {list(unanswered)}")

    recorded = {rule["name"] for rule in prometheus.rules() if rule["type"] == "recording"}
    mine = 'job="peerd"'

    def all_is_well() -> bool:
        assert prometheus.alerts("peerd") == set()
        shares = prometheus.query(f"job:peerd_upstream_share:ratio_rate1h{{{mine}}} < 0.5")
        missing = [name for name in recorded if not prometheus.query(f"{name}{{{mine}}}")]
        return bool(shares) and not missing and not prometheus.alerts("peerd", states=("pending",))

    prometheus.wait_until(
        all_is_well, "recording all it should, with nothing pending and one copy from upstream for three nodes"
    )
    assert [(rule["name"], rule["lastError"]) for rule in prometheus.rules() if rule["health"] != "ok"] == []


def test_alerts_of_a_cluster_that_decays(
    prometheus: Prometheus, cluster_at_work: list[Node], authority: Path, new_folder: Callable[[], Path]
) -> None:
    """Certificates come to their end, somebody comes with another one's certificate, and a member dies."""
    for number, days in ((1, 10), (2, 2)):
        address = cluster_at_work[number - 1].host
        certs("issue", "--name", f"node-{number}", "--ip", address, "--days", str(days), "--out", authority)
    options = [*trust(authority, "node-2"), *joining(cluster_at_work[0], "static")]
    impostor = start_node(new_folder(), "node-4", "127.0.0.2", options)
    try:
        impostor.program.wait_until_ready()
        cluster_at_work[2].program.end(signal.SIGKILL)
        fires_alone(prometheus, "peerd", OF_A_CLUSTER_THAT_DECAYS)
    finally:
        end_node(impostor)


@pytest.fixture
def strangers(new_folder: Callable[[], Path], prometheus: Prometheus) -> Iterator[list[Node]]:
    """Three nodes that were not told of each other, one of which can not reach its registry."""
    folder = new_folder()
    options = [*INSECURE, "--membership", "static", "--registry", f"away.test=http://127.0.0.1:{free_port()}"]
    with ExitStack() as stack:
        nodes = []
        for number in (1, 2, 3):
            nodes.append(start_node(folder, f"node-{number}", f"127.0.0.{number}", options))
            stack.callback(end_node, nodes[-1])
        for node in nodes:
            node.program.wait_until_ready()
        prometheus.scrape("peerd-strangers", nodes)
        yield nodes


def test_alerts_of_nodes_that_do_not_find_each_other_nor_upstream(
    prometheus: Prometheus, strangers: list[Node], blob_store: BlobStore
) -> None:
    made.write(blob_store.files / "model", "model", 40 * MIB)
    target = f"/blobs/{blob_store.url}/model"
    for node in strangers:
        assert node.ask(target).correct
    first = strangers[0]
    with first.program.away():  # What was hashed in this life is believed for a while.
        rot(first)
    assert first.ask(target).correct

    nothing = f"sha256:{'0' * 64}"
    nowhere = f"/blobs/http://127.0.0.1:{free_port()}/file"

    def go_on() -> None:
        assert first.ask(f"/v2/team/app/blobs/{nothing}?ns=away.test").status == 404
        assert first.ask(nowhere).status == 502
        for _ in range(5):
            assert first.ask("/blobs/http://10.0.0.1/secrets").status == 403

    fires_alone(prometheus, "peerd-strangers", OF_STRANGERS, go_on)
    (find_them,) = Page.named("docs/operations.md").blocks("promql")
    found = [one["metric"] for one in prometheus.query(find_them) if one["metric"]["job"] == "peerd-strangers"]
    assert {one["instance"] for one in found} == {node.netloc for node in strangers}


def rot(node: Node) -> None:
    """Turn one bit of each content in a node's cache over."""
    cache = Path(node.program.log.parent, node.name)
    rotten = list(cache.glob("v1/contents/*/*/data"))
    assert rotten
    for data in rotten:
        with data.open("r+b") as file:
            byte = file.read(1)[0]
            file.seek(0)
            file.write(bytes([byte ^ 1]))


def test_alerts_of_a_cache_that_is_too_small(
    prometheus: Prometheus, blob_store: BlobStore, new_folder: Callable[[], Path]
) -> None:
    made.write(blob_store.files / "table", "table", 64 * MIB)
    with running_alone(new_folder(), "--cache-size", "8MiB", "--chunk-size", "1MiB") as node:
        prometheus.scrape("peerd-small", [node])
        read = footers(node, blob_store)
        fires_alone(prometheus, "peerd-small", OF_A_SMALL_CACHE, lambda: [next(read) for _ in range(5)])


def test_alerts_of_a_disk_that_is_full(
    prometheus: Prometheus, blob_store: BlobStore, new_folder: Callable[[], Path]
) -> None:
    made.write(blob_store.files / "table", "table", 64 * MIB)
    folder = new_folder()
    (folder / "node-1").mkdir()
    small_disk = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=2m none "$0" && exec "$@"',
        str(folder / "node-1"),
    ]
    node = start_node(folder, "node-1", "127.0.0.1", ["--membership", "static"], around=small_disk)
    try:
        node.program.wait_until_ready()
        prometheus.scrape("peerd-full", [node])
        read = footers(node, blob_store)
        fires_alone(prometheus, "peerd-full", OF_A_FULL_DISK, lambda: next(read))
    finally:
        end_node(node)


def footers(node: Node, blob_store: BlobStore) -> Iterator[bytes]:
    """A few bytes of each chunk of a file, again and again."""
    whole = made.content("table", 64 * MIB)
    while True:
        for start in range(0, len(whole), MIB):
            headers = {"Range": f"bytes={start}-{start + 9}"}
            reply = node.ask(f"/blobs/{blob_store.url}/table", headers=headers)
            assert reply.body == whole[start : start + 10]
            yield reply.body


def test_alerts_of_a_member_that_holds_nothing_of_what_it_says(
    prometheus: Prometheus, blob_store: BlobStore, new_folder: Callable[[], Path]
) -> None:
    urls = [f"{blob_store.url}/small-{number}" for number in range(5000)]
    for url in urls:
        (blob_store.files / url.rpartition("/")[2]).write_bytes(b"small")
    with (
        running_nodes(new_folder(), 1) as (node,),
        running_liar(node, (name(Name.of_url(url).identity) for url in urls)),
    ):
        prometheus.scrape("peerd-lied-to", [node])
        unread = iter(urls)

        def read() -> None:
            assert node.ask(f"/blobs/{next(unread)}").body == b"small"

        fires_alone(prometheus, "peerd-lied-to", OF_A_LIAR, read)


def test_alerts_of_members_that_falter(
    prometheus: Prometheus, blob_store: BlobStore, new_folder: Callable[[], Path]
) -> None:
    """Two of three stand still by turns, as on machines that have no CPU to spare."""
    step, size = 256 << 10, 192 * MIB
    made.write(blob_store.files / "disk", "disk", size)
    target = f"/blobs/{blob_store.url}/disk"
    with running_nodes(new_folder(), 3, "--no-prefetch", "--chunk-size", "256KiB") as nodes:
        *holders, reader = nodes
        for holder in holders:
            assert holder.ask(target).correct
        wait_until_agreed(nodes)
        prometheus.scrape("peerd-faltering", nodes)
        starts = iter(range(0, size, step))

        def read() -> None:
            start = next(starts)
            assert reader.ask(target, headers={"Range": f"bytes={start}-{start + 9}"}).correct

        with faltering(holders):
            fires_alone(prometheus, "peerd-faltering", OF_MEMBERS_THAT_FALTER, read)
        assert reader.metric("peerd_received_bytes_total", source="upstream") == 0


@contextmanager
def faltering(nodes: Sequence[Node]) -> Iterator[None]:
    """One of them after the other stands still for a moment, within this block."""
    ended = threading.Event()

    def falter() -> None:
        while not ended.is_set():
            for node in nodes:
                node.program.send(signal.SIGSTOP)
                ended.wait(STANDS_STILL_SECONDS)
                node.program.send(signal.SIGCONT)

    thread = threading.Thread(target=falter, name="faltering")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_alerts_of_a_door_that_is_open_and_of_nobody_at_all(new_folder: Callable[[], Path]) -> None:
    """On a host of its own, as nobody else is to come through that door, and with a Prometheus that knows no other node."""
    with network() as own_network:
        host, folder = own_network.host(1), new_folder()
        options = [
            "--http-addr",
            f"{host.address}:5000",
            "--membership",
            "static",
            "--cache-dir",
            str(folder / "cache"),
        ]
        command = host.command(Path(sys.executable).with_name("peerd"), "serve", "--node-name", "node-1", *options)
        with running_prometheus(new_folder(), host) as prometheus:
            ready = lambda: host.inside(lambda: is_ready(host.address, 5000))  # noqa: E731
            node = HostedNode(
                "node-1",
                host.address,
                5000,
                5001,
                5002,
                7946,
                Program("node-1", command, folder / "log", ready=ready),
                host,
            )
            try:
                node.program.wait_until_ready()
                prometheus.scrape("peerd", [node])
                fires_alone(prometheus, "peerd", OF_AN_OPEN_DOOR)
            finally:
                end_node(node)
            prometheus.wait_until(lambda: not prometheus.alerts("peerd") & OF_AN_OPEN_DOOR, "calm again")
            fires_alone(prometheus, "peerd", OF_NOBODY)


def fires_alone(
    prometheus: Prometheus, job: str, expected: set[str], go_on: Callable[[], object] = lambda: None
) -> None:
    """Wait until these alerts fire for a cluster, while the fault goes on; no other one does."""

    def fire() -> bool:
        go_on()
        firing = prometheus.alerts(job)
        assert firing <= expected, "one fires that should not"
        return firing == expected

    prometheus.wait_until(fire, f"firing {sorted(expected)} (rules run {FASTER} times as fast)")
