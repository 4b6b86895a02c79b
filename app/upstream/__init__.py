"""Where bytes come from when no member has them: OCI registries and ranged URLs. The only room that speaks to the outside.

Every request passes `guard`, which says who may be asked and hands out the addresses to connect to. Control calls (tokens,
manifests, the first look at a content) go over httpx on the loop; bytes go through threads with blocking connections.
"""

from app.upstream.config import RegistryNames, UpstreamConfig, normal_registry, normal_repository
from app.upstream.patience import Patience
from app.upstream.proxies import Proxies
from app.upstream.redact import redact
from app.upstream.source import UpstreamSource

__all__ = [
    "Patience",
    "Proxies",
    "RegistryNames",
    "UpstreamConfig",
    "UpstreamSource",
    "normal_registry",
    "normal_repository",
    "redact",
]
