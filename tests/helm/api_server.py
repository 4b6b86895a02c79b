"""As much of the Kubernetes API as Helm, kubectl and the chart's Jobs ask of it, in memory.

No API server is packaged for the machines that tests run on. This one keeps objects, makes lists and streams of changes of
them, and grants requests of service accounts what roles that are stored in it say. It validates nothing: that is done against
Kubernetes' own schemas in test_rendering.py.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.helm import protobuf, streams
from tests.helm.chart import Document
from tests.helm.patches import patched

ADMINISTRATOR = ""
"""Who shows no token. Helm shows none where there is no TLS; the Jobs' client does."""
_RESOURCES = {
    "v1": ["namespaces", "nodes", "pods", "secrets", "configmaps", "services", "serviceaccounts", "events"],
    "apps/v1": ["daemonsets"],
    "batch/v1": ["jobs"],
    "rbac.authorization.k8s.io/v1": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
}
_KINDS = {
    "namespaces": "Namespace",
    "nodes": "Node",
    "pods": "Pod",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "services": "Service",
    "serviceaccounts": "ServiceAccount",
    "events": "Event",
    "daemonsets": "DaemonSet",
    "jobs": "Job",
    "roles": "Role",
    "rolebindings": "RoleBinding",
    "clusterroles": "ClusterRole",
    "clusterrolebindings": "ClusterRoleBinding",
}
_CLUSTER_WIDE = {"namespaces", "nodes", "clusterroles", "clusterrolebindings"}
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/v1))(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>log|exec)(?=$))?"
)
DAEMON_SET_STATUS = dict.fromkeys(
    ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"), 0
)
"""Before a controller has seen it."""
_WATCH_SECONDS = 60.0
_POLL_SECONDS = 0.05

Key = tuple[str, str, str]
"""Resource, namespace (empty for what has none), name."""


