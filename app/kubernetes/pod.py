"""Which pod this node is: what the downward API and the service account say. Nothing is asked of a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts token, CA and namespace (Kubernetes, Tasks, Accessing the API from a Pod)."""

NAME_CHARACTERS_MAX = 253
"""Of a DNS subdomain (Kubernetes, Concepts, Object Names and IDs)."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The object that events are about. `uid` None: it has to be asked for."""

    name: str
    namespace: str
    uid: str | None
    node: str

    def event_name(self, suffix: str) -> str:
        """The name of an event's object: the pod's and a suffix, as client-go has it; at most 253 characters, as any name."""
        return f"{self.name[: NAME_CHARACTERS_MAX - 1 - len(suffix)].rstrip('.-')}.{suffix}"


def pod_of(environ: Mapping[str, str], *, node_name: str, host_name: str, account: Path = SERVICE_ACCOUNT) -> Pod:
    """The pod by POD_NAME, POD_NAMESPACE, POD_UID and NODE_NAME; what is not set is found where Kubernetes puts it.

    The host name is the pod's name only in a network of its own: with the host's network POD_NAME has to be set.

    Raises:
        OSError: there is no POD_NAMESPACE, nor the file that has it.
    """
    return Pod(
        name=environ.get("POD_NAME") or host_name,
        namespace=environ.get("POD_NAMESPACE") or (account / "namespace").read_text().strip(),
        uid=environ.get("POD_UID") or None,
        node=environ.get("NODE_NAME") or node_name,
    )
