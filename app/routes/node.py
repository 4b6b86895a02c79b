"""What the routes need of a node; `main` builds it, FastAPI's state carries it."""

from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from app.consent import ConsentedLibrary, ConsentedManifests
from app.content.cache import ChunkCache
from app.content.library import Library
from app.content.manifests import Manifests
from app.observability.copies import Copies
from app.observability.metrics import Metrics
from app.observability.recent_errors import RecentErrors
from app.observability.transfers import Transfers
from app.operations.loads import Loads
from app.operations.preheat import Preheats
from app.operations.purge import Purges
from app.routes.plans import Plans
from app.server.certificates import Certificates
from app.settings import Settings
from peerd_gossip import Gossip


@dataclass(slots=True)
class Node:
    """One running node, as its routes see it. `gossip` None: it runs alone."""

    settings: Settings
    version: str
    cache: ChunkCache
    library: Library | ConsentedLibrary
    manifests: Manifests | ConsentedManifests
    purges: Purges
    preheats: Preheats
    copies: Copies
    loads: Loads
    recent_errors: RecentErrors
    transfers: Transfers
    plans: Plans
    metrics: Metrics
    gossip: Gossip | None
    certificates: Certificates | None
    registry_hosts: frozenset[str]
    started_at: float
    state: Literal["starting", "ready", "draining"]
    doors: dict[str, str | None]


def node_of(request: Request) -> Node:
    """The node that a request came to."""
    node: Node = request.app.state.node
    return node
