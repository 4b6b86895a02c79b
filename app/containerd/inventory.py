"""What of containerd's content is shared, and how two looks at it differ. Pure values.

A look takes three calls however many images there are: the images, the blobs held, and those manifests that were not read
before. Manifests are content-addressed, so what one refers to is remembered as long as the blob is there.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from app.containerd.image import Image, ImageName, ShareRule
from app.content.descriptors import BlobDescriptor, refers
from app.content.digest import Digest


@dataclass(frozen=True, slots=True)
class SharedBlob:
    """A blob that containerd holds whole and that may be shared. `size` in bytes."""

    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that is shared at one moment.

    Attributes:
        blobs: by digest.
        tags: `registry/repository:tag` to the digest that containerd has under that name.
    """

    blobs: Mapping[Digest, SharedBlob] = field(default_factory=dict)
    tags: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """How what is shared has changed. A tag that now names another digest is in `tags_added` only."""

    added: tuple[SharedBlob, ...] = ()
    removed: tuple[Digest, ...] = ()
    tags_added: Mapping[str, Digest] = field(default_factory=dict)
    tags_removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.tags_added or self.tags_removed)


def difference(before: Inventory, after: Inventory) -> Change:
    """What leads from one to the other."""
    return Change(
        added=tuple(blob for digest, blob in after.blobs.items() if before.blobs.get(digest) != blob),
        removed=tuple(digest for digest in before.blobs if digest not in after.blobs),
        tags_added={tag: digest for tag, digest in after.tags.items() if before.tags.get(tag) != digest},
        tags_removed=tuple(tag for tag in before.tags if tag not in after.tags),
    )


async def take_inventory(
    images: Iterable[Image],
    held: Mapping[Digest, int],
    rule: ShareRule,
    children_of: Callable[[BlobDescriptor], Awaitable[tuple[BlobDescriptor, ...]]],
) -> Inventory:
    """Walk from the images that `rule` allows to every blob that is really there.

    Holes are normal: containerd fetches one platform of an index, and `discard_unpacked_layers` drops layers. The size is
    that of the blob held; a descriptor that says another is believed in nothing.

    Args:
        images: all images of the namespace.
        held: every blob held whole, with its size in bytes.
        rule: which names are shared.
        children_of: what a manifest that is held refers to.
    """
    blobs: dict[Digest, SharedBlob] = {}
    tags: dict[str, Digest] = {}
    for image in images:
        if not rule.allows(image.name):
            continue
        waiting = [image.target]
        while waiting:
            descriptor = waiting.pop()
            size = held.get(descriptor.digest)
            if size is None or size != descriptor.size or descriptor.digest in blobs:
                continue
            blobs[descriptor.digest] = SharedBlob(descriptor.digest, size, descriptor.media_type)
            if refers(descriptor):
                waiting.extend(await children_of(descriptor))
        name = ImageName.parse(image.name)
        if name is not None and name.reference is not None and image.target.digest in blobs:
            tags[name.reference] = image.target.digest
    return Inventory(blobs, tags)
