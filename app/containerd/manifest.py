"""What a manifest or an index refers to (OCI image-spec, manifest.md and image-index.md; Docker schema 2 has the same shape).

Pure: bytes in, descriptors out. What can not be read refers to nothing: an image is never a reason to stop sharing others.
"""

import json
from dataclasses import dataclass
from typing import Any

from app.content.digest import Digest
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
        document = json.loads(data)
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
