"""Images for a registry in this process that counts what it sends, and that can be held back."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.client.manifest import INDEX_TYPES, MANIFEST_TYPES, Platform
from app.demo.image import Document, Image
from app.demo.registry import Registry
from tests.support.made import content

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "images.local"
MIB = 1 << 20


class GatedRegistry(Registry):
    """Sends bodies of blobs only while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self._open = threading.Event()
        self._open.set()
        self._waiting = threading.Event()
        self._of_this_answer = threading.local()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """No body of a layer ends within this block; each begins."""
        self._waiting.clear()
        self._open.clear()
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let all through from now on."""
        self._open.set()

    def wait_until_asked(self) -> None:
        """Until somebody waits before the gate."""
        assert self._waiting.wait(30), "nobody asked the registry for a layer"

    def requested(self, document: Document) -> None:
        super().requested(document)
        self._of_this_answer.sent = 0

    def sent(self, document: Document, count: int) -> None:
        super().sent(document, count)
        self._of_this_answer.sent += count
        # The beginning of each answer passes, and so does a probe of a byte, by which sizes are asked.
        if document.media_type == LAYER and self._of_this_answer.sent > 256 << 10 and not self._open.is_set():
            self._waiting.set()
            assert self._open.wait(60), "the gate was never opened"

    def copies_of(self, image: Image) -> float:
        """How often the layers of an image left, in bytes sent for bytes that there are; a probe of a byte does not count."""
        layers = [blob for blob in image.blobs if blob.media_type == LAYER]
        return round(sum(map(self.bytes_sent_of, layers)) / sum(len(layer.data) for layer in layers), 3)


def layer(seed: str, size: int = 3 * MIB) -> Document:
    """A layer that `seed` alone decides."""
    return Document.of(LAYER, content(seed, size))


def image(seed: str, layers: Sequence[Document], other_platform: Sequence[Document] = ()) -> Image:
    """An image of this machine's platform; `other_platform` are the layers of another one's in the same index."""
    here = Platform.here()
    other = Platform("linux", "s390x")
    own_manifest, own_blobs = _manifest(seed, here, layers)
    parts, blobs = [own_manifest.part(here)], list(own_blobs)
    if other_platform:
        manifest, more = _manifest(seed, other, other_platform)
        parts, blobs = [manifest.part(other), *parts], [*blobs, *more]
    index = Document.of_json(INDEX_TYPES[0], {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": parts})
    return Image(index, own_manifest, tuple(blobs))


def _manifest(seed: str, platform: Platform, layers: Sequence[Document]) -> tuple[Document, tuple[Document, ...]]:
    config = Document.of_json(CONFIG, {"architecture": platform.architecture, "os": platform.os, "comment": seed})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": config.part(),
        "layers": [one.part() for one in layers],
    }
    return Document.of_json(MANIFEST_TYPES[0], manifest), (config, *layers)
