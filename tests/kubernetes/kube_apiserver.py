"""A real API server, where `kube-apiserver` and `etcd` are installed: the first is in no package of Debian 12, and takes ten
minutes to build from its Go modules (`go build k8s.io/kubernetes/cmd/kube-apiserver`).

Its pod has the rights that docs/operations.md names, and no other.
"""

import json
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kubernetes.account import Account, server_certificate
from tests.kubernetes.stand_in import NAMESPACE, TOKEN
from tests.support.ports import free_port, listens
from tests.support.program import running

ADMIN_TOKEN = "admin"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RIGHTS = [
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
]
RIGHTS_ON_NODES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]


def installed() -> bool:
    """Whether there is one."""
    return shutil.which("kube-apiserver") is not None and shutil.which("etcd") is not None


class KubeApiserver:
    """One that runs, with what a test wants of it done by its administrator."""

    def __init__(self, address: tuple[str, int], ca: bytes) -> None:
        self.address = address
        self.ca = ca
        self._tls = ssl.create_default_context(cadata=ca.decode())

    def account(self, folder: Path, token: str = TOKEN) -> Account:
        """A pod's, in this folder."""
        return Account.at(folder, self.address, token=token, ca=self.ca, namespace=NAMESPACE)

    def add_pod(self, name: str) -> str:
        """A pod; returns its uid."""
        spec = {"containers": [{"name": "peerd", "image": "peerd"}]}
        pod = self._ask("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": name}, "spec": spec})
        return str(pod["metadata"]["uid"])

    def add_node(self, name: str, labels: dict[str, str]) -> None:
        self._ask("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})

    def forget_event(self, name: str) -> None:
        self._ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}/events/{name}")

    def touch_event(self, name: str) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/events/{name}"
        event = self._ask("GET", path)
        event["metadata"]["labels"] = {"seen": "yes"}
        self._ask("PUT", path, event)

    def events_of(self, pod: str) -> list[dict[str, Any]]:
        """The events that are kept about a pod, in the order of their last change."""
        path = f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=involvedObject.name={pod}"
        return sorted(self._ask("GET", path)["items"], key=lambda one: int(one["metadata"]["resourceVersion"]))

    def grant(self) -> None:
        """The pod's namespace, and its rights."""
        self._ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        subjects = [{"kind": "User", "name": "peerd", "apiGroup": "rbac.authorization.k8s.io"}]
        for kind, inside, rules in (("Role", f"/namespaces/{NAMESPACE}", RIGHTS), ("ClusterRole", "", RIGHTS_ON_NODES)):
            metadata = {"name": "peerd"}
            self._ask("POST", f"{RBAC}{inside}/{kind.lower()}s", {"metadata": metadata, "rules": rules})
            reference = {"kind": kind, "name": "peerd", "apiGroup": "rbac.authorization.k8s.io"}
            binding = {"metadata": metadata, "subjects": subjects, "roleRef": reference}
            self._ask("POST", f"{RBAC}{inside}/{kind.lower()}bindings", binding)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        host, port = self.address
        request = urllib.request.Request(
            f"https://{host}:{port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, context=self._tls, timeout=30) as reply:
            document: dict[str, Any] = json.load(reply)
        return document

    def ready(self) -> bool:
        host, port = self.address
        try:
            request = urllib.request.Request(
                f"https://{host}:{port}/readyz", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
            )
            with urllib.request.urlopen(request, context=self._tls, timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False


@contextmanager
def running_kube_apiserver(folder: Path) -> Iterator[KubeApiserver]:
    """One within this block, with an etcd of its own."""
    certificate, key, ca = server_certificate(folder)
    (folder / "tokens.csv").write_text(f"{TOKEN},peerd,peerd\n{ADMIN_TOKEN},admin,admin,system:masters\n")
    host, etcd_port, etcd_peer_port, port = "127.0.0.1", *(free_port() for _ in range(3))
    etcd_url, etcd_peer_url = f"http://{host}:{etcd_port}", f"http://{host}:{etcd_peer_port}"
    etcd = [
        "etcd",
        *("--data-dir", folder / "etcd"),
        *("--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url),
        *("--listen-peer-urls", etcd_peer_url, "--initial-advertise-peer-urls", etcd_peer_url),
        *("--initial-cluster", f"default={etcd_peer_url}"),
    ]
    server = [
        "kube-apiserver",
        *("--etcd-servers", etcd_url),
        *("--bind-address", host, "--advertise-address", "198.18.0.1", "--secure-port", str(port)),
        *("--tls-cert-file", certificate, "--tls-private-key-file", key),
        *("--token-auth-file", folder / "tokens.csv", "--authorization-mode", "RBAC"),
        *("--service-account-issuer", f"https://{host}:{port}"),
        *("--service-account-key-file", certificate, "--service-account-signing-key-file", key),
        *("--service-cluster-ip-range", "198.19.0.0/24", "--disable-admission-plugins", "ServiceAccount"),
    ]
    api = KubeApiserver((host, port), ca)
    with (
        running("etcd", etcd, folder / "etcd.log", ready=lambda: listens(host, etcd_port), package="etcd-server"),
        running("kube-apiserver", server, folder / "api.log", ready=api.ready, package="kube-apiserver"),
    ):
        api.grant()
        yield api
