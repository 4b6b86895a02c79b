"""Where a client's request says that a content is. Values only; `upstream` knows how to ask there.

Credentials that a client sent unasked travel in here, in memory only, and are kept out of `repr`.
"""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.content.digest import Digest


@dataclass(frozen=True, slots=True)
class BlobInRegistry:
    """A blob of an OCI registry. `registry` is its name as clients write it: `docker.io`, `ghcr.io`, `host:5000`."""

    registry: str
    repository: str
    digest: Digest
    authorization: str | None = field(default=None, repr=False, compare=False)

    @property
    def host(self) -> str:
        """The upstream whose readers share unverified parts."""
        return self.registry

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class ManifestInRegistry:
    """A manifest or an image index, by tag or by digest."""

    registry: str
    repository: str
    reference: Digest | str
    authorization: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        separator = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.registry}/{self.repository}{separator}{self.reference}"


@dataclass(frozen=True, slots=True)
class FileAtUrl:
    """A file behind an `http` or `https` URL, kept byte for byte: a changed escape breaks a signature."""

    url: str = field(repr=False)
    digest: Digest | None = None
    authorization: str | None = field(default=None, repr=False, compare=False)

    @property
    def host(self) -> str:
        """The upstream whose readers share unverified parts."""
        return urlsplit(self.url).netloc

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}" + ("?…" if parts.query else "")


Location = BlobInRegistry | FileAtUrl


def same_access(one: Location | None, other: Location | None) -> bool:
    """Whether upstream can not but answer both alike: the same place, asked with the same credential."""
    if one is None or other is None:
        return one is other
    return one == other and one.authorization == other.authorization
