"""The API server, as a pod asks it: two resources, by the official client's ApiClient.

Its generated classes of the core API are left out: they are most of the memory that the client takes, and three paths are soon written
out. Calls block; whoever calls has a thread for it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader

from app import __version__
from app.kubernetes.document import created, patched
from app.kubernetes.ledger import Answer, Changed, Exists, Gone, Invalid, Post, Refused, Told, Unavailable
from app.kubernetes.pod import SERVICE_ACCOUNT, Pod

CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
EVENTS = "/api/v1/namespaces/{namespace}/events"
ZONE_LABEL = "topology.kubernetes.io/zone"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""A node's object names every image that it has; its metadata are enough (API concepts, Metadata-only fetches)."""

_TAKES_MEANING = (400, 405, 406, 413, 415, 422)
"""Statuses by which the server says that a request is wrong as it stands."""


class NoAccount(Exception):
    """The pod has no service account that the API server could know it by."""


class ApiServer:
    """The API server of the cluster that this pod runs in. Threads may share it, but that one alone sends.

    Raises NoAccount when the environment or the service account's files are not there.
    """

    def __init__(self, environ: Mapping[str, str], pod: Pod, *, account: Path = SERVICE_ACCOUNT) -> None:
        # Never through a proxy: it is in the cluster, and no_proxy seldom names it by its address.
        configuration = Configuration(proxy="", no_proxy="*", retries=False)
        try:
            # A token lives for an hour or so and is written anew by the kubelet: the loader reads it again each minute.
            loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
                token_filename=str(account / "token"), cert_filename=str(account / "ca.crt"), environ=environ
            )
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise NoAccount(str(error)) from error
        self._client = ApiClient(configuration)
        self._client.user_agent = f"peerd/{__version__}"
        self._pod = pod

    def send(self, post: Post) -> Answer:
        """One attempt to tell an event. Takes seconds at most, network; never raises."""
        try:
            if self._pod.uid is None:
                self._pod = replace(self._pod, uid=self._uid())
            if post.exists:
                status, document = self._ask(
                    "PATCH",
                    f"{EVENTS}/{{name}}",
                    {"namespace": self._pod.namespace, "name": self._pod.event_name(post.name)},
                    patched(post, self._pod),
                    {"Content-Type": "application/merge-patch+json"},
                )
            else:
                status, document = self._ask(
                    "POST",
                    EVENTS,
                    {"namespace": self._pod.namespace},
                    created(post, self._pod),
                    {"Content-Type": "application/json"},
                )
        except _Unreachable as error:
            return Unavailable(str(error), error.after)
        return _answer(post, status, document)

    def zone_of_node(self) -> str | None:
        """The label of the pod's node; None: it has none.

        Raises:
            LookupError: it can not be read, which may change.
            PermissionError: the server does not let this pod read it, or knows no such node.
        """
        try:
            status, document = self._ask("GET", "/api/v1/nodes/{name}", {"name": self._pod.node})
        except _Unreachable as error:
            raise LookupError(str(error)) from error
        if status != 200:
            raise PermissionError(_why(status, document))
        labels = document.get("metadata", {}).get("labels") or {}
        return labels.get(ZONE_LABEL) or None

    def _uid(self) -> str:
        """The pod's uid; empty where this pod may not know it, which costs the events their place in `kubectl describe`."""
        path = "/api/v1/namespaces/{namespace}/pods/{name}"
        status, document = self._ask("GET", path, {"namespace": self._pod.namespace, "name": self._pod.name})
        return str(document.get("metadata", {}).get("uid", "")) if status == 200 else ""

    def _ask(
        self,
        method: str,
        path: str,
        place: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and document. Raises _Unreachable where asking again may help."""
        accept = {"Accept": METADATA_ONLY if method == "GET" else "application/json"}
        try:
            request = self._client.param_serialize(
                method,
                path,
                path_params=dict(place),
                header_params={**accept, **(headers or {})},
                body=body,
                auth_settings=["BearerToken"],
            )
            reply = self._client.call_api(*request, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            text: bytes = reply.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, ApiException, ConfigException, OSError) as error:
            raise _Unreachable(f"{type(error).__name__}: {error}") from error
        document = _document(text)
        if reply.status in (401, 408, 429) or reply.status >= 500:
            raise _Unreachable(_why(reply.status, document), after=_seconds(reply.headers.get("Retry-After")))
        if reply.status < 300 and not document:
            raise _Unreachable(f"{reply.status}, and what follows is not JSON")
        return reply.status, document


class _Unreachable(Exception):
    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


def _answer(post: Post, status: int, document: Mapping[str, Any]) -> Answer:
    why = _why(status, document)
    match status:
        case 200 | 201:
            return Told(document.get("metadata", {}).get("resourceVersion"))
        case 409:
            return Changed() if post.exists else Exists()
        case 404 if post.exists:
            return Gone()
        case _ if status in _TAKES_MEANING:
            return Invalid(why)
        case _:
            return Refused(why)


def _why(status: int, document: Mapping[str, Any]) -> str:
    """What the server says: the message of its Status document."""
    return f"{status} {document.get('message', '')}".strip()


def _document(text: bytes) -> dict[str, Any]:
    """Empty where it is no JSON object, as what a proxy says of itself."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; the API server gives no dates."""
    return float(text) if text is not None and text.isdecimal() and len(text) < 9 else None
