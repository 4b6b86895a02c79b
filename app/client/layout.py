"""An OCI image layout on disk (image-spec, "Image Layout Specification").

oci-layout                      {"imageLayoutVersion": "1.0.0"}
index.json                      what images there are, by name
blobs/<algorithm>/<hex>         every document and layer
"""

import json
import threading
from pathlib import Path
from typing import Any

from app.client.manifest import INDEX_TYPES, NotAnImage, Part
from app.client.reference import ImageReference
from app.client.sinks import IntoFile
from app.content.digest import Digest

_REF_NAME = "org.opencontainers.image.ref.name"


class OciLayout:
    """A folder that is, or becomes, an OCI layout; images that are in it already stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.mkdir(parents=True, exist_ok=True)
        marker = path / "oci-layout"
        if not marker.exists() and any(path.iterdir()):
            raise NotAnImage(f"{path} holds other files and is no OCI layout; name an empty folder")
        marker.write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob_sink(self, digest: Digest) -> IntoFile:
        """Where a blob's bytes go; it is there once the block has ended well."""
        return IntoFile(self._blob(digest))

    def write_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a small document."""
        self._blob(digest).write_bytes(data)

    def add(self, part: Part, reference: ImageReference) -> None:
        """Name what is there whole: under its tag, as skopeo does, in place of an older one of that name."""
        entry = part.document()
        if reference.tag:
            entry["annotations"] = {_REF_NAME: reference.tag}
        with self._lock:
            others = [other for other in self._entries() if not _same(other, entry)]
            document = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [*others, entry]}
            with IntoFile(self._path / "index.json") as file:
                file.write(memoryview(json.dumps(document, indent=2).encode()))

    def _entries(self) -> list[dict[str, Any]]:
        path = self._path / "index.json"
        if not path.exists():
            return []
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")).get("manifests", [])
        return entries

    def _blob(self, digest: Digest) -> Path:
        path = self._path / "blobs" / digest.algorithm / digest.hex
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    name = other.get("annotations", {}).get(_REF_NAME)
    if name is None:
        return bool(one["digest"] == other["digest"])
    return bool(one.get("annotations", {}).get(_REF_NAME) == name)
