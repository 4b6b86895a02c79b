"""Who asks for what, as a keyed hash: the only form in which a credential is remembered.

The key is made at the start and never leaves the process, so what is remembered tells nothing to who reads the memory of an
earlier life, and can not be tried against a list of passwords without the key.
"""

import hmac
import json
import secrets
from dataclasses import dataclass, field

from app.content.location import BlobInRegistry, FileAtUrl, ManifestInRegistry
from app.upstream import normal_registry, normal_repository


@dataclass(frozen=True, slots=True)
class Seal:
    """Makes 32 bytes of a content's place and a client's credential."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def of(self, location: BlobInRegistry | ManifestInRegistry | FileAtUrl) -> bytes:
        """The same for the same place asked with the same `Authorization`; of a URL, the query that may sign it included."""
        # JSON, so that no two lists of parts read alike.
        parts = json.dumps([*_place(location), location.authorization])
        return hmac.digest(self.secret, parts.encode(), "sha256")


def _place(location: BlobInRegistry | ManifestInRegistry | FileAtUrl) -> list[str]:
    if isinstance(location, FileAtUrl):
        return ["file", location.url]
    what, reference = (
        ("manifest", location.reference) if isinstance(location, ManifestInRegistry) else ("blob", location.digest)
    )
    repository = normal_repository(location.registry, location.repository)
    return [what, normal_registry(location.registry), repository, str(reference)]
