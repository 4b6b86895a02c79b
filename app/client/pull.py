"""An image or a file through a node, whole and verified.

Owns: what is fetched in which order and where it is kept: index, manifest, then configuration and layers, several at once.
"""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from app.client.fetch import Fetched, Sink, Wanted, Watcher, fetch
from app.client.layout import OciLayout
from app.client.manifest import ACCEPT, Index, Manifest, NotAnImage, Part, Platform, read_document
from app.client.node import Node
from app.client.reference import ImageReference
from app.client.sinks import InMemory, IntoFile, Nowhere
from app.errors import DigestMismatch, PeerdError

_MANIFEST_BYTES_MAX: Final = 4 * 2**20  # distribution-spec, "Pushing Manifests": at least so much must be accepted
_INDEX_DEPTH_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of one reference."""

    name: str
    root: Fetched
    parts: tuple[Fetched, ...]

    @property
    def size(self) -> int:
        """Bytes, all parts together."""
        return self.root.size + sum(part.size for part in self.parts)


def pull_file(node: Node, url: str, watcher: Watcher, *, output: Path | None = None) -> Pulled:
    """The bytes behind `url`, through /blobs; raises as `fetch` does."""
    # A fragment is the client's own affair and never sent (RFC 9110, 7.1).
    wanted = Wanted(name=_shown(url), target=f"/blobs/{url.partition('#')[0]}")
    with IntoFile(output) if output else contextlib.nullcontext(Nowhere()) as sink:
        return Pulled(wanted.name, fetch(node, wanted, sink, watcher), ())


def pull_image(
    node: Node,
    reference: ImageReference,
    watcher: Watcher,
    *,
    platform: Platform | None,
    layout: OciLayout | None = None,
    at_once: int = 4,
) -> Pulled:
    """An image through /v2.

    Args:
        node: whom to ask.
        reference: what to ask for.
        watcher: is told of progress.
        platform: which manifest of an index; None means all of them.
        layout: where to keep it; None verifies and drops the bytes.
        at_once: blobs that are fetched at the same time.

    Raises:
        NotAnImage: the documents are no image, or not one for this platform.
        PeerdError: as `fetch` does.
    """
    repository = _Repository(node, reference, watcher, layout)
    root, document = repository.document(reference.version)
    manifests: list[Fetched] = []
    blobs: dict[str, Part] = {}
    entry = root
    for fetched, manifest in repository.manifests(root, document, platform, depth=0):
        if platform is not None:
            entry = fetched
        if fetched is not root:
            manifests.append(fetched)
        blobs |= {str(part.digest): part for part in manifest.blobs}
    fetched_blobs = repository.blobs(list(blobs.values()), at_once)
    if layout:
        layout.add(_part(entry, platform if entry is not root else None), reference)
    return Pulled(str(reference), root, (*manifests, *fetched_blobs))


class _Abandoned(PeerdError):
    """Another part failed; this one is not wanted any more."""


class _UntilAbandoned:
    """A sink that ends its fetch once nobody wants it."""

    def __init__(self, sink: Sink, abandoned: threading.Event) -> None:
        self._sink = sink
        self._abandoned = abandoned

    def write(self, data: memoryview, /) -> None:
        if self._abandoned.is_set():
            raise _Abandoned("not wanted any more")
        self._sink.write(data)

    def restart(self) -> None:
        self._sink.restart()


class _Repository:
    """One repository of a registry, asked through a node."""

    def __init__(self, node: Node, reference: ImageReference, watcher: Watcher, layout: OciLayout | None) -> None:
        self._node = node
        self._reference = reference
        self._watcher = watcher
        self._layout = layout

    def document(self, version: str, part: Part | None = None) -> tuple[Fetched, Index | Manifest]:
        """The index or manifest under a tag or a digest."""
        digest = part.digest if part else (self._reference.digest if version == str(self._reference.digest) else None)
        name = f"{self._reference.registry}/{self._reference.repository}{'@' if ':' in version else ':'}{version}"
        wanted = Wanted(name, self._target("manifests", version), digest, part.size if part else None, accept=ACCEPT)
        sink = InMemory(_MANIFEST_BYTES_MAX)
        fetched = fetch(self._node, wanted, sink, self._watcher)
        said = fetched.headers.get("Docker-Content-Digest")
        if said and ":" not in version and said != str(fetched.digest):
            raise DigestMismatch(f"{name}: its bytes hash to {fetched.digest}, and its answer says {said}")
        if self._layout:
            self._layout.write_blob(fetched.digest, sink.bytes())
        try:
            return fetched, read_document(sink.bytes(), fetched.headers.get("Content-Type", ""))
        except NotAnImage as error:
            raise NotAnImage(f"{name}: {error}") from error

    def manifests(
        self, fetched: Fetched, document: Index | Manifest, platform: Platform | None, *, depth: int
    ) -> Iterator[tuple[Fetched, Manifest]]:
        """The manifests that are meant; indexes may name indexes, to a depth that no real image has."""
        if isinstance(document, Manifest):
            yield fetched, document
            return
        if depth == _INDEX_DEPTH_MAX:
            raise NotAnImage(f"{self._reference}: indexes within indexes, more than {_INDEX_DEPTH_MAX} deep")
        try:
            parts = document.manifests if platform is None else (document.for_platform(platform),)
        except NotAnImage as error:
            raise NotAnImage(f"{self._reference} {error}") from error
        for part in parts:
            yield from self.manifests(*self.document(str(part.digest), part), platform, depth=depth + 1)

    def blobs(self, parts: list[Part], at_once: int) -> list[Fetched]:
        """All of these, `at_once` at a time, the first failure ends the others' waiting."""
        abandoned = threading.Event()
        with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="pull") as threads:
            futures = [threads.submit(self._blob, part, abandoned) for part in parts]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failures = [error for future in futures if future.done() and (error := future.exception())]
            finally:
                # Also when the user interrupts: what runs ends at its next bytes, what waits does not begin.
                abandoned.set()
                threads.shutdown(wait=False, cancel_futures=True)
        if failures:
            raise next((error for error in failures if not isinstance(error, _Abandoned)), failures[0])
        return [future.result() for future in futures]

    def _blob(self, part: Part, abandoned: threading.Event) -> Fetched:
        name = f"{self._reference.registry}/{self._reference.repository}@{part.digest}"
        wanted = Wanted(name, self._target("blobs", str(part.digest)), part.digest, part.size)
        with self._layout.blob_sink(part.digest) if self._layout else contextlib.nullcontext(Nowhere()) as sink:
            return fetch(self._node, wanted, _UntilAbandoned(sink, abandoned), self._watcher)

    def _target(self, kind: str, version: str) -> str:
        return f"/v2/{self._reference.repository}/{kind}/{version}?ns={quote(self._reference.registry, safe='')}"


def _part(fetched: Fetched, platform: Platform | None) -> Part:
    media_type = fetched.headers.get("Content-Type", "").partition(";")[0].strip()
    return Part(media_type, fetched.digest, fetched.size, platform)


def _shown(url: str) -> str:
    """The URL without its query, which may hold a signature."""
    return url.partition("?")[0]
