"""Events as Kubernetes writes them (core/v1 Event, OpenAPI of Kubernetes 1.37). Pure."""

from datetime import UTC, datetime
from typing import Any

from app.kubernetes.ledger import Post
from app.kubernetes.lifecycle import Occurrence, Reason
from app.kubernetes.pod import Pod

COMPONENT = "peerd"
MESSAGE_CHARACTERS_MAX = 1024
"""As the newer events API has it (ValidateEventCreate); longer ones are cut."""

_SENTENCES = {
    Reason.INITIALIZING: "P2P proxy is initializing on instance",
    Reason.CONNECTED: "P2P proxy is connected to cluster on instance",
    Reason.ACTIVE: "P2P proxy is active on instance",
    Reason.DISCONNECTED: "P2P proxy is disconnected from cluster on instance",
    Reason.FAILED: "P2P proxy failed on instance",
}
"""Azure/peerd's, each followed by the pod's name (pkg/k8s/events/events.go); here what is so in particular comes after it."""


def message(occurrence: Occurrence, pod: Pod) -> str:
    """What people read."""
    text = f"{_SENTENCES[occurrence.reason]} {pod.name}"
    if occurrence.detail:
        text += f": {occurrence.detail}"
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else f"{text[: MESSAGE_CHARACTERS_MAX - 1]}…"


def created(post: Post, pod: Pod) -> dict[str, Any]:
    """The body of a creation."""
    about = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": pod.namespace}
    if pod.uid:
        about["uid"] = pod.uid
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": pod.event_name(post.name), "namespace": pod.namespace},
        "involvedObject": about,
        "reason": str(post.occurrence.reason),
        "message": message(post.occurrence, pod),
        "type": post.occurrence.kind,
        "count": post.count,
        "firstTimestamp": _time(post.first),
        "lastTimestamp": _time(post.last),
        "source": {"component": COMPONENT, "host": pod.node},
        "reportingComponent": COMPONENT,
        "reportingInstance": pod.name,
    }


def patched(post: Post, pod: Pod) -> dict[str, Any]:
    """What a merge patch (RFC 7396) changes of an event; with a version it is refused where the event has another."""
    body: dict[str, Any] = {
        "message": message(post.occurrence, pod),
        "type": post.occurrence.kind,
        "count": post.count,
        "lastTimestamp": _time(post.last),
    }
    if post.version is not None:
        body["metadata"] = {"resourceVersion": post.version}
    return body


def _time(when: datetime) -> str:
    """metav1.Time: RFC 3339 to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
