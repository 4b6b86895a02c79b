r"""Names of repositories, tags and registries, as the distribution specification writes them.

    <name>      [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
    <tag>       [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}

(distribution-spec, Pull, Pulling manifests.)
"""

import re

from app.content.digest import Digest
from app.errors import BadRequest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_REGISTRY = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_NAME_LENGTH_MAX = 255


def repository(text: str) -> str:
    """`text`, if it names a repository; raises BadRequest."""
    if len(text) > _NAME_LENGTH_MAX or not _NAME.fullmatch(text):
        raise BadRequest(
            f"{text[:_NAME_LENGTH_MAX]!r} is no repository name: lower case, as in library/alpine", code="NAME_INVALID"
        )
    return text


def tag_or_digest(text: str) -> Digest | str:
    """A tag, or a digest; raises BadRequest."""
    if ":" in text:
        return Digest.parse(text)
    if not _TAG.fullmatch(text):
        raise BadRequest(f"{text[:136]!r} is neither a tag nor a digest", code="MANIFEST_INVALID")
    return text


def registry(text: str) -> str:
    """A registry's name, `host` or `host:port`; raises BadRequest."""
    if not _REGISTRY.fullmatch(text):
        raise BadRequest(f"ns={text[:136]!r} is no registry: a host name, with a port if need be", code="NAME_INVALID")
    return text.lower()
