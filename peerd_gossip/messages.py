"""What goes over the wire, and its bounds.

Parsed once, here: past `decode_frame` and its kin a message is a frozen value that keeps the rules below, and
nothing else in the library looks at protobuf. What does not keep them raises MessageRefused with a word for the
counter: `malformed` (not protobuf, columns of unequal length, sizes that contradict each other, numbers out of
range), `oversize` (more than a message may carry) or `protocol` (another version of this protocol).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from peerd_gossip._pb import gossip_pb2 as pb
from peerd_gossip.bloom import SIZE_LOG2_MAX, SIZE_LOG2_MIN
from peerd_gossip.errors import MessageRefused
from peerd_gossip.member import Member, MemberId, MemberState

PROTOCOL = 1
BUCKETS = 64
FRAME_BYTES_MAX = 1 << 20
STAMPS_MAX = 20_000
DELTAS_MAX = 10_000
DELTA_KEYS_MAX = 8192
FILTERS_MAX = 1024
ANSWER_BITS_BYTES_MAX = 4 << 20  # of all filters in one frame, inflated
TOMBSTONES_MAX = 1 << 16
ROSTER_MAX = 10_000
EPOCH_MAX = (1 << 31) - 1
VERSION_MAX = (1 << 31) - 1
KEYS_MAX = 1 << 31

_DEFLATE_FILL_MAX = 0.3  # above it, a filter's bits are nearly noise: zlib saves less than 12 %
_STATES = {
    MemberState.ALIVE: pb.STATE_ALIVE,
    MemberState.FAILED: pb.STATE_FAILED,
    MemberState.LEFT: pb.STATE_LEFT,
}
_STATES_BACK = {int(number): state for state, number in _STATES.items()}


class Stamp(NamedTuple):
    """Where one member's filter stands. Of one member, the greater stamp is the newer filter; epoch 0 is none."""

    member: MemberId
    epoch: int
    version: int


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of one member's filter, from `stamp.version - 1` to `stamp.version`. A farewell is the last of all."""

    stamp: Stamp
    added: tuple[int, ...] = ()
    withdrawn: tuple[int, ...] = ()
    farewell: bool = False


