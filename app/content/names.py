"""What names stand for: a tag for a digest, a URL for one version of a file.

Owns: the table of what names stood for when upstream was last asked, kept on disk so that it outlives a restart. A name is
kept by its hash only: a URL's path may say more than its owner wants to lie in a file.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from app.content.digest import Digest
from app.content.key import canonical_url
from app.content.layout import Layout, write_whole
from app.content.validator import Validator
from app.errors import BadRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Name:
    """A tag or a URL, as members speak of it: its sha-256, in hexadecimal."""

    identity: str

    @classmethod
    def of_tag(cls, registry: str, repository: str, tag: str) -> Self:
        """`registry/repository:tag`."""
        return cls(hashlib.sha256(f"tag:{registry}/{repository}:{tag}".encode()).hexdigest())

    @classmethod
    def of_url(cls, url: str) -> Self:
        """A URL without what only signs it."""
        return cls(hashlib.sha256(f"url:{canonical_url(url)}".encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for.

    Attributes:
        digest: of the manifest that a tag names; None for a URL.
        size: in bytes; None where upstream does not say.
        validator: which version of a URL; None for a tag, or where upstream gives none.
        ranged: whether upstream honours `Range`.
        seen_at: when upstream said so, in seconds since the epoch; 0 for what a member said.
    """

    size: int | None
    digest: Digest | None = None
    media_type: str | None = None
    validator: Validator | None = None
    last_modified: str | None = None
    ranged: bool = True
    seen_at: float = field(default=0.0, compare=False)

    def to_json(self) -> str:
        """As kept on disk and as members tell each other."""
        return json.dumps({**asdict(self), "digest": str(self.digest) if self.digest else None})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError where the text is not that of a resolution."""
        try:
            fields: dict[str, Any] = json.loads(text)
            fields["digest"] = Digest.parse(fields["digest"]) if fields["digest"] else None
            fields["validator"] = Validator(**fields["validator"]) if fields["validator"] else None
            found = cls(**fields)
        except (TypeError, KeyError, AttributeError, BadRequest) as error:
            raise ValueError(f"not a resolution: {error}") from error
        if found.size is not None and (not isinstance(found.size, int) or found.size < 0):
            raise ValueError(f"not a resolution: size {found.size!r}")
        return found


class NameTable:
    """Names and what they stood for, on disk."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def get(self, name: Name) -> Resolution | None:
        """What `name` stood for, if that is known here."""
        with contextlib.suppress(OSError, ValueError):
            return Resolution.from_json(self._layout.name(name.identity).read_text())
        return None

    def put(self, name: Name, resolution: Resolution) -> None:
        """Remember; a disk that takes nothing is no error, the name is only not known after a restart."""
        try:
            write_whole(self._layout.name(name.identity), resolution.to_json())
        except OSError as error:
            log.warning("what a name stands for could not be kept: %s", error)

    def forget(self, name: Name) -> bool:
        """Returns whether it was known."""
        try:
            self._layout.name(name.identity).unlink()
        except OSError:
            return False
        return True

    def __iter__(self) -> Iterator[Name]:
        for path in self._layout.names():
            yield Name(path.stem)
