"""What a manifest or an index refers to (OCI image-spec, manifest.md and image-index.md; Docker schema 2 has the same shape).

Pure: bytes in, descriptors out. What can not be read refers to nothing: an image is never a reason to stop sharing others.

`KnownSizes` remembers how long blobs are by the manifests that were read lately, so that nobody has to ask upstream for it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.content.digest import Digest
from app.content.json_text import parsed
from app.errors import BadRequest

_INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_MANIFEST_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)

MANIFEST_SIZE_BYTES_MAX = 8 << 20
"""Larger ones are shared, but not read. containerd itself refuses to parse more (`images.Children`, 8 MiB)."""


@dataclass(frozen=True, slots=True)
class BlobDescriptor:
    """What a manifest says of a blob (OCI image-spec, descriptor.md). `size` in bytes."""

    media_type: str
    digest: Digest
    size: int


def refers(descriptor: BlobDescriptor) -> bool:
    """Whether this blob is a manifest or an index that is small enough to be read."""
    return descriptor.media_type in _INDEX_TYPES | _MANIFEST_TYPES and descriptor.size <= MANIFEST_SIZE_BYTES_MAX


def children(media_type: str, data: bytes) -> tuple[BlobDescriptor, ...]:
    """Manifests of an index, or configuration and layers of a manifest, in their order; empty for what is neither."""
    try:
        document = parsed(data)
    except ValueError:
        return ()
    if not isinstance(document, dict):
        return ()
    if media_type in _INDEX_TYPES:
        entries = document.get("manifests")
    elif media_type in _MANIFEST_TYPES:
        layers = document.get("layers")
        entries = [document.get("config"), *(layers if isinstance(layers, list) else ())]
    else:
        return ()
    if not isinstance(entries, list):
        return ()
    return tuple(found for entry in entries if (found := _descriptor(entry)) is not None)


def _descriptor(entry: Any) -> BlobDescriptor | None:
    match entry:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if size >= 0:
            try:
                return BlobDescriptor(media_type, Digest.parse(digest), size)
            except BadRequest:
                return None
    return None


SIZES_MAX = 20_000


class KnownSizes:
    """Sizes of blobs in bytes, by repository and digest.

    By repository, because whoever writes a manifest may write what he likes of other people's blobs.
    """

    def __init__(self) -> None:
        self._sizes: OrderedDict[tuple[str, str, Digest], int] = OrderedDict()

    def learn(self, registry: str, repository: str, descriptors: Iterable[BlobDescriptor]) -> None:
        """A manifest of this repository says so."""
        for one in descriptors:
            self._sizes[registry, repository, one.digest] = one.size
            self._sizes.move_to_end((registry, repository, one.digest))
        while len(self._sizes) > SIZES_MAX:
            self._sizes.popitem(last=False)

    def get(self, registry: str, repository: str, digest: Digest) -> int | None:
        """How long a blob is, if a manifest said so."""
        return self._sizes.get((registry, repository, digest))
