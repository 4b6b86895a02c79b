"""What Kubernetes is told of a node, and what is asked of it: events on the pod, and the zone. See docs/operations.md, Events.

Nothing here is needed to serve. Outside a cluster nothing of it happens, and the client library is not even loaded.
"""

from app.kubernetes.reporting import Reports, reporting

__all__ = ["Reports", "reporting"]
