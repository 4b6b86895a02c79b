"""A release from its beginning to its end: Helm, and what the chart's objects start, on two nodes and a lost one."""

import json
import re
from pathlib import Path

import click

from app.cli import main
from tests.helm.api_server import ADMINISTRATOR, Key
from tests.helm.chart import CHART
from tests.helm.cluster import LOST, Cluster, running_cluster, until

DOOR = "http://127.0.0.1:30000"
CA: Key = ("secrets", "peerd-ns", "peerd-ca")
SERF: Key = ("secrets", "peerd-ns", "peerd-serf")
CONTAINERD_CONFIG = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{}"\n'
ADMINISTRATORS = '# my own\nserver = "https://ghcr.example"\n'


def secrets(cluster: Cluster) -> list[object]:
    return [document["data"] for key in (CA, SERF) if (document := cluster.api.get(key))]


def members(cluster: Cluster, node: str) -> set[str]:
    """Those that this node can exchange chunks with."""
    return {one["name"] for one in cluster.ask(node, f"{DOOR}/api/v1/members")[1]["members"] if one["state"] == "alive"}


def test_install_upgrade_uninstall(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        before = cluster.api.keys()
        for node in cluster.hosts:
            own = cluster.node(node).path("/etc/containerd/certs.d/ghcr.io/hosts.toml")
            own.parent.mkdir(parents=True)
            own.write_text(ADMINISTRATORS)
            config = cluster.node(node).path("/etc/containerd/config.toml")
            config.write_text(CONTAINERD_CONFIG.format(own.parent.parent))

        installs_a_cluster(cluster)
        keeps_its_secrets_at_upgrades(cluster)
        leaves_nothing_behind(cluster, before)


def installs_a_cluster(cluster: Cluster) -> None:
    """Nodes are ready where the kubelet asks, know each other by certificates of the chart's CA, and mirror."""
    notes = cluster.helm("install", "peerd", CHART).stdout.partition("NOTES:")[2]
    daemon_set = cluster.api.get(("daemonsets", "peerd-ns", "peerd"))
    assert daemon_set is not None
    for name, host in cluster.hosts.items():
        for probe in ("startup", "liveness", "readiness"):
            assert cluster.probe(name, probe, daemon_set), probe
        assert cluster.ask(name, f"http://{host.address}:5004/readyz")[0] == 200
        status = cluster.ask(name, f"{DOOR}/api/v1/status")[1]
        assert (status["node"]["name"], status["node"]["membership"]) == (name, "serf")
        assert until(lambda name=name: members(cluster, name) == set(cluster.hosts)), f"{name} is alone"  # type: ignore[misc]
        files = cluster.mirror_files(name)
        assert set(files) == {"mcr.microsoft.com", "ghcr.io", "docker.io", "registry.k8s.io"}
        assert all(DOOR in text for text in files.values())
        assert "# my own" in files["ghcr.io"]
    examines_itself(cluster)
    one, other = cluster.hosts
    try:
        cluster.ask(one, f"http://{cluster.hosts[other].address}:30000/v2/")
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("the node door is reached from another node")
    issued = cluster.node(one).root / "pods" / "peerd" / "tls"
    assert {path.name: path.stat().st_mode & 0o777 for path in issued.iterdir()} == {
        f"{one}.crt": 0o644,
        f"{one}.key": 0o600,
    }
    for wanted in (
        "THE IMAGE is peerd:local",
        "kubectl -n peerd-ns rollout status daemonset/peerd",
        f"{DOOR}/blobs",
        "5001 and 5002 (TCP), 7946 (TCP and UDP)",
    ):
        assert wanted in notes
    named = re.findall(r" -- peerd (\w+)", notes)
    assert set(named) == {"doctor", "status"}
    assert all(main.get_command(click.Context(main), name) for name in named)


def examines_itself(cluster: Cluster) -> None:
    """`kubectl exec` finds the options that the node runs with. (There is no containerd here, and perhaps no good clock.)"""
    for name in cluster.hosts:
        findings = json.loads(cluster.execute(name, "peerd", "doctor", "--json"))
        well = {one["subject"] for one in findings if one["verdict"] == "ok"}
        assert {
            "config_path",
            "mirror of ghcr.io",
            "mirror door",
            "node",
            "peer port",
            "gossip port",
            "certificate",
        } <= well
        assert "2 members alive" in str(findings)


def keeps_its_secrets_at_upgrades(cluster: Cluster) -> None:
    """And what runs is replaced: each node has let the older release's process end by itself."""
    made, programs = secrets(cluster), dict(cluster.programs)
    assert len(made) == 2
    # --force replaces objects: this API server knows nothing of patches.
    given = ("--set", "peerd.logFormat=text", "--set", "peerd.hosts=docker.io")
    cluster.helm("upgrade", "peerd", CHART, "--force", *given)
    assert secrets(cluster) == made
    for name in cluster.hosts:
        assert cluster.programs[name] is not programs[name]
        assert until(lambda name=name: members(cluster, name) == set(cluster.hosts)), f"{name} is alone"  # type: ignore[misc]
        assert not cluster.programs[name].tail().splitlines()[-1].startswith("{")


def leaves_nothing_behind(cluster: Cluster, before: set[Key]) -> None:
    """peerd is stopped before files are put back, and both on every node that is ready before anything is deleted."""
    started = len(cluster.api.requests)
    cluster.helm("uninstall", "peerd")
    assert cluster.programs == {}
    assert [cluster.mirror_files(name) for name in cluster.hosts] == [{"ghcr.io": ADMINISTRATORS}] * 2
    left = {key for key in cluster.api.keys() - before if key[0] != "pods" or LOST not in key[2]}
    assert left == set()
    assert cluster.api.refused == []
    # Their order, as the API server saw it.
    requests = cluster.api.requests[started:]
    account = "system:serviceaccount:peerd-ns:peerd-uninstall"
    stopped = requests.index((account, "delete", "/apis/apps/v1/namespaces/peerd-ns/daemonsets/peerd"))
    restored = requests.index((ADMINISTRATOR, "create", "/apis/apps/v1/namespaces/peerd-ns/daemonsets"))
    deleted = requests.index((ADMINISTRATOR, "delete", "/api/v1/namespaces/peerd-ns/services/peerd-members"))
    assert stopped < restored < deleted
    for step in ("stop", "wait"):
        assert f"not ready, so not waited for: {LOST}" in cluster.logs[f"peerd-uninstall-{step}"]
    assert "not put back yet: none" in cluster.logs["peerd-uninstall-wait"]
    assert json.dumps(requests).count("/jobs") >= 4
