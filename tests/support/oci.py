"""OCI images made in a few lines, with layers of any size (OCI image-spec, image-layout.md)."""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.support import made

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Image:
    """An image index in a layout on disk."""

    layout: Path
    tag: str
    index: str
    layers: Sequence[str]

    @property
    def blobs(self) -> dict[str, int]:
        """Every blob's size, by digest."""
        return blobs_of(self.layout)


def blobs_of(layout: Path) -> dict[str, int]:
    """What a layout holds: sizes by digest, as the names of the files say."""
    return {f"sha256:{path.name}": path.stat().st_size for path in (layout / "blobs/sha256").iterdir()}


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def make_image(layout: Path, layers: Mapping[str, Sequence[int]], *, tag: str = "1") -> Image:
    """An index with a platform for each of `layers`: architecture to the sizes of its layers' files in bytes."""
    writer = _Writer(layout)
    platforms = []
    for architecture, sizes in layers.items():
        described = [writer.layer(f"{layout.name}/{architecture}/{n}", size) for n, size in enumerate(sizes)]
        config = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in described]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": writer.document(config, CONFIG),
            "layers": [layer for layer, _ in described],
        }
        platform = {"platform": {"architecture": architecture, "os": "linux"}}
        platforms.append({**writer.document(manifest, MANIFEST), **platform})
    index = writer.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": platforms}, INDEX)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    named = {**index, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return Image(layout, tag, str(index["digest"]), writer.layers)


class _Writer:
    def __init__(self, layout: Path) -> None:
        self._blobs = layout / "blobs/sha256"
        self._blobs.mkdir(parents=True)
        self.layers: list[str] = []

    def document(self, value: object, media_type: str) -> dict[str, object]:
        data = json.dumps(value).encode()
        hexadecimal = hashlib.sha256(data).hexdigest()
        (self._blobs / hexadecimal).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{hexadecimal}", "size": len(data)}

    def layer(self, seed: str, size: int) -> tuple[dict[str, object], str]:
        """A layer that holds one file, and the digest of its tar archive. Gzip without compression: it costs no time."""
        whole, unpacked = hashlib.sha256(), hashlib.sha256()
        packer = zlib.compressobj(0, wbits=31)
        path = self._blobs / "being-made"
        with path.open("wb") as file:
            for piece in _tar(size, seed):
                unpacked.update(piece)
                packed = packer.compress(piece)
                whole.update(packed)
                file.write(packed)
            packed = packer.flush()
            whole.update(packed)
            file.write(packed)
        path.rename(self._blobs / whole.hexdigest())
        digest = f"sha256:{whole.hexdigest()}"
        self.layers.append(digest)
        described = {"mediaType": LAYER, "digest": digest, "size": (self._blobs / whole.hexdigest()).stat().st_size}
        return described, f"sha256:{unpacked.hexdigest()}"


def _tar(size: int, seed: str) -> Iterator[bytes]:
    entry = tarfile.TarInfo("data")
    entry.size = size
    return chain([entry.tobuf()], made.pieces(seed, size), [bytes(-size % 512 + 1024)])
