"""Image references as people type them.

Owns: the docker-style text form (distribution/reference, grammar in reference.go) and its normal form.

    reference  := name [ ":" tag ] [ "@" digest ]
    name       := [ domain "/" ] path-component [ "/" path-component ]*
    tag        := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from app.content.digest import Digest
from app.errors import BadRequest

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DOCKER_HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in a registry. With a digest, the tag is only a name for people."""

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`alpine` is `docker.io/library/alpine:latest`; raises BadRequest."""
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        # A colon after the last slash begins a tag; one before it belongs to the domain's port.
        colon = rest.rfind(":")
        tag = rest[colon + 1 :] if colon > rest.rfind("/") else None
        registry, repository = _split_domain(rest if tag is None else rest[:colon])
        if not _PATH.fullmatch(repository) or not _DOMAIN.fullmatch(registry):
            raise BadRequest(
                f"{text[:200]!r} is no image reference; right would be alpine, ghcr.io/org/app:tag or host:5000/app@sha256:…",
                code="NAME_INVALID",
            )
        if tag is not None and not _TAG.fullmatch(tag):
            raise BadRequest(f"{tag[:200]!r} can not be a tag of an image", code="TAG_INVALID")
        return cls(registry, repository, "latest" if tag is None and digest is None else tag, digest)

    @property
    def version(self) -> str:
        """What stands behind `/manifests/`: the digest, where there is one."""
        return str(self.digest or self.tag)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _split_domain(name: str) -> tuple[str, str]:
    """Registry and repository; without a domain it is Docker Hub, whose official images stand under `library/`."""
    first, slash, rest = name.partition("/")
    if not slash or not (first == "localhost" or any(sign in first for sign in ".:") or first != first.lower()):
        first, rest = _DOCKER_HUB, name
    if first == "index.docker.io":
        first = _DOCKER_HUB
    if first == _DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest


def is_url(text: str) -> bool:
    """Whether the text means a URL, not an image."""
    return text.startswith(("http://", "https://"))
