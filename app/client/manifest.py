"""What an image consists of: indexes, manifests and the blobs they name.

Owns: the documents' shapes (OCI image-spec 1.1, "Image Manifest" and "Image Index"; Docker's schema 2 has the same), and
which of an index's manifests is meant by a platform.
"""

import platform
from dataclasses import dataclass
from typing import Any, Final, Self

from app.content.digest import Digest
from app.content.json_text import parsed
from app.errors import BadRequest, ContentError

INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT: Final = ", ".join(INDEX_TYPES + MANIFEST_TYPES)
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386"}
# What is meant when no variant is said (containerd, platforms/database.go, normalizeArch).
_USUAL_VARIANT: Final = {"arm64": "v8", "arm": "v7"}


class NotAnImage(ContentError):
    """What the registry has under this name can not be read as an image."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: `linux/amd64`, `linux/arm/v7`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`os/architecture[/variant]`; raises BadRequest."""
        parts = text.split("/")
        if len(parts) not in {2, 3} or not all(parts):
            raise BadRequest(f"{text!r} is no platform; right would be linux/amd64 or linux/arm/v7")
        return cls(*parts)

    @classmethod
    def here(cls) -> Self:
        """This machine's, as containers see it: containers of Linux everywhere."""
        machine = platform.machine()
        return cls.parse(f"linux/{_MACHINES.get(machine, machine)}")

    def runs(self, other: "Platform") -> bool:
        """Whether `other` is this platform; a variant that nobody names is the usual one."""
        return self.spelled_out == other.spelled_out

    @property
    def spelled_out(self) -> tuple[str, str, str]:
        """With the variant that is meant when none is said."""
        return self.os, self.architecture, self.variant or _USUAL_VARIANT.get(self.architecture, "")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Part:
    """A descriptor (image-spec, "Content Descriptors")."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read from JSON; raises NotAnImage."""
        try:
            spoken = document.get("platform")
            return cls(
                str(document["mediaType"]),
                Digest.parse(document["digest"]),
                _size(document["size"]),
                Platform(str(spoken["os"]), str(spoken["architecture"]), str(spoken.get("variant", "")))
                if spoken
                else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError, BadRequest) as error:
            raise NotAnImage(f"no descriptor: {str(document)[:200]} ({error})") from error

    def document(self) -> dict[str, object]:
        """As JSON."""
        spoken: dict[str, object] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform:
            spoken["platform"] = {"architecture": self.platform.architecture, "os": self.platform.os} | (
                {"variant": self.platform.variant} if self.platform.variant else {}
            )
        return spoken


@dataclass(frozen=True, slots=True)
class Index:
    """The manifests that one name stands for, a platform each."""

    manifests: tuple[Part, ...]

    def for_platform(self, wanted: Platform) -> Part:
        """The first that runs there, as containerd chooses; raises NotAnImage when none does."""
        for part in self.manifests:
            if part.platform and wanted.runs(part.platform):
                return part
        there = sorted({str(part.platform) for part in self.manifests if part.platform})
        raise NotAnImage(f"has no manifest for {wanted}; it has {', '.join(there) or 'none that names a platform'}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration and its layers."""

    blobs: tuple[Part, ...]


def read_document(data: bytes, media_type: str) -> Index | Manifest:
    """The index or manifest that `data` spells; raises NotAnImage."""
    try:
        document = parsed(data)
    except ValueError as error:
        raise NotAnImage(f"no JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotAnImage("JSON, but no object")
    kind = str(document.get("mediaType") or media_type.partition(";")[0].strip())
    if kind in INDEX_TYPES and isinstance(document.get("manifests"), list):
        return Index(tuple(Part.of(part) for part in document["manifests"]))
    if kind in MANIFEST_TYPES and isinstance(document.get("layers"), list):
        return Manifest(tuple(Part.of(part) for part in (document.get("config"), *document["layers"])))
    raise NotAnImage(f"neither an image index nor an image manifest but {kind[:100] or 'without a media type'}")


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value
