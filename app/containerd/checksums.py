"""Checksums of a blob's chunks, vouched for by the digest of the whole."""

import hashlib

from app.content.digest import Digest


class ChunkChecksums:
    """Fed with a blob from its first byte to its last; blocks for as long as hashing takes."""

    def __init__(self, digest: Digest, chunk_size_bytes: int) -> None:
        self._digest = digest
        self._chunk_size_bytes = chunk_size_bytes
        self._whole = digest.hasher()
        self._chunk = hashlib.sha256()
        self._chunk_bytes = 0
        self._done: list[bytes] = []

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._whole.update(data)
        view = memoryview(data)
        while view:
            part = view[: self._chunk_size_bytes - self._chunk_bytes]
            self._chunk.update(part)
            self._chunk_bytes += len(part)
            view = view[len(part) :]
            if self._chunk_bytes == self._chunk_size_bytes:
                self._end_chunk()

    def finish(self) -> tuple[bytes, ...] | None:
        """SHA-256 of each chunk, the last of which may be shorter; None when the whole is not what its digest says."""
        if self._chunk_bytes:
            self._end_chunk()
        return tuple(self._done) if self._whole.hexdigest() == self._digest.hex else None

    def _end_chunk(self) -> None:
        self._done.append(self._chunk.digest())
        self._chunk = hashlib.sha256()
        self._chunk_bytes = 0
