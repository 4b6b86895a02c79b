"""The lines of README and `docs/` for a cluster, as they stand there: by Helm and by kubectl, on two nodes.

A line that stands on two pages is run once.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import filterfalse
from pathlib import Path

import pytest

from app.kubernetes import document
from app.kubernetes.ledger import Post
from app.kubernetes.lifecycle import Occurrence, Reason
from app.kubernetes.pod import Pod
from tests.docs.consoles import lines_for
from tests.helm.chart import ROOT, helm_program, kubectl_program
from tests.helm.cluster import Cluster, running_cluster
from tests.support.program import installed

MINE = list(dict.fromkeys(line.text for line in lines_for("tests/helm/test_commands.py")))
RELEASE = ("daemonsets", "peerd-ns", "peerd")


class Administrator:
    """Someone with a shell at the project's folder, who runs lines of the pages, each once, in any order.

    Attributes:
        left: the lines that were not run yet.
    """

    def __init__(self, cluster: Cluster, folder: Path, lines: Iterable[str]) -> None:
        self.left = list(lines)
        self._cluster = cluster
        # Files that lines make are not to be left in the project's folder, which only the chart is wanted of.
        self._folder = folder
        (folder / "deploy").symlink_to(ROOT / "deploy")
        installed("serf", "serf")
        programs = (helm_program().parent, kubectl_program().parent, Path(sys.executable).parent)
        self._path = ":".join([*map(str, programs), os.environ["PATH"]])

    def run(self, words: str, more: str = "", *, code: int = 0) -> str:
        """What the first line that is left, and has these words, prints; it is to end with that code."""
        line = next(line for line in self.left if words in line)
        self.left.remove(line)
        return self.tell(f"{line} {more}", code=code)

    def tell(self, command: str, *, code: int = 0) -> str:
        done = self._cluster.run("bash", "-euc", command, folder=self._folder, PATH=self._path)
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), lost=()) as cluster:
        yield cluster


def of_ones_own_ca(line: str) -> bool:
    """Whether it belongs to the section on certificates, which begins a cluster anew."""
    return any(words in line for words in ("create ", "label ", "certs init", "existingSecret"))


def mirrored(cluster: Cluster) -> list[set[str]]:
    """Registries that containerd asks peerd for, node by node."""
    return [set(cluster.mirror_files(name)) for name in cluster.hosts]


def test_certificates_of_ones_own(cluster: Cluster, tmp_path: Path) -> None:
    reader = Administrator(cluster, tmp_path, filter(of_ones_own_ca, MINE))
    for command in list(reader.left):
        reader.run(command)
    for name in cluster.hosts:
        issued = cluster.node(name).root / "pods" / "peerd" / "tls"
        reader.tell(f"openssl verify -CAfile ca/ca.crt {issued}/{name}.crt")
    namespace = cluster.api.get(("namespaces", "", "peerd-ns"))
    assert namespace is not None
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "privileged"}
    assert reader.left == []
    assert cluster.api.get(("secrets", "peerd-ns", "peerd-ca")) is None
    files = mirrored(cluster)
    assert all(files)
    reader.tell("helm uninstall --no-hooks peerd")
    assert mirrored(cluster) == files


def test_install_configure_upgrade_look_and_uninstall(cluster: Cluster, tmp_path: Path) -> None:
    reader = Administrator(cluster, tmp_path, filterfalse(of_ones_own_ca, MINE))
    reader.run("helm install")
    assert "2 members alive" in reader.run("peerd doctor", code=1)
    assert mirrored(cluster) == [{"docker.io", "ghcr.io", "mcr.microsoft.com", "registry.k8s.io"}] * 2

    programs = dict(cluster.programs)
    reader.run("peerd.hosts")
    assert all(cluster.programs[name] is not programs[name] for name in cluster.hosts)
    assert mirrored(cluster) == [{"docker.io", "ghcr.io", "mcr.microsoft.com"}] * 2

    # Both steps of `helm uninstall` have this time, and only the second is to be short of it.
    reader.run("--reuse-values", "--set peerd.uninstall.timeoutSeconds=20")
    release = cluster.api.get(RELEASE)
    assert release is not None
    (container,) = release["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/peerd:0.2.0"
    assert mirrored(cluster) == [{"docker.io", "ghcr.io", "mcr.microsoft.com"}] * 2, "values of before are kept"
    assert "successfully rolled out" in reader.run("rollout status")
    programs = dict(cluster.programs)
    reader.tell("kubectl -n peerd-ns rollout restart daemonset/peerd")
    assert all(cluster.programs[name] is not programs[name] for name in cluster.hosts)

    put_events(cluster)
    # This API server makes no tables.
    of_pods, connected = (reader.run("get events", "--output=jsonpath={.items[*].reason}").split() for _ in range(2))
    assert sorted(of_pods) == [Reason.CONNECTED] * 2 + [Reason.INITIALIZING] * 2
    assert connected == [Reason.CONNECTED] * 2

    edited = cluster.node("node-1").path("/etc/containerd/certs.d/docker.io/hosts.toml")
    as_written = edited.read_bytes()
    edited.write_bytes(b"\xff")
    assert "peerd-uninstall-wait" in reader.run("helm uninstall", code=1), cluster.logs
    assert cluster.programs == {}
    why = reader.run("logs -l app=peerd-restore")
    assert re.search(r"docker\.io: .*decode", why)
    edited.write_bytes(as_written)
    reader.tell("helm uninstall peerd")
    assert mirrored(cluster) == [set(), set()]
    assert cluster.api.get(RELEASE) is None
    assert reader.left == []


def put_events(cluster: Cluster) -> None:
    """As nodes report them; these have no account to report with."""
    now = datetime.now(UTC)
    for name in cluster.hosts:
        pod = Pod(f"peerd-{name}", "peerd-ns", None, name)
        for reason in (Reason.INITIALIZING, Reason.CONNECTED):
            post = Post(reason.lower(), Occurrence(reason, "Normal", ""), 1, now, now)
            cluster.api.put(document.created(post, pod))
