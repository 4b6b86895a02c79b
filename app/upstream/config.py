"""What the options say of upstreams: this room's slice of the settings.

Owns: the meaning of `--registry`, `--hosts` and `--default-registry` for where a registry is reached and who may be asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import BadRequest, PeerdError, UpstreamForbidden
from app.upstream.guard import HostPattern, Policy
from app.upstream.proxies import Proxies
from app.upstream.url import UpstreamUrl

# Docker Hub's name and where it really is (distribution/reference, normalize.go; containerd, RegistryHost defaults).
DOCKER_HUB = "docker.io"
_DOCKER_HUB_URL = "https://registry-1.docker.io"
_DOCKER_HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """Options about upstreams.

    Attributes:
        registries: `--registry NAME=URL`, by name.
        auth_file: `--registry-auth`.
        allow: `--upstream-allow`.
        deny_unlisted: `--upstream-deny-unlisted`.
        ca: `--upstream-ca`.
        hosts: `--hosts`, each a name or a URL; with any (but `_default`) set, other registries are not asked.
        default_registry: `--default-registry`, which `hosts` does not shut out.
        proxies: `Proxies.from_environment(os.environ)`.
    """

    registries: Mapping[str, str] = field(default_factory=dict)
    auth_file: Path | None = None
    allow: tuple[str, ...] = ()
    deny_unlisted: bool = False
    ca: Path | None = None
    hosts: tuple[str, ...] = ()
    default_registry: str | None = None
    proxies: Proxies = field(default_factory=Proxies)


class RegistryNames:
    """Where registries are reached, by the name that clients use. Raises ValueError for options that can not be meant."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._bases = {
            normal_registry(name): _option_url(url, f"--registry {name}") for name, url in config.registries.items()
        }
        mirrored = [_without_scheme(host) for host in config.hosts]
        defaults = [config.default_registry] if config.default_registry else []
        listed = {normal_registry(name) for name in (*mirrored, *config.registries, *defaults)}
        self._listed = frozenset(listed - {"_default"})
        self._only = self._listed if mirrored and "_default" not in mirrored else None
        self._named = frozenset(self._named_by(config))

    def base(self, registry: str) -> UpstreamUrl:
        """The URL below which `registry` has its `/v2/`. Memory only.

        Raises:
            UpstreamForbidden: `--hosts` names others.
            BadRequest: that is no registry's name.
        """
        name = normal_registry(registry)
        if self._only is not None and name not in self._only:
            raise UpstreamForbidden(f"{name[:128]} is not one of the registries that --hosts names", reason="host")
        if name in self._bases:
            return self._bases[name]
        if name == DOCKER_HUB:
            return UpstreamUrl.parse(_DOCKER_HUB_URL)
        url = UpstreamUrl.parse(f"https://{name}")
        if url.target != "/" or url.netloc != name:
            raise BadRequest(f"{name[:128]!r} is no registry's name; one looks like ghcr.io or localhost:5000")
        return url

    def named(self) -> frozenset[tuple[str, int]]:
        """Hosts and ports that options name, and that are therefore allowed as they stand."""
        return self._named

    def listed(self) -> frozenset[str]:
        """The registries that options name, as `normal_registry` spells them."""
        return self._listed

    def netlocs(self) -> frozenset[str]:
        """Hosts of `--registry`, as they are written in URLs, for `app.content.url_digest`."""
        return frozenset(url.netloc.lower() for url in self._bases.values())

    def _named_by(self, config: UpstreamConfig) -> Iterator[tuple[str, int]]:
        for url in self._bases.values():
            yield url.origin.host, url.origin.port
        for host in config.hosts:
            if _without_scheme(host) == "_default":
                continue
            url = _option_url(host if "://" in host else f"https://{host}", "--hosts")
            yield url.origin.host, url.origin.port
            if normal_registry(_without_scheme(host)) == DOCKER_HUB:
                hub = UpstreamUrl.parse(_DOCKER_HUB_URL)
                yield hub.origin.host, hub.origin.port


def policy(config: UpstreamConfig, names: RegistryNames) -> Policy:
    """Who may be asked, by these options; raises ValueError for a glob that is none."""
    return Policy(
        allow=tuple(HostPattern.parse(pattern) for pattern in config.allow),
        named=names.named(),
        deny_unlisted=config.deny_unlisted,
    )


def normal_registry(name: str) -> str:
    """One name for each registry: lower case, Docker Hub's aliases as `docker.io`."""
    lower = name.lower()
    return DOCKER_HUB if lower in _DOCKER_HUB_ALIASES else lower


def normal_repository(registry: str, repository: str) -> str:
    """Docker Hub's official images are below `library/`, which people leave out (distribution/reference)."""
    if normal_registry(registry) == DOCKER_HUB and "/" not in repository:
        return f"library/{repository}"
    return repository


def _without_scheme(host: str) -> str:
    return host.partition("://")[2].rstrip("/") if "://" in host else host.rstrip("/")


def _option_url(text: str, option: str) -> UpstreamUrl:
    try:
        return UpstreamUrl.parse(text)
    except PeerdError as error:
        raise ValueError(f"{option}: {text!r} can not be asked: {error}") from error
