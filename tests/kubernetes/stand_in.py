"""A stand-in for the API server: events, pods and nodes over TLS, with what a real one checks, and faults on order.

Each body is checked against Kubernetes' published OpenAPI (kubernetes-validate), with what that does not say beside it: names,
namespaces, versions. Where there is a real one, `test_api.py` holds the same
conversations with it, and `test_nodes.py` has a life told to it.
"""

import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

from tests.kubernetes.account import Account, server_certificate

VERSION = "1.37"
TOKEN = "a-token-of-this-pod"
NAMESPACE = "peerd-ns"
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PATH = re.compile(r"/api/v1/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<resource>events|pods|nodes)(?:/(?P<name>[^/]+))?$")
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Wrong(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class Orders:
    """What is to go wrong, until it is taken back. `lose_answers`: carried out, and then not answered."""

    forbidden: set[tuple[str, str]] = field(default_factory=set)
    status: int | None = None
    retry_after: int | None = None
    delay_seconds: float = 0.0
    lose_answers: bool = False


@dataclass
class Write:
    """One write that was carried out: the event as it was from then on, without the server's own marks."""

    verb: str
    event: dict[str, Any]


class StandIn:
    """One API server, which may go away and come back with what it kept."""

    def __init__(self, folder: Path) -> None:
        certificate, key, self.ca = server_certificate(folder)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._lock = threading.Lock()
        self._version = 100
        self.tokens = {TOKEN}
        self.orders = Orders()
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.writes: list[Write] = []
        self.asked: list[tuple[str, str, int]] = []
        """Every request: method, path, status."""
        self.address = ("127.0.0.1", 0)
        self._server: _Server | None = None

    def add(self, resource: str, name: str, *, namespace: str = "", **metadata: Any) -> None:
        """A pod or a node."""
        self._version += 1
        kind = {"pods": "Pod", "nodes": "Node"}[resource]
        document = {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "resourceVersion": str(self._version), **metadata},
            "spec": {},
        }
        self.objects[resource, namespace, name] = document

    def account(self, folder: Path, token: str = TOKEN) -> Account:
        """A pod's, in this folder."""
        return Account.at(folder, self.address, token=token, ca=self.ca, namespace=NAMESPACE)

    def add_pod(self, name: str) -> str:
        """A pod; returns its uid."""
        uid = str(uuid.uuid4())
        self.add("pods", name, namespace=NAMESPACE, uid=uid)
        return uid

    def add_node(self, name: str, labels: dict[str, str]) -> None:
        self.add("nodes", name, labels=labels)

    def forget_event(self, name: str) -> None:
        """As after the hour for which events are kept."""
        del self.objects["events", NAMESPACE, name]

    def touch_event(self, name: str) -> None:
        """Somebody else changes it."""
        with self._lock:
            self._patch(NAMESPACE, name, {"metadata": {"labels": {"seen": "yes"}}})

    def events_of(self, pod: str) -> list[dict[str, Any]]:
        """The events that are kept about a pod, in the order of their last change."""
        with self._lock:
            found = [one for one in self.objects.values() if one.get("involvedObject", {}).get("name") == pod]
            return sorted(deepcopy(found), key=lambda one: int(one["metadata"]["resourceVersion"]))

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        """Answering within this block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        self._server = _Server(self, self.address, self._tls)
        self.address = self._server.server_address[:2]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="api server").start()

    def stop(self) -> None:
        """Away: nobody listens, and who is connected is cut off."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    # What it answers

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Raises Wrong."""
        if self.orders.status is not None:
            raise Wrong(self.orders.status, "Ordered", "the test wants it")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token not in self.tokens:
            raise Wrong(401, "Unauthorized", "Unauthorized")
        found = PATH.match(path)
        if found is None:
            raise Wrong(404, "NotFound", "the server could not find the requested resource")
        verb = {"POST": "create", "PATCH": "patch", "GET": "get"}.get(method, method)
        resource, namespace, name = found["resource"], found["namespace"] or "", found["name"]
        if (verb, resource) in self.orders.forbidden or namespace not in ("", NAMESPACE):
            raise Wrong(403, "Forbidden", f'{resource} is forbidden: User "peerd" cannot {verb} resource "{resource}"')
        with self._lock:
            match verb, resource, name:
                case "create", "events", None:
                    return 201, self._create(namespace, self._parsed(headers, body, "application/json"))
                case "patch", "events", str():
                    return 200, self._patch(
                        namespace, name, self._parsed(headers, body, "application/merge-patch+json")
                    )
                case "get", "pods" | "nodes", str():
                    return 200, self._seen(headers, self._found(resource, namespace, name))
        raise Wrong(405, "MethodNotAllowed", f"{method} is not for {path}")

    def _parsed(self, headers: dict[str, str], body: bytes, media_type: str) -> dict[str, Any]:
        if headers.get("content-type") != media_type:
            raise Wrong(415, "UnsupportedMediaType", f"{headers.get('content-type')} is not {media_type}")
        try:
            document = json.loads(body)
        except ValueError as error:
            raise Wrong(400, "BadRequest", str(error)) from error
        assert isinstance(document, dict)
        return document

    def _found(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        try:
            return self.objects[resource, namespace, name]
        except KeyError:
            raise Wrong(404, "NotFound", f'{resource} "{name}" not found') from None

    @staticmethod
    def _seen(headers: dict[str, str], document: dict[str, Any]) -> dict[str, Any]:
        if not headers.get("accept", "").startswith(PARTIAL):
            return document
        return {
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": document["metadata"],
        }

    def _create(self, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
        self._check(namespace, document)
        name = document["metadata"]["name"]
        if ("events", namespace, name) in self.objects:
            raise Wrong(409, "AlreadyExists", f'events "{name}" already exists')
        return self._kept("create", namespace, document)

    def _patch(self, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        before = self._found("events", namespace, name)
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise Wrong(
                409, "Conflict", f'Operation cannot be fulfilled on events "{name}": the object has been modified'
            )
        after = _merged(deepcopy(before), patch)
        self._check(namespace, after)
        return self._kept("patch", namespace, after)

    def _kept(self, verb: str, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
        self.writes.append(Write(verb, deepcopy(document)))
        self._version += 1
        document["metadata"]["resourceVersion"] = str(self._version)
        self.objects["events", namespace, document["metadata"]["name"]] = document
        return document

    @staticmethod
    def _check(namespace: str, document: dict[str, Any]) -> None:
        """As the API server's decoding, and its ValidateEventCreate for core/v1 without eventTime."""
        try:
            kubernetes_validate.validate(document, VERSION, strict=True)
        except jsonschema.ValidationError as error:
            raise Wrong(400, "BadRequest", error.message) from error
        if document["kind"] != "Event" or document["metadata"].get("namespace", namespace) != namespace:
            raise Wrong(400, "BadRequest", "the namespace of the object does not match that of the request")
        if document["involvedObject"].get("namespace") != namespace:
            raise Wrong(422, "Invalid", "involvedObject.namespace: does not match event.namespace")
        if not DNS_SUBDOMAIN.match(document["metadata"].get("name", "")):
            raise Wrong(422, "Invalid", f"metadata.name: {document['metadata'].get('name')!r} is no DNS subdomain")


def _merged(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A merge patch (RFC 7396, section 2)."""
    for key, value in patch.items():
        if value is None:
            document.pop(key, None)
        elif isinstance(value, dict):
            document[key] = _merged(dict(document.get(key) or {}), value)
        else:
            document[key] = value
    return document


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, api: StandIn, address: tuple[str, int], tls: ssl.SSLContext) -> None:
        self.api = api
        self.tls = tls
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):  # it may be closed by now
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or was cut off, is no trouble of the server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.server.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.connections.discard(self.request)
        self.request.close()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        api = self.server.api
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        time.sleep(api.orders.delay_seconds)
        try:
            status, document = api.answer(self.command, self.path, headers, body)
        except Wrong as wrong:
            status = wrong.status
            document = {
                "apiVersion": "v1",
                "kind": "Status",
                "status": "Failure",
                "reason": wrong.reason,
                "message": str(wrong),
                "code": status,
            }
        api.asked.append((self.command, self.path, status))
        if api.orders.lose_answers:
            self.close_connection = True
            return
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if api.orders.retry_after is not None:
            self.send_header("Retry-After", str(api.orders.retry_after))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """The test shows what it wants to."""
