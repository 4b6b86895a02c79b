"""What the last members that were asked have of a content: a bit a chunk. Pure.

Every answer between members carries the answering member's bit field. A node remembers the last few and asks first for a chunk
that one of them has. That is what holds the time of a flash crowd level from a hundred to thousands of nodes: without it a node
has to find out by asking (docs/swarm.md has the simulation).

Bit fields are integers: bit i is chunk i.
"""

import base64
import random
import zlib
from collections import OrderedDict

MEMBERS_MAX = 16
"""How many members' bit fields are remembered for one content; more made no difference in the simulation."""

CONTENTS_MAX = 64
PICKS = 6
"""How many remembered members are looked at for a chunk to take next."""

ANY_SHARE = 0.4
"""How often a chunk is taken without regard to who has it."""

CHUNKS_MAX = 32_768
"""How many chunks a bit field on the wire may have: a window of a larger content, around the chunk that was asked for."""

PLAIN_BYTES_MAX = 256
"""A bit field so short goes as it is: zlib takes a hundred times as long to set itself up as base64 takes for it."""

_DEFLATED = "zlib:"


class Knowledge:
    """Bit fields by content and member; the oldest are forgotten."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._contents: OrderedDict[str, OrderedDict[str, int]] = OrderedDict()

    def _of(self, content: str) -> OrderedDict[str, int]:
        return self._contents.get(content) or OrderedDict()

    def learn(self, content: str, member: str, bits: int) -> None:
        """The member says what it has."""
        known = self._contents.get(content)
        if known is None:
            known = self._contents[content] = OrderedDict()
            if len(self._contents) > CONTENTS_MAX:
                self._contents.popitem(last=False)
        else:
            self._contents.move_to_end(content)
        known[member] = bits
        known.move_to_end(member)
        if len(known) > MEMBERS_MAX:
            known.popitem(last=False)

    def forget(self, content: str, member: str) -> None:
        """The member failed, or said what was not so."""
        self._of(content).pop(member, None)

    def has(self, content: str, member: str, chunk: int) -> bool | None:
        """Whether the member said that it has the chunk; None where it is not remembered."""
        bits = self._of(content).get(member)
        return None if bits is None else bool(bits >> chunk & 1)

    def holders(self, content: str, chunk: int) -> list[str]:
        """Remembered members that have the chunk."""
        return [member for member, bits in self._of(content).items() if bits >> chunk & 1]

    def fetching(self, content: str, every: int) -> int:
        """How many remembered members lack some chunk of those in `every`, as one does that is fetching them."""
        return sum(bits & every != every for bits in self._of(content).values())

    def choose(self, content: str, wanted: int) -> int:
        """A chunk of those in `wanted` (not 0) to fetch next: mostly one that a remembered member has, now and then any.

        By chance, so that nodes take different ones and have something to give to each other. Now and then any, so that what
        nobody has yet comes in early: what comes in last is what all wait for in the end.
        """
        if self._rng.random() >= ANY_SHARE:
            members = list(self._of(content).values())
            for bits in self._rng.sample(members, min(PICKS, len(members))):
                if can := bits & wanted:
                    return random_bit(can, self._rng)
        return random_bit(wanted, self._rng)


def random_bit(bits: int, rng: random.Random) -> int:
    """One of the set bits. The first at or after a random place, else the lowest: good enough, and a few operations."""
    place = rng.randrange(bits.bit_length())
    if rest := bits >> place:
        return place + (rest & -rest).bit_length() - 1
    return (bits & -bits).bit_length() - 1


def write_bits(bits: int, count: int, around: int) -> str:
    """A bit field of `count` chunks for a header: `<first chunk>:<base64 of little-endian bytes>`, long ones as `<first>:zlib:<base64>`."""
    first = 0 if count <= CHUNKS_MAX else max(0, min(around - CHUNKS_MAX // 2, count - CHUNKS_MAX))
    window = min(count - first, CHUNKS_MAX)
    raw = (bits >> first & ((1 << window) - 1)).to_bytes(-(-window // 8), "little")
    if len(raw) <= PLAIN_BYTES_MAX:
        return f"{first}:{base64.b64encode(raw).decode()}"
    return f"{first}:{_DEFLATED}{base64.b64encode(zlib.compress(raw, 1)).decode()}"


def read_bits(text: str) -> int:
    """Raises ValueError where the header is no bit field, or one of more chunks than there may be."""
    first_text, colon, encoded = text.partition(":")
    if not colon or not first_text.isdecimal() or len(first_text) > 9 or int(first_text) > 1 << 26:
        raise ValueError("not a bit field")
    try:
        raw = base64.b64decode(encoded.removeprefix(_DEFLATED), validate=True)
        if encoded.startswith(_DEFLATED):
            raw = _inflated(raw)
    except (zlib.error, ValueError) as error:
        raise ValueError("not a bit field") from error
    if not raw:
        raise ValueError("a bit field of no chunk")
    if len(raw) > CHUNKS_MAX // 8:
        raise ValueError("a bit field of too many chunks")
    return int.from_bytes(raw, "little") << int(first_text)


def _inflated(packed: bytes) -> bytes:
    """No more than a byte beyond what there may be. Raises ValueError where it ends too early, zlib.error."""
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(packed, CHUNKS_MAX // 8 + 1)
    if len(raw) <= CHUNKS_MAX // 8 and not unpacker.eof:
        raise ValueError("half a bit field")
    return raw
