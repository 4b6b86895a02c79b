"""Images, their names, and which of them may be shared.

A name in containerd is free text. Clients write `registry/repository:tag`, `registry/repository@digest` or both; the CRI
plugin adds a bare `sha256:…` (the image's id) for each image that it pulls. The bare one names no registry, so no rule on
names can be applied to it: it never shares anything by itself, lest `--share-filter` be passed by that alias.
"""

import re
from dataclasses import dataclass
from typing import Self

from app.content.descriptors import BlobDescriptor

# Go's reference grammar: a first component with a dot or a colon, or `localhost`, is a registry.
_NAME = re.compile(
    r"(?P<registry>(?:[^/@:]*\.[^/@:]*|localhost|\[[0-9A-Fa-f:.]+\]|[^/@:]+(?=:))(?::[0-9]+)?)"
    r"/(?P<repository>[^@:]+)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-f]+))?"
)


@dataclass(frozen=True, slots=True)
class Image:
    """A name and the content that it points to, as containerd keeps it."""

    name: str
    target: BlobDescriptor


@dataclass(frozen=True, slots=True)
class ImageName:
    """A name that says where its image comes from. `tag` is None where a digest alone is named."""

    registry: str
    repository: str
    tag: str | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The parts of `text`; None for an alias that names no registry."""
        match = _NAME.fullmatch(text)
        return cls(match["registry"], match["repository"], match["tag"]) if match else None

    @property
    def reference(self) -> str | None:
        """`registry/repository:tag`, under which a client may ask for it; None without a tag."""
        return f"{self.registry}/{self.repository}:{self.tag}" if self.tag is not None else None


@dataclass(frozen=True, slots=True)
class ShareRule:
    """`--hosts` and `--share-filter`.

    Attributes:
        registries: those whose images are shared; empty, or with `_default` among them, means every one.
        pattern: searched in the whole name as containerd has it; None means every name.
    """

    registries: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None

    def allows(self, text: str) -> bool:
        """Whether the image of this name may be shared."""
        name = ImageName.parse(text)
        if name is None:
            return False
        if self.registries and "_default" not in self.registries and name.registry not in self.registries:
            return False
        return self.pattern is None or self.pattern.search(text) is not None