class ApiServer:
    """Objects, and who is told of them.

    Attributes:
        changed: called with a verb (`create`, `update`, `delete`) and the object, after each change by a request.
        requests: who, verb and path of all that was granted, in order.
        refused: who, verb and key of what was not.
        execute: output, errors and exit code of a command in a pod.
        log_of: the log of a pod's container.
    """

    def __init__(self) -> None:
        self.changed: Callable[[str, Document], None] = lambda verb, document: None
        self.requests: list[tuple[str, str, str]] = []
        self.refused: list[tuple[str, str, Key]] = []
        self.execute: Callable[[str, list[str]], tuple[bytes, bytes, int]] = lambda pod, command: (b"", b"no pod", 126)
        self.log_of: Callable[[str, str], str] = lambda pod, container: ""
        self.url = ""
        self._objects: dict[Key, Document] = {}
        self._version = 1
        self._lock = threading.RLock()

    @contextmanager
    def running(self) -> Iterator["ApiServer"]:
        """Answer on a free port of loopback within this block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def kubeconfig(self, path: Path, user: str) -> Path:
        """A file with which a client is that user; `system:serviceaccount:<namespace>:<name>` is a service account."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": user}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def put(self, document: Document, **changes: Any) -> None:
        """Store an object, as a controller would, with fields such as `status` replaced."""
        with self._lock:
            self._version += 1
            document = {**document, **changes}
            document["metadata"] = {"uid": f"uid-{self._version}", "generation": 1, **document["metadata"]}
            document["metadata"]["resourceVersion"] = str(self._version)
            self._objects[_key_of(document)] = document

    def drop(self, key: Key) -> Document | None:
        """Remove an object; None when it is not there."""
        with self._lock:
            return self._objects.pop(key, None)

    def get(self, key: Key) -> Document | None:
        """An object."""
        with self._lock:
            return self._objects.get(key)

    def all(self, resource: str, *, namespace: str = "", selectors: dict[str, str] | None = None) -> list[Document]:
        """Objects of a kind, those that have these labels and fields."""
        with self._lock:
            return [
                document
                for (kind, where, _), document in self._objects.items()
                if kind == resource
                and namespace in ("", where)
                and _selected_by(document).items() >= (selectors or {}).items()
            ]

    def keys(self) -> set[Key]:
        """Of everything that is stored."""
        with self._lock:
            return set(self._objects)

    def allows(self, user: str, verb: str, group: str, key: Key) -> bool:
        """Whether a role that is bound to a service account says so (Kubernetes, "Using RBAC Authorization")."""
        if user == ADMINISTRATOR:
            return True
        resource, namespace, name = key
        bindings = [*self.all("rolebindings", namespace=namespace or "-"), *self.all("clusterrolebindings")]
        for binding in bindings:
            subjects = [f"system:serviceaccount:{one['namespace']}:{one['name']}" for one in binding["subjects"]]
            kind = "roles" if binding["roleRef"]["kind"] == "Role" else "clusterroles"
            role = self.get((kind, namespace if kind == "roles" else "", binding["roleRef"]["name"]))
            for rule in role["rules"] if role and user in subjects else []:
                named = rule.get("resourceNames")
                if (
                    verb in rule["verbs"]
                    and group in rule["apiGroups"]
                    and resource in rule["resources"]
                    and (not named or name in named)
                ):
                    return True
        return False


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/openapi/v2":
            # An empty description, in its binary form: Helm validates nothing against what is not described.
            self._send(200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", b"")
        elif answer := _discovery(parts.path):
            self._answer(200, answer)
        elif (parsed := self._parsed()) is not None:
            group, key = parsed
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            if part := parts.path.partition(f"/pods/{key[2]}/")[2]:
                self._part(part, group, key, parse_qs(parts.query))
                return
            verb = "get" if key[2] else "watch" if query.get("watch") in ("1", "true") else "list"
            if not self._granted(verb, group, key):
                return
            if verb == "get":
                document = self.api.get(key)
                self._answer(200, document) if document else self._fail(404, f"{key} not found", "NotFound")
            elif verb == "watch":
                self._stream(key, query)
            else:
                items = self.api.all(key[0], namespace=key[1], selectors=_selectors(query))
                self._answer(200, _page(group, key, items, query))

    def do_POST(self) -> None:
        document = self._body()
        parsed = self._parsed()
        if parsed is None:
            return
        group, key = parsed
        key = (key[0], key[1], document["metadata"]["name"])
        if not self._granted("create", group, key):
            return
        if self.api.get(key):
            self._fail(409, f"{key} exists", "AlreadyExists")
            return
        if key[1]:
            document["metadata"]["namespace"] = key[1]
        self.api.put(document, **({"status": DAEMON_SET_STATUS} if document["kind"] == "DaemonSet" else {}))
        self._answer(201, document)
        self.api.changed("create", document)

    def do_PUT(self) -> None:
        document = self._body()
        parsed = self._parsed()
        if parsed is None or not self._granted("update", *parsed):
            return
        _, key = parsed
        if key[1]:
            document["metadata"]["namespace"] = key[1]
        old = self.api.get(key)
        self.api.put(document, **({"status": old["status"]} if old and "status" in old else {}))
        self._answer(200, document)
        self.api.changed("update", document)

    def do_PATCH(self) -> None:
        patch = self._body()
        parsed = self._parsed()
        if parsed is None or not self._granted("patch", *parsed):
            return
        old = self.api.get(parsed[1])
        if old is None:
            self._fail(404, f"{parsed[1]} not found", "NotFound")
            return
        document = patched(old, patch, self.headers["Content-Type"])
        self.api.put(document)
        self._answer(200, document)
        self.api.changed("update", document)

    def do_DELETE(self) -> None:
        self._body()
        parsed = self._parsed()
        if parsed is None or not self._granted("delete", *parsed):
            return
        document = self.api.drop(parsed[1])
        if document is None:
            self._fail(404, f"{parsed[1]} not found", "NotFound")
            return
        self._answer(200, {"apiVersion": "v1", "kind": "Status", "status": "Success"})
        self.api.changed("delete", document)

    def _part(self, part: str, group: str, key: Key, query: dict[str, list[str]]) -> None:
        """A pod's log, or what a command says that is run in it."""
        if not self._granted("get", group, (f"{key[0]}/{part}", *key[1:])):
            return
        if part == "log":
            self._send(200, "text/plain", self.api.log_of(key[2], query["container"][-1]).encode())
            return
        self.send_response(101)
        for name, value in streams.accepting(self.headers).items():
            self.send_header(name, value)
        self.end_headers()
        for frame in streams.frames(*self.api.execute(key[2], query["command"])):
            self.wfile.write(frame)
        self.close_connection = True

    def _parsed(self) -> tuple[str, Key] | None:
        match = _PATH.fullmatch(urlsplit(self.path).path)
        if match is None or match["resource"] not in _KINDS:
            self._fail(404, f"{self.path} is not known here", "NotFound")
            return None
        group = (match["group"] or "").rpartition("/")[0]
        return group, (match["resource"], match["namespace"] or "", match["name"] or "")

    def _granted(self, verb: str, group: str, key: Key) -> bool:
        user = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.api.allows(user, verb, group, key):
            self.api.requests.append((user, verb, urlsplit(self.path).path))
            return True
        self.api.refused.append((user, verb, key))
        self._fail(403, f"{user} may not {verb} {key}", "Forbidden")
        return False

    def _stream(self, key: Key, query: dict[str, str]) -> None:
        """Each object as it is now, and again whenever it changed (Kubernetes, "Efficient detection of changes")."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        seen: dict[str, str] = {}
        deadline = time.monotonic() + _WATCH_SECONDS
        try:
            while time.monotonic() < deadline:
                for document in self.api.all(key[0], namespace=key[1], selectors=_selectors(query)):
                    name, version = document["metadata"]["name"], document["metadata"]["resourceVersion"]
                    if seen.get(name) != version:
                        event = {"type": "MODIFIED" if name in seen else "ADDED", "object": document}
                        self.wfile.write(json.dumps(event).encode() + b"\n")
                        seen[name] = version
                time.sleep(_POLL_SECONDS)
        except OSError:
            pass  # the client has seen enough
        self.close_connection = True

    def _body(self) -> Document:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body.startswith(protobuf.MAGIC):
            return protobuf.secret(body)
        document: Document = json.loads(body or b"{}")
        return document

    def _answer(self, status: int, document: Document) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: int, message: str, reason: str) -> None:
        document = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": reason}
        self._answer(status, {**document, "code": status})

    def log_message(self, *_: Any) -> None:
        """What was asked is in `requests`."""


def _key_of(document: Document) -> Key:
    resource = next(name for name, kind in _KINDS.items() if kind == document["kind"])
    namespace = "" if resource in _CLUSTER_WIDE else document["metadata"]["namespace"]
    return resource, namespace, document["metadata"]["name"]


def _selected_by(document: Document) -> dict[str, str]:
    """Labels, and the fields that an object can be selected by."""
    fields = {"metadata.name": document["metadata"]["name"]}
    if document["kind"] == "Event":
        fields |= {"reason": document["reason"], "involvedObject.kind": document["involvedObject"]["kind"]}
    return {**fields, **document["metadata"].get("labels", {})}


def _page(group: str, key: Key, items: list[Document], query: dict[str, str]) -> Document:
    """A list, or the part of it that was asked for (Kubernetes, "Retrieving large results sets in chunks")."""
    start = int(query.get("continue", 0))
    stop = start + int(query.get("limit", 0) or len(items))
    following = {"continue": str(stop)} if stop < len(items) else {}
    return {
        "apiVersion": f"{group}/v1".strip("/"),
        "kind": f"{_KINDS[key[0]]}List",
        "metadata": {"resourceVersion": "1", **following},
        "items": items[start:stop],
    }


def _selectors(query: dict[str, str]) -> dict[str, str]:
    """`a=b,c=d` of labels and fields."""
    texts = [text for name in ("labelSelector", "fieldSelector") for text in query.get(name, "").split(",") if text]
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _discovery(path: str) -> Document | None:
    """What there is (Kubernetes, "Discovery API", the unaggregated form)."""
    if path == "/version":
        return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = []
        for version in _RESOURCES:
            if "/" in version:
                preferred = {"groupVersion": version, "version": "v1"}
                groups.append(
                    {"name": version.partition("/")[0], "versions": [preferred], "preferredVersion": preferred}
                )
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version in _RESOURCES:
        resources = [
            {
                "name": name,
                "singularName": "",
                "kind": _KINDS[name],
                "namespaced": name not in _CLUSTER_WIDE,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            }
            for name in _RESOURCES[version]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
    return None