@dataclass(frozen=True, slots=True)
class FilterImage:
    """One member's whole filter at one version; `bits` as in bloom.py, never compressed in memory."""

    stamp: Stamp
    size_log2: int
    keys: int
    bits: bytes
    tombstones: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of each side: who speaks here."""

    member: Member


@dataclass(frozen=True, slots=True)
class Rumours:
    """News, pushed unasked: small deltas as they are, and stamps of what is worth asking for."""

    deltas: tuple[Delta, ...] = ()
    haves: tuple[Stamp, ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """Opens a push/pull: for each bucket of members the exclusive or of the hashes of all stamps in it."""

    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Versions:
    """Answers a Digest: every stamp that I hold in the buckets whose bit is set."""

    buckets: int
    stamps: tuple[Stamp, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for what is newer than these stamps; an epoch of 0 asks for the whole filter."""

    have: tuple[Stamp, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for, or what the asker of a push/pull was found to lack."""

    deltas: tuple[Delta, ...] = ()
    filters: tuple[FilterImage, ...] = ()


Message = Rumours | Digest | Versions | Want | Answer
Frame = Hello | Message


@dataclass(frozen=True, slots=True)
class Greeting:
    """A node says "I am here", or, when `leaving`, "I shall not be here any more"."""

    member: Member
    leaving: bool = False


Roster = tuple[tuple[Member, MemberState], ...]


# What is sent


def encode_frame(frame: Frame) -> bytes:
    """The frame as it goes over the wire."""
    match frame:
        case Hello(member):
            return pb.Frame(hello=pb.Hello(protocol=PROTOCOL, member=_member(member))).SerializeToString()
        case Rumours(deltas, haves):
            return pb.Frame(
                rumours=pb.Rumours(deltas=[_delta(d) for d in deltas], haves=_stamps(haves) if haves else None)
            ).SerializeToString()
        case Digest(buckets):
            return pb.Frame(digest=pb.Digest(buckets=buckets)).SerializeToString()
        case Versions(buckets, stamps):
            return pb.Frame(versions=pb.Versions(buckets=buckets, stamps=_stamps(stamps))).SerializeToString()
        case Want(have):
            return pb.Frame(want=pb.Want(have=_stamps(have))).SerializeToString()
        case Answer(deltas, filters):
            return pb.Frame(
                answer=pb.Answer(deltas=[_delta(d) for d in deltas], filters=[_image(f) for f in filters])
            ).SerializeToString()


def encode_greeting(greeting: Greeting) -> bytes:
    """The greeting as it goes over the wire."""
    return pb.Greeting(protocol=PROTOCOL, member=_member(greeting.member), leaving=greeting.leaving).SerializeToString()


def encode_roster(roster: Roster) -> bytes:
    """The roster as it goes over the wire; what is beyond ROSTER_MAX members is left out."""
    entries = [pb.RosterEntry(member=_member(m), state=_STATES[s]) for m, s in roster[:ROSTER_MAX]]
    return pb.Roster(entries=entries).SerializeToString()


def _member(member: Member) -> pb.Member:
    return pb.Member(
        name=member.name,
        life=member.life,
        peer_addr=member.peer_addr,
        gossip_addr=member.gossip_addr,
        zone=member.zone,
        version=member.version,
    )


def _stamps(stamps: Sequence[Stamp]) -> pb.Stamps:
    return pb.Stamps(
        members=[s.member for s in stamps], epochs=[s.epoch for s in stamps], versions=[s.version for s in stamps]
    )


def _delta(delta: Delta) -> pb.Delta:
    return pb.Delta(
        member=delta.stamp.member,
        epoch=delta.stamp.epoch,
        version=delta.stamp.version,
        added=delta.added,
        withdrawn=delta.withdrawn,
        farewell=delta.farewell,
    )


def _image(image: FilterImage) -> pb.FilterImage:
    out = pb.FilterImage(
        member=image.stamp.member,
        epoch=image.stamp.epoch,
        version=image.stamp.version,
        size_log2=image.size_log2,
        keys=image.keys,
        tombstones=image.tombstones,
    )
    if int.from_bytes(image.bits, "little").bit_count() < _DEFLATE_FILL_MAX * (1 << image.size_log2):
        out.deflated = zlib.compress(image.bits, 6)
    else:
        out.bits = image.bits
    return out


# What is received


def decode_frame(data: bytes) -> Frame:
    """The frame in these bytes; MessageRefused when they are none."""
    if len(data) > FRAME_BYTES_MAX:
        raise MessageRefused("oversize", f"a frame of {len(data)} bytes, at most {FRAME_BYTES_MAX} are taken")
    frame = pb.Frame()
    _parse(frame, data)
    match frame.WhichOneof("kind"):
        case "hello":
            _check_protocol(frame.hello.protocol)
            return Hello(_member_from(frame.hello.member))
        case "rumours":
            return Rumours(_deltas_from(frame.rumours.deltas), _stamps_from(frame.rumours.haves))
        case "digest":
            if len(frame.digest.buckets) != BUCKETS:
                raise MessageRefused("malformed", f"a digest of {len(frame.digest.buckets)} buckets, not {BUCKETS}")
            return Digest(tuple(frame.digest.buckets))
        case "versions":
            return Versions(frame.versions.buckets, _stamps_from(frame.versions.stamps))
        case "want":
            return Want(_stamps_from(frame.want.have, epoch_min=0))
        case "answer":
            return Answer(_deltas_from(frame.answer.deltas), _images_from(frame.answer.filters))
    raise MessageRefused("malformed", "a frame of no kind that is known")


def decode_greeting(data: bytes) -> Greeting:
    """The greeting in these bytes; MessageRefused when they are none."""
    greeting = pb.Greeting()
    _parse(greeting, data)
    _check_protocol(greeting.protocol)
    return Greeting(_member_from(greeting.member), greeting.leaving)


def decode_roster(data: bytes) -> Roster:
    """The roster in these bytes; MessageRefused when they are none."""
    roster = pb.Roster()
    _parse(roster, data)
    if len(roster.entries) > ROSTER_MAX:
        raise MessageRefused("oversize", f"a roster of {len(roster.entries)} members, at most {ROSTER_MAX} are taken")
    return tuple((_member_from(entry.member), _state_from(entry.state)) for entry in roster.entries)


def _parse(message: pb.Frame | pb.Greeting | pb.Roster, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageRefused("malformed", f"{len(data)} bytes that are not protobuf") from error


def _check_protocol(protocol: int) -> None:
    if protocol != PROTOCOL:
        raise MessageRefused("protocol", f"version {protocol} of the protocol, {PROTOCOL} is spoken here")


def _member_from(member: pb.Member) -> Member:
    try:
        return Member(member.name, member.life, member.peer_addr, member.gossip_addr, member.zone, member.version)
    except ValueError as error:
        raise MessageRefused("malformed", str(error)) from error


def _state_from(state: int) -> MemberState:
    if state not in _STATES_BACK:
        raise MessageRefused("malformed", f"state {state} of a member")
    return _STATES_BACK[state]


def _stamp(member: int, epoch: int, version: int, epoch_min: int = 1) -> Stamp:
    if not epoch_min <= epoch <= EPOCH_MAX or version > VERSION_MAX:
        raise MessageRefused("malformed", f"epoch {epoch}, version {version} of a filter")
    return Stamp(MemberId(member), epoch, version)


def _stamps_from(stamps: pb.Stamps, epoch_min: int = 1) -> tuple[Stamp, ...]:
    if len(stamps.members) > STAMPS_MAX:
        raise MessageRefused("oversize", f"{len(stamps.members)} stamps, at most {STAMPS_MAX} are taken")
    if not len(stamps.members) == len(stamps.epochs) == len(stamps.versions):
        raise MessageRefused("malformed", "columns of stamps differ in length")
    return tuple(
        _stamp(member, epoch, version, epoch_min)
        for member, epoch, version in zip(stamps.members, stamps.epochs, stamps.versions, strict=True)
    )


def _deltas_from(deltas: Sequence[pb.Delta]) -> tuple[Delta, ...]:
    if len(deltas) > DELTAS_MAX:
        raise MessageRefused("oversize", f"{len(deltas)} deltas, at most {DELTAS_MAX} are taken")
    return tuple(_delta_from(delta) for delta in deltas)


def _delta_from(delta: pb.Delta) -> Delta:
    if len(delta.added) + len(delta.withdrawn) > DELTA_KEYS_MAX:
        raise MessageRefused("oversize", f"a delta of {len(delta.added) + len(delta.withdrawn)} keys")
    stamp = _stamp(delta.member, delta.epoch, delta.version)
    return Delta(stamp, tuple(delta.added), tuple(delta.withdrawn), delta.farewell)


def _images_from(images: Sequence[pb.FilterImage]) -> tuple[FilterImage, ...]:
    if len(images) > FILTERS_MAX:
        raise MessageRefused("oversize", f"{len(images)} filters, at most {FILTERS_MAX} are taken")
    if sum(1 << max(min(image.size_log2, SIZE_LOG2_MAX) - 3, 0) for image in images) > ANSWER_BITS_BYTES_MAX:
        raise MessageRefused("oversize", f"{len(images)} filters of more than {ANSWER_BITS_BYTES_MAX} bytes")
    return tuple(_image_from(image) for image in images)


def _image_from(image: pb.FilterImage) -> FilterImage:
    if not SIZE_LOG2_MIN <= image.size_log2 <= SIZE_LOG2_MAX:
        raise MessageRefused("malformed", f"a filter of 2^{image.size_log2} bits")
    if image.keys > KEYS_MAX or len(image.tombstones) > TOMBSTONES_MAX:
        raise MessageRefused("oversize", f"a filter of {image.keys} keys, {len(image.tombstones)} tombstones")
    size_bytes = 1 << (image.size_log2 - 3)
    bits = _inflate(image.deflated, size_bytes) if image.deflated else image.bits
    if len(bits) != size_bytes:
        raise MessageRefused("malformed", f"a filter of 2^{image.size_log2} bits in {len(bits)} bytes")
    return FilterImage(
        _stamp(image.member, image.epoch, image.version), image.size_log2, image.keys, bits, tuple(image.tombstones)
    )


def _inflate(data: bytes, size_bytes: int) -> bytes:
    """At most one byte more than is meant is ever inflated: 1 kB of zeroes can not become 1 MB."""
    inflater = zlib.decompressobj()
    try:
        bits = inflater.decompress(data, size_bytes + 1)
    except zlib.error as error:
        raise MessageRefused("malformed", f"a filter that does not inflate: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise MessageRefused("malformed", "a filter whose deflated bytes end too early or too late")
    return bits


def keys_of(deltas: Iterable[Delta]) -> int:
    """How many keys these deltas name."""
    return sum(len(delta.added) + len(delta.withdrawn) for delta in deltas)
