"""What tells one version of a content from another.

Owns: reading `ETag` and `Last-Modified` (RFC 9110, section 8.8) into a value that two answers can be compared by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Validator:
    """A strong ETag, or else the time of the last change together with the size in bytes.

    A weak ETag promises equal meaning, not equal bytes (RFC 9110, section 8.8.1), so it validates nothing here.
    """

    etag: str | None
    last_modified: str | None
    size: int | None

    @classmethod
    def of_headers(cls, headers: Mapping[str, str], size: int | None) -> Self | None:
        """The validator that an answer's headers carry; None when they carry none that can be trusted.

        `headers` must be case-insensitive. `size` is that of the whole content, not of the answer.
        """
        etag = headers.get("ETag")
        if etag and not etag.startswith("W/"):
            return cls(etag, None, None)
        last_modified = headers.get("Last-Modified")
        if last_modified and size is not None:
            return cls(None, last_modified, size)
        return None

    def __str__(self) -> str:
        return self.etag if self.etag is not None else f"{self.last_modified}/{self.size}"
