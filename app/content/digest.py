"""A digest that exists is valid.

Owns: the text form of digests (OCI image-spec, Descriptor, Digests) and the hash behind each algorithm.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from app.errors import BadRequest

if TYPE_CHECKING:
    from hashlib import _Hash

# image-spec: algorithm ":" encoded; the two registered algorithms fix the length of the encoded part, lower case.
_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Digest:
    """`algorithm:hex`, e.g. `sha256:e3b0…`; parsed once, never wrong afterwards."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        """Refuse what no content can hash to."""
        length = _HEX_LENGTH.get(self.algorithm)
        if length is None:
            msg = f"digest algorithm {self.algorithm[:32]!r} is not known; sha256 and sha512 are"
            raise BadRequest(msg, code="DIGEST_INVALID")
        if len(self.hex) != length or not _HEX.fullmatch(self.hex):
            msg = f"a {self.algorithm} digest has {length} lower-case hexadecimal digits, not {self.hex[:136]!r}"
            raise BadRequest(msg, code="DIGEST_INVALID")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest that `text` spells; raises BadRequest."""
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise BadRequest(
                f"{text[:136]!r} is no digest: it lacks the algorithm, as in sha256:…", code="DIGEST_INVALID"
            )
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """The digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> "_Hash":
        """A fresh hash of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
