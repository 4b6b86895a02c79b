"""A cluster in small: an API server, two nodes that run what it says, and one that is lost.

Nodes are hosts of their own (network namespaces), so each pod has the addresses and ports that the chart's defaults name. What
a pod's container is, runs: `peerd` itself, and the chart's Jobs.
"""

import http.client
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.containerd.network import Host, network
from tests.helm.api_server import ADMINISTRATOR, DAEMON_SET_STATUS, ApiServer
from tests.helm.chart import Document, helm_program
from tests.helm.kubelet import Node
from tests.support.program import Program

LOST = "node-lost"
_SECONDS = 120.0


class Cluster:
    """DaemonSets and Jobs of the API server, carried out.

    Args:
        lost: nodes that are known and not there.
    """

    def __init__(self, folder: Path, api: ApiServer, hosts: dict[str, Host], lost: Sequence[str]) -> None:
        self.api = api
        self.hosts = hosts
        self.programs: dict[str, Program] = {}
        self.logs: dict[str, str] = {}
        self._folder = folder
        self._lost = lost
        # Threads that stay: a program is killed when the thread that started it ends (PR_SET_PDEATHSIG of prctl(2)).
        self._controllers = {kind: ThreadPoolExecutor(1) for kind in ("DaemonSet", "Job")}
        self._ending = ThreadPoolExecutor(len(hosts))
        self._work: list[Future[None]] = []
        self._kubeconfig = api.kubeconfig(folder / "kubeconfig", ADMINISTRATOR)
        self._names = folder / "hosts"
        members = "".join(f"{host.address} peerd-members.peerd-ns.svc\n" for host in hosts.values())
        self._names.write_text(f"127.0.0.1 localhost\n{members}")
        for name in (*hosts, *lost):
            ready = str(name in hosts)
            api.put(_object("v1", "Node", name), status={"conditions": [{"type": "Ready", "status": ready}]})
        api.changed = self._changed
        api.execute = self._execute
        api.log_of = lambda pod, container: self.logs.get(f"{pod} {container}", "")

    def helm(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """One command of Helm's in this cluster; fails when it fails, or anything that was carried out meanwhile."""
        run = self.run(helm_program(), *words)
        assert run.returncode == 0, f"{run.stderr}\n{self.logs}"
        return run

    def run(self, *command: str | Path, folder: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command of an administrator's, and what follows from it in the cluster."""
        run = subprocess.run(
            command,
            check=False,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env={"HOME": str(self._folder), "KUBECONFIG": str(self._kubeconfig), **environ},
        )
        while self._work:
            self._work.pop().result(_SECONDS)
        return run

    def node(self, name: str) -> Node:
        """A node, with the objects that there are now."""
        documents = [*self.api.all("secrets", namespace="peerd-ns"), *self.api.all("configmaps", namespace="peerd-ns")]
        return Node(name, self.hosts[name].address, self._folder / name, documents)

    def mirror_files(self, name: str) -> dict[str, str]:
        """containerd's files of a node, by registry."""
        folder = self.node(name).path("/etc/containerd/certs.d")
        return {path.parent.name: path.read_text() for path in folder.glob("*/hosts.toml")}

    def execute(self, name: str, *command: str) -> str:
        """What a command says that is run beside peerd on a node, as by `kubectl exec`."""
        return self._execute(f"peerd-{name}", list(command))[0].decode()

    def _execute(self, pod: str, command: list[str]) -> tuple[bytes, bytes, int]:
        daemon_set_name, _, node = pod.partition("-")
        (daemon_set,) = self.api.all("daemonsets", selectors={"metadata.name": daemon_set_name})
        words: list[str | Path] = [*self.node(node).process(daemon_set, "peerd").beside(*command)]
        run = subprocess.run(self.hosts[node].command(*words), check=False, capture_output=True, timeout=_SECONDS)
        return run.stdout, run.stderr, run.returncode

    def ask(self, name: str, url: str) -> tuple[int, Any]:
        """Status and JSON body (None for another body) of a GET from that node."""
        return self.hosts[name].inside(lambda: _get(url))

    def end(self) -> None:
        """Stop all that runs."""
        for program in self.programs.values():
            program.end()
        self.programs.clear()
        for threads in (*self._controllers.values(), self._ending):
            threads.shutdown()

    def _changed(self, verb: str, document: Document) -> None:
        act = {"DaemonSet": self._daemon_set, "Job": self._job}.get(document["kind"])
        if act is not None:
            self._work.append(self._controllers[document["kind"]].submit(act, verb, document))

    def _daemon_set(self, verb: str, document: Document) -> None:
        name, labels = document["metadata"]["name"], document["spec"]["template"]["metadata"]["labels"]
        if verb == "delete":
            if name == "peerd":
                # Each node has a kubelet of its own: they end at the same time.
                ended = [(node, self._ending.submit(program.end)) for node, program in self.programs.items()]
                for node, end in ended:
                    assert end.result() == 0
                    del self.programs[node]
            for node in self.hosts:
                self.api.drop(("pods", "peerd-ns", f"{name}-{node}"))
            return
        desired = len(self.hosts) + len(self._lost)
        status = {**DAEMON_SET_STATUS, "observedGeneration": 1, "desiredNumberScheduled": desired}
        self.api.put(document, status=status)
        ready = 0
        for node in (*self.hosts, *self._lost):
            pod = _object("v1", "Pod", f"{name}-{node}", namespace="peerd-ns", labels=labels)
            template = document["spec"]["template"]["spec"]
            pod["spec"] = {**template, "nodeName": node}
            self.api.put(pod, status={"conditions": [{"type": "Ready", "status": "False"}]})
            if node in self.hosts and self._start(node, document):
                ready += 1
                self.api.put(pod, status={"conditions": [{"type": "Ready", "status": "True"}]})
        counts = dict.fromkeys(("currentNumberScheduled", "updatedNumberScheduled"), desired)
        counts |= dict.fromkeys(("numberReady", "numberAvailable"), ready)
        self.api.put(document, status={**status, **counts})

    def _start(self, node: str, document: Document) -> bool:
        """What a kubelet does for a pod, until it is ready; False when an init container fails."""
        if node in self.programs and document["metadata"]["name"] == "peerd":
            assert self.programs.pop(node).end() == 0  # the older release's
        pod = f"{document['metadata']['name']}-{node}"
        for container, run in self.node(node).prepare(document, self.hosts[node]):
            self.logs[f"{pod} {container}"] = run.stderr
            if run.returncode != 0:
                return False
        (container,) = document["spec"]["template"]["spec"]["containers"]
        if container["name"] != "peerd":
            return True
        words = self.node(node).process(document, "peerd").words
        # The cluster's DNS is a file here; it is this process' alone.
        named = ["unshare", "--mount", "sh", "-c", f'mount --bind {self._names} /etc/hosts && exec "$@"', "sh"]
        program = Program(
            f"peerd of {node}",
            self.hosts[node].command(*named, *words),
            self._folder / f"{node}.log",
            ready=lambda: self.probe(node, "readiness", document),
        )
        self.programs[node] = program
        program.wait_until_ready()
        return True

    def probe(self, node: str, kind: str, document: Document) -> bool:
        """As a kubelet asks, from the node's own network."""
        (container,) = document["spec"]["template"]["spec"]["containers"]
        asked = container[f"{kind}Probe"]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        host = asked.get("host", self.hosts[node].address)
        try:
            return self.ask(node, f"http://{host}:{ports[asked['port']]}{asked['path']}")[0] == 200
        except OSError:
            return False

    def _job(self, verb: str, document: Document) -> None:
        if verb != "create":
            return
        pod = document["spec"]["template"]["spec"]
        account = pod["serviceAccountName"]
        kubeconfig = self.api.kubeconfig(
            self._folder / f"{account}.kubeconfig", f"system:serviceaccount:peerd-ns:{account}"
        )
        process = self.node(next(iter(self.hosts))).process(document, pod["containers"][0]["name"])
        process = replace(process, environment={**process.environment, "KUBECONFIG": str(kubeconfig)})
        run = subprocess.run(process.words, check=False, capture_output=True, text=True, timeout=_SECONDS)
        self.logs[document["metadata"]["name"]] = run.stderr
        kind = "Complete" if run.returncode == 0 else "Failed"
        self.api.put(document, status={"conditions": [{"type": kind, "status": "True", "message": run.stderr[-500:]}]})


@contextmanager
def running_cluster(folder: Path, *, lost: Sequence[str] = (LOST,)) -> Iterator[Cluster]:
    """A cluster within this block."""
    with ExitStack() as stack:
        net = stack.enter_context(network())
        api = stack.enter_context(ApiServer().running())
        cluster = Cluster(folder, api, {f"node-{number}": net.host(number) for number in (1, 2)}, lost)
        stack.callback(cluster.end)
        yield cluster


def _object(version: str, kind: str, name: str, **metadata: Any) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}}


def _get(url: str) -> tuple[int, Any]:
    match = re.fullmatch(r"http://([^/:]+):(\d+)(/.*)", url)
    assert match is not None
    connection = http.client.HTTPConnection(match[1], int(match[2]), timeout=5)
    try:
        connection.request("GET", match[3])
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(body) if is_json else None


def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it comes to hold within that time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
