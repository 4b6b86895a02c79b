"""OCI images of a few bytes, as archives that `ctr images import` takes (OCI image-spec, image-layout.md)."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.content.digest import Digest
from tests.support import made

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class OciImage:
    """An image for this machine's platform, inside an index that names a foreign one as well.

    Attributes:
        blobs: all that is really there, by digest.
        target: digest of the index.
        manifest: digest of the manifest of this platform.
        layers: digests of its layers.
        foreign: digest of a manifest that the index names and nobody has.
    """

    blobs: dict[Digest, bytes]
    target: Digest
    manifest: Digest
    config: Digest
    layers: list[Digest]
    foreign: Digest
    media_types: dict[Digest, str] = field(default_factory=dict)

    @property
    def digests(self) -> set[Digest]:
        return set(self.blobs)

    def save(self, path: Path, *names: str) -> Path:
        """Write an archive that gives the image each of these names."""
        manifests = [
            {**self._descriptor(self.target), "annotations": {"io.containerd.image.name": name}} for name in names
        ]
        files = {f"blobs/sha256/{digest.hex}": data for digest, data in self.blobs.items()}
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return path

    def publish(self, storage: Path, repository: str, tag: str) -> None:
        """Put the image into the folder of a docker-registry (distribution, registry/storage/paths.go)."""
        root = storage / "docker/registry/v2"
        home = root / "repositories" / repository
        links = {f"_layers/sha256/{digest.hex}": digest for digest in self.blobs}
        links |= {f"_manifests/revisions/sha256/{digest.hex}": digest for digest in (self.target, self.manifest)}
        links |= {f"_manifests/tags/{tag}/index/sha256/{self.target.hex}": self.target}
        links |= {f"_manifests/tags/{tag}/current": self.target}
        for digest, data in self.blobs.items():
            _write(root / "blobs/sha256" / digest.hex[:2] / digest.hex / "data", data)
        for place, digest in links.items():
            _write(home / place / "link", str(digest).encode())

    def _descriptor(self, digest: Digest) -> dict[str, object]:
        return {"mediaType": self.media_types[digest], "digest": str(digest), "size": len(self.blobs[digest])}


def build_image(*, seed: object = 0, layers: int = 2, layer_size: int = 20_000) -> OciImage:
    """An image whose layers hold a file of `layer_size` random bytes each. The same seed gives the same image."""
    return image_of([random_layer(f"{seed}/{number}", layer_size) for number in range(layers)], label=str(seed))


def random_layer(seed: str, size: int) -> bytes:
    """A layer with one file of `size` bytes that `seed` alone decides."""
    return layer({f"file-{seed.replace('/', '-')}": made.content(seed, size)})


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer as a tar archive of programs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def image_of(layers: Sequence[bytes], *, label: str) -> OciImage:
    """An image of these layers; they are packed without being compressed, which costs no time."""
    image = OciImage({}, *[Digest("sha256", "0" * 64)] * 3, [], Digest.of(b"foreign"))
    diff_ids = []

    def add(data: bytes, media_type: str) -> Digest:
        digest = Digest.of(data)
        image.blobs[digest] = data
        image.media_types[digest] = media_type
        return digest

    for tar in layers:
        diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        image.layers.append(add(gzip.compress(tar, compresslevel=0, mtime=0), LAYER))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {"Labels": {"label": label}},
    }
    image.config = add(json.dumps(config).encode(), CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": image._descriptor(image.config),
        "layers": [image._descriptor(layer) for layer in image.layers],
    }
    image.manifest = add(json.dumps(manifest).encode(), MANIFEST)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {**image._descriptor(image.manifest), "platform": {"architecture": "amd64", "os": "linux"}},
            {
                "mediaType": MANIFEST,
                "digest": str(image.foreign),
                "size": 7,
                "platform": {"architecture": "s390x", "os": "linux"},
            },
        ],
    }
    image.target = add(json.dumps(index).encode(), INDEX)
    return image


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
