"""What names stand for: a tag for a digest, a URL for one version of a file.

Owns: the table of what names stood for when upstream was last asked, kept on disk so that it outlives a restart. A name is
kept by its hash only: a URL's path may say more than its owner wants to lie in a file.
"""

import contextlib
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from app.content.digest import Digest
from app.content.json_text import parsed
from app.content.key import canonical_url
from app.content.layout import Layout, read_whole, write_whole
from app.content.validator import Validator
from app.errors import BadRequest

log = logging.getLogger(__name__)

NAMES_MAX = 20_000
"""What was asked for longest ago is forgotten beyond that. A file of about 300 bytes each, and 200 bytes of memory."""


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
            fields: dict[str, Any] = parsed(text)
            fields["digest"] = Digest.parse(fields["digest"]) if fields["digest"] else None
            fields["validator"] = Validator(**fields["validator"]) if fields["validator"] else None
            found = cls(**fields)
        except (TypeError, KeyError, AttributeError, BadRequest) as error:
            raise ValueError(f"not a resolution: {error}") from error
        if not found._is_sensible():
            raise ValueError(f"not a resolution: {text[:200]!r}")
        return found

    def _is_sensible(self) -> bool:
        """Whether each part is of its type; a member may have sent anything."""
        validator = self.validator or Validator(None, None, None)
        texts = (self.media_type, self.last_modified, validator.etag, validator.last_modified)
        return (
            all(text is None or (isinstance(text, str) and text.isprintable()) for text in texts)
            and all(size is None or (type(size) is int and size >= 0) for size in (self.size, validator.size))
            and isinstance(self.ranged, bool)
            and isinstance(self.seen_at, int | float)
        )


class NameTable:
    """Names and what they stood for, on disk. At most `limit` of them."""

    def __init__(self, layout: Layout, *, limit: int = NAMES_MAX) -> None:
        self._layout = layout
        self._limit = limit
        by_age = sorted(layout.names(), key=lambda path: path.stat().st_mtime)
        self._oldest_first: OrderedDict[str, None] = OrderedDict((path.stem, None) for path in by_age)

    def get(self, name: Name) -> Resolution | None:
        """What `name` stood for, if that is known here."""
        if name.identity in self._oldest_first:
            with contextlib.suppress(OSError, ValueError):
                return Resolution.from_json(read_whole(self._layout.name(name.identity)))
        return None

    def put(self, name: Name, resolution: Resolution) -> list[Name]:
        """Remember; returns the names that were forgotten for it.

        A disk that takes nothing is no error: the name is only not remembered.
        """
        try:
            write_whole(self._layout.name(name.identity), resolution.to_json())
        except OSError as error:
            log.warning("what a name stands for could not be kept: %s", error)
            return []
        self._oldest_first[name.identity] = None
        self._oldest_first.move_to_end(name.identity)
        forgotten = []
        while len(self._oldest_first) > self._limit:
            oldest = Name(next(iter(self._oldest_first)))
            self.forget(oldest)
            forgotten.append(oldest)
        return forgotten

    def forget(self, name: Name) -> bool:
        """Returns whether it was known."""
        if name.identity not in self._oldest_first:
            return False
        del self._oldest_first[name.identity]
        with contextlib.suppress(OSError):
            self._layout.name(name.identity).unlink()
        return True

    def __len__(self) -> int:
        return len(self._oldest_first)

    def __iter__(self) -> Iterator[Name]:
        for identity in list(self._oldest_first):
            yield Name(identity)
