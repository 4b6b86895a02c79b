"""Images that nobody has seen before: OCI images whose layers are tar files of random bytes.

Owns: making them (image-spec 1.1: "Image Configuration", "Image Manifest", "Image Index"). Random bytes do not compress and
do not repeat, so what a table says of bytes is what went over the wire.
"""

import io
import json
import os
import tarfile
from dataclasses import dataclass, field

from app.client.manifest import INDEX_TYPES, MANIFEST_TYPES, Part, Platform
from app.content.digest import Digest

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
# Shares of the layers in an image: one big, a few middling, as in the images that people build.
_LAYER_SHARES = (24, 16, 12, 8, 4)


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes with their media type, as a registry gives them."""

    media_type: str
    data: bytes = field(repr=False)
    digest: Digest

    @classmethod
    def of(cls, media_type: str, data: bytes) -> "Document":
        """With the digest that `data` has."""
        return cls(media_type, data, Digest.of(data))

    @classmethod
    def of_json(cls, media_type: str, document: object) -> "Document":
        """The JSON text of `document`."""
        return cls.of(media_type, json.dumps(document).encode())

    def part(self, platform: Platform | None = None) -> dict[str, object]:
        """Its descriptor."""
        return Part(self.media_type, self.digest, len(self.data), platform).document()


@dataclass(frozen=True, slots=True)
class Image:
    """One image for one platform, behind an index."""

    index: Document
    manifest: Document
    blobs: tuple[Document, ...]

    @property
    def size(self) -> int:
        """Bytes that one pull moves."""
        return sum(len(one.data) for one in (self.index, self.manifest, *self.blobs))


def make_image(size: int, platform: Platform) -> Image:
    """An image whose layers have `size` bytes of random content in all."""
    layers = [
        Document.of(_LAYER_TYPE, _tar(f"data/{number}.bin", os.urandom(size * share // sum(_LAYER_SHARES))))
        for number, share in enumerate(_LAYER_SHARES)
    ]
    diff_ids = [str(layer.digest) for layer in layers]  # of the uncompressed layer, and these are not compressed
    config = Document.of_json(
        _CONFIG_TYPE,
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        },
    )
    manifest = Document.of_json(
        MANIFEST_TYPES[0],
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPES[0],
            "config": config.part(),
            "layers": [layer.part() for layer in layers],
        },
    )
    index = Document.of_json(
        INDEX_TYPES[0],
        {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [manifest.part(platform)]},
    )
    return Image(index, manifest, (config, *layers))


def _tar(name: str, data: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()
