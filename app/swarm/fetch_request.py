"""What a home is told of a chunk that it shall fetch: enough to ask upstream for it as the asker would.

The home works the content's key out by itself and takes nobody's word for it, so that no member can make another keep bytes
under a name that they do not have.
"""

import json
from dataclasses import dataclass
from typing import Any

from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.location import BlobInRegistry, FileAtUrl, Location
from app.content.source import Content, Stat
from app.content.validator import Validator
from app.errors import BadRequest


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What a home is told of the chunk that it shall fetch: enough to ask upstream for it as the asker would.

    `has_credential`: the asker's client sent one, so that it can fetch by itself where the home can not.
    """

    content: Content
    chunk: ByteRange
    hops: int
    has_credential: bool

    def to_json(self) -> bytes:
        """The document that is posted."""
        content, stat = self.content, self.content.stat
        return json.dumps(
            {
                "key": content.key.text,
                "digest": str(content.digest) if content.digest else None,
                "size": content.size,
                "media_type": stat.media_type,
                "validator": _write_validator(stat.validator),
                "ranged": stat.ranged,
                "last_modified": stat.last_modified,
                "location": _write_location(content.location),
                "chunk": [self.chunk.start, self.chunk.stop],
                "hops": self.hops,
                "has_credential": self.has_credential,
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "FetchRequest":
        """Raises ValueError where the document is not one, or its key is not that of its location."""
        try:
            fields: dict[str, Any] = json.loads(text)
            digest = Digest.parse(fields["digest"]) if fields["digest"] else None
            validator = Validator(**fields["validator"]) if fields["validator"] else None
            location = _read_location(fields["location"], digest)
            stat = Stat(
                int(fields["size"]), validator, fields["media_type"], bool(fields["ranged"]), fields["last_modified"]
            )
            request = cls(
                Content(_key_of(location, digest, validator), digest, int(fields["size"]), stat, location),
                ByteRange(*fields["chunk"]),
                int(fields["hops"]),
                bool(fields["has_credential"]),
            )
        except (TypeError, KeyError, AttributeError, BadRequest) as error:
            raise ValueError(f"not a request to fetch: {error}") from error
        if fields["key"] not in (request.content.key.text, str(digest)) or request.chunk.stop > request.content.size:
            raise ValueError("not a request to fetch: its key or chunk is not of its content")
        return request


def _key_of(location: Location, digest: Digest | None, validator: Validator | None) -> ContentKey:
    """The key under which the bytes of a location may be shared: worked out here, never taken from somebody's word."""
    if digest is not None:
        return ContentKey.of_unverified(digest, location.host)
    if isinstance(location, FileAtUrl) and validator is not None:
        return ContentKey.of_url(location.url, validator)
    raise ValueError("names neither a digest nor a version")


def _write_validator(validator: Validator | None) -> dict[str, Any] | None:
    if validator is None:
        return None
    return {"etag": validator.etag, "last_modified": validator.last_modified, "size": validator.size}


def _write_location(location: Location | None) -> dict[str, str] | None:
    if isinstance(location, BlobInRegistry):
        return {"registry": location.registry, "repository": location.repository}
    return {"url": location.url} if location is not None else None


def _read_location(fields: dict[str, str], digest: Digest | None) -> Location:
    if "url" in fields:
        return FileAtUrl(str(fields["url"]), digest)
    if digest is None:
        raise ValueError("a blob has a digest")
    return BlobInRegistry(str(fields["registry"]), str(fields["repository"]), digest)
