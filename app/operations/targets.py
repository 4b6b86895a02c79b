"""What people name when they ask for an operation: an image, a file behind a URL, or a content by its key.

Owns: telling these apart, and how each is shown again. A URL is never shown with its query, which may sign it.
"""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from app.client.reference import ImageReference, is_url
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.location import ManifestInRegistry
from app.content.names import Name
from app.errors import BadRequest

_URL_LENGTH_MAX = 16 << 10
_URL_KEY = re.compile(r"url:[0-9a-f]{64}")
_UNSENDABLE = re.compile(r"[^\x21-\x7e]")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a registry, by tag, by digest, or by both: then the tag is only a name."""

    reference: ImageReference

    @property
    def registry(self) -> str:
        """Its registry, as the mirror's names have it."""
        return self.reference.registry.lower()

    @property
    def name(self) -> Name | None:
        """Under which the table of names knows its tag."""
        if self.reference.tag is None:
            return None
        return Name.of_tag(self.registry, self.reference.repository, self.reference.tag)

    @property
    def location(self) -> ManifestInRegistry:
        """Where upstream has it."""
        return self.at(self.reference.digest or self.reference.tag or "latest")

    def at(self, version: Digest | str) -> ManifestInRegistry:
        """Another manifest of its repository."""
        return ManifestInRegistry(self.registry, self.reference.repository, version)

    def __str__(self) -> str:
        return str(self.reference)


@dataclass(frozen=True, slots=True)
class File:
    """A file behind an `http` or `https` URL, kept byte for byte."""

    url: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadRequest."""
        if len(text) > _URL_LENGTH_MAX or _UNSENDABLE.search(text):
            raise BadRequest(f"a URL has at most {_URL_LENGTH_MAX} characters, all printable; escape others with %")
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise BadRequest(f"the URL can not be parsed: {error}") from None
        if not host:
            raise BadRequest("the URL names no host; right would be https://host/path")
        return cls(text)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" + ("?…" if parts.query else "")


Reference = Image | File
Target = Reference | ContentKey


def parse_reference(text: str) -> Reference:
    """What can be brought onto a node; raises BadRequest."""
    if text.startswith(("sha256:", "sha512:")):
        raise BadRequest(
            f"{text[:140]!r} begins as a digest does, but a digest does not say whose; right would be name@digest"
        )
    return File.parse(text) if is_url(text) else Image(ImageReference.parse(text))


def parse_target(text: str) -> Target:
    """What can be forgotten: a reference, or a key as `/api/v1/contents` shows it; raises BadRequest."""
    if _URL_KEY.fullmatch(text):
        return ContentKey(text)
    if not text.startswith(("sha256:", "sha512:")):
        return parse_reference(text)
    digest, at, host = text.partition("@")
    proved = Digest.parse(digest)
    return ContentKey.of_unverified(proved, host) if at else ContentKey.of_digest(proved)
