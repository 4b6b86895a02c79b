"""Which bytes are the same bytes.

Owns: content keys, and which part of a URL only signs it. Two requests share chunks exactly when their keys are equal, so
this module decides what can poison whom:

- A content that was hashed whole is its digest; everybody may read it under that name.
- Until then its parts can not be checked, and anybody may write a digest into a URL of his own. So they are keyed by the
  digest *and the upstream host they came from*, and shared among readers of that host only.
- Any other URL is the hash of scheme, host, path and query, less what only signs or expires it, and of the upstream's
  validator: changed content is new content.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote_plus, urlsplit

from app.content.digest import Digest
from app.content.validator import Validator

# Parameters that sign or expire a URL and say nothing of its content, by the scheme whose presence they prove.
# Azure: https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas, "Construct a SAS" tables.
_AZURE_SAS = frozenset(
    "se sp sv sr sig st spr sip skoid sktid skt ske sks skv saoid suoid scid si ss srt sdd ses".split()  # noqa: SIM905 -- the table reads better so
)
# CloudFront: "Using signed URLs", canned and custom policy.
_CLOUDFRONT = frozenset({"Expires", "Signature", "Key-Pair-Id", "Policy"})
# Names that choose the bytes whatever the scheme; a prefix rule below must never swallow them.
_CHOOSES_BYTES = re.compile(r"snapshot|versionid|versionId|partNumber|response-.*")


@dataclass(frozen=True, slots=True)
class ContentKey:
    """The name under which chunks are cached and shared. `text` is what travels and what is hashed."""

    text: str

    @classmethod
    def of_digest(cls, digest: Digest) -> Self:
        """Content known, or to be proved, to hash to `digest`."""
        return cls(str(digest))

    @classmethod
    def of_unverified(cls, digest: Digest, host: str) -> Self:
        """Parts of a content whose host claims that the whole hashes to `digest`."""
        return cls(f"{digest}@{host.lower()}")

    @classmethod
    def of_url(cls, url: str, validator: Validator) -> Self:
        """The version of `url` that `validator` names."""
        text = f"{canonical_url(url)}\n{validator}"
        return cls("url:" + hashlib.sha256(text.encode()).hexdigest())

    def __str__(self) -> str:
        return self.text


def canonical_url(url: str) -> str:
    """`url` without the parameters that only sign or expire it; all else byte for byte, order included."""
    parts = urlsplit(url)
    pairs = parts.query.split("&") if parts.query else []
    names = [unquote_plus(pair.partition("=")[0]) for pair in pairs]
    signing = _signing_names(names)
    kept = "&".join(pair for pair, name in zip(pairs, names, strict=True) if name not in signing)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}" + (f"?{kept}" if kept else "")


def _signing_names(names: Iterable[str]) -> frozenset[str]:
    """Those of `names` that belong to a signing scheme whose signature is really there."""
    present = frozenset(names)
    signing: set[str] = set()
    if {"sig", "sv"} <= present:
        signing |= _AZURE_SAS & present
    if "X-Amz-Signature" in present:
        signing |= {name for name in present if name.startswith("X-Amz-")}
    if "X-Goog-Signature" in present:
        signing |= {name for name in present if name.startswith("X-Goog-")}
    if {"Signature", "Key-Pair-Id"} <= present:
        signing |= _CLOUDFRONT & present
    return frozenset(name for name in signing if not _CHOOSES_BYTES.fullmatch(name))
