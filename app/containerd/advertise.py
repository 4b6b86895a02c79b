"""What the others are told of containerd's content: digests that are held whole, and names that are known."""

from collections.abc import Iterable

from app.containerd.image import ImageName
from app.containerd.inventory import Change, Inventory
from app.content import advertised
from app.content.key import ContentKey
from app.content.names import Name, Resolution


def keys_held(change: Change) -> list[str]:
    """What can be served from now on, as the others look for it."""
    blobs = [advertised.whole(ContentKey.of_digest(blob.digest)) for blob in change.added]
    return blobs + _names(change.tags_added)


def keys_gone(change: Change) -> list[str]:
    """What can not be served any more."""
    blobs = [advertised.whole(ContentKey.of_digest(digest)) for digest in change.removed]
    return blobs + _names(change.tags_removed)


def resolutions(inventory: Inventory) -> dict[Name, Resolution]:
    """What each shared tag stands for, as a member or the resolver is told."""
    found: dict[Name, Resolution] = {}
    for reference, digest in inventory.tags.items():
        blob = inventory.blobs[digest]
        found[_name(reference)] = Resolution(blob.size, digest, blob.media_type)
    return found


def _names(references: Iterable[str]) -> list[str]:
    return [advertised.name(_name(reference).identity) for reference in references]


def _name(reference: str) -> Name:
    image = ImageName.parse(reference)
    if image is None or image.tag is None:
        raise ValueError(f"not a tag of an inventory: {reference!r}")
    return Name.of_tag(image.registry, image.repository, image.tag)
