"""Bytes that are cheap to make, the same at each run, and nowhere alike: a byte in a wrong place shows."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_PIECE_BYTES = 4 << 20


def pieces(seed: str, size: int) -> Iterator[bytes]:
    """`size` bytes that `seed` alone decides, in pieces of a few MiB: AES in counter mode, at some GiB a second."""
    secret = hashlib.sha256(seed.encode()).digest()
    stream = Cipher(algorithms.AES(secret[:16]), modes.CTR(secret[16:])).encryptor()
    zeros = bytes(_PIECE_BYTES)
    while size:
        count = min(size, _PIECE_BYTES)
        yield stream.update(zeros[:count])
        size -= count


def content(seed: str, size: int) -> bytes:
    """The same, at once."""
    return b"".join(pieces(seed, size))


def write(path: Path, seed: str, size: int) -> Path:
    """The same, as a file."""
    with path.open("wb") as file:
        for piece in pieces(seed, size):
            file.write(piece)
    return path


def digest_of(data: bytes) -> str:
    """Its sha256 digest, as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
