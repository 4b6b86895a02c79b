"""What a node tells the others that it can serve, as texts that `peerd_gossip` hashes.

Not each chunk: a thousand nodes that fill 512 chunks in ten seconds would talk of nothing else. A content held whole is one
key; of one held in part each stretch is a key, and who asks for a chunk that is not there is told so.
"""

from collections.abc import Iterator

from app.content.byte_range import ByteRange
from app.content.entry import Entry
from app.content.key import ContentKey

STRETCH_SIZE_BYTES = 64 << 20
"""Short enough that a random read rarely asks in vain, long enough that 10 GiB are 160 keys."""


def whole(key: ContentKey) -> str:
    """The whole content is here."""
    return key.text


def stretch(key: ContentKey, offset: int) -> str:
    """Some of the stretch that the byte at `offset` lies in is here."""
    return f"{key.text}#{offset // STRETCH_SIZE_BYTES}"


def name(identity: str) -> str:
    """What a tag or URL stands for is known here."""
    return f"name:{identity}"


def stretch_chunks(offset: int, size: int, chunk_size: int) -> range:
    """The chunks that begin in the stretch of the byte at `offset`."""
    start = offset // STRETCH_SIZE_BYTES * STRETCH_SIZE_BYTES
    first = -(-start // chunk_size)
    stop = min(start + STRETCH_SIZE_BYTES, size)
    return range(first, ByteRange(start, stop).chunks(chunk_size).stop)


def is_whole(entry: Entry) -> bool:
    """A digest's content is offered whole once it is proved; what has no digest, once it is all here."""
    return entry.whole and (entry.verified or entry.meta.digest is None)


def of(entry: Entry) -> Iterator[str]:
    """All that can be served of one content now."""
    size = entry.meta.size
    if entry.present == 0 and size:
        return
    if is_whole(entry):
        yield whole(entry.meta.key)
    for offset in range(0, size, STRETCH_SIZE_BYTES):
        if any(map(entry.has, stretch_chunks(offset, size, entry.meta.chunk_size))):
            yield stretch(entry.meta.key, offset)
