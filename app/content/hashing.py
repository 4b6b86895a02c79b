"""What lies in a file, hashed. Blocks; for a thread."""

import hashlib
import os

from app.content.byte_range import ByteRange

PIECE_BYTES = 1 << 20


def hash_of(fd: int, span: ByteRange) -> bytes | None:
    """The sha-256 of what lies at `span` of an open file; None where the file is shorter."""
    checksum = hashlib.sha256()
    position = span.start
    while position < span.stop:
        piece = os.pread(fd, min(PIECE_BYTES, span.stop - position), position)
        if not piece:
            return None
        checksum.update(piece)
        position += len(piece)
    return checksum.digest()
