"""The protocol of a Serf agent's RPC: bytes to messages and back, and nothing of sockets.

The agent speaks MessagePack over TCP ("RPC Protocol" in Serf's documentation). Both ways a message is a header, and after
some headers a body. A request's header is {Command, Seq}; a response's is {Seq, Error}, with the Seq of its request. The
records of a stream are responses too: they keep coming under the Seq of the `stream` command.

Strings are MessagePack's raw bytes as they were before the format had a type for binary data, which is what the agent's
codec reads and writes: names and addresses are both just bytes here, and are decoded where it is known what they are.
An agent is trusted to be an agent but not to be well: what it sends is bounded and checked, and SerfError says what was
wrong.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgpack  # type: ignore[import-untyped, unused-ignore]

from peerd_gossip.errors import SerfError

IPC_VERSION = 1
MESSAGE_BYTES_MAX = 16 << 20
MEMBERS_MAX = 20_000
STRING_BYTES_MAX = 64 << 10

_WITH_BODY = frozenset({"members-filtered", "join", "get-coordinate", "stats"})
"""Commands whose success is not told before its body has come. Others have none, or one that nobody needs."""

Body = Mapping[bytes, object]


@dataclass(frozen=True, slots=True)
class SerfMember:
    """A member as an agent sees it. `status` is alive, leaving, left, failed or none."""

    name: str
    address: str
    port: int
    status: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SerfEvent:
    """Something has happened to members: member-join, member-leave, member-failed, member-update or member-reap."""

    kind: str
    members: tuple[SerfMember, ...]


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A place in the space of round trips (Dabek et al., "Vivaldi", 2004; Ledlie et al., 2007). All in seconds."""

    vector: tuple[float, ...]
    height: float
    adjustment: float

    def round_trip_to(self, other: Coordinate) -> float:
        """Estimated seconds there and back: distance, both heights, and the adjustments if something is left then."""
        distance = math.dist(self.vector, other.vector) + self.height + other.height
        adjusted = distance + self.adjustment + other.adjustment
        return adjusted if adjusted > 0 else distance


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to the request of this `seq`; `error` is empty when it succeeded."""

    seq: int
    error: str
    body: Body


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the stream that was opened by the request of this `seq`."""

    seq: int
    body: Body


class SerfConnection:
    """One connection's state: which requests wait for an answer, which streams are open, and where in a message we are."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(use_bin_type=False)
        self._unpacker = msgpack.Unpacker(
            raw=True,
            max_buffer_size=MESSAGE_BYTES_MAX,
            max_str_len=STRING_BYTES_MAX,
            max_bin_len=STRING_BYTES_MAX,
            max_ext_len=0,
            max_array_len=MEMBERS_MAX,
            max_map_len=MEMBERS_MAX,
        )
        self._seq = 0
        self._waiting: dict[int, str] = {}
        self._streams: set[int] = set()
        self._body_of: Response | Record | None = None  # the header that came last, if its body is still to come
        self._body_may_come = False  # after a response that was given out without one

    def request(self, command: str, body: Mapping[str, object] | None = None) -> tuple[int, bytes]:
        """A request's Seq and its bytes."""
        self._seq += 1
        self._waiting[self._seq] = command
        data: bytes = self._packer.pack({"Command": command, "Seq": self._seq})
        if body is not None:
            data += self._packer.pack(body)
        return self._seq, data

    def receive(self, data: bytes) -> list[Response | Record]:
        """What these bytes complete. After SerfError the connection can not be used any more."""
        out: list[Response | Record] = []
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                done = self._message(message)
                if done is not None:
                    out.append(done)
        except (msgpack.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
            # The library raises ValueError of several kinds for what breaks its limits or its format.
            raise SerfError(f"the agent does not speak MessagePack as it should: {error!r}") from error
        return out

    def _message(self, message: object) -> Response | Record | None:
        if not isinstance(message, dict):
            raise SerfError(f"the agent sent a {type(message).__name__} where a map was due")
        if message.keys() == {b"Seq", b"Error"}:
            return self._header(_integer(message, b"Seq"), _text(message, b"Error"))
        return self._body(message)

    def _header(self, seq: int, error: str) -> Response | None:
        if self._body_of is not None:
            raise SerfError(f"the agent sent a header where the body of {self._body_of.seq} was due")
        self._body_may_come = False
        if seq in self._waiting:
            command = self._waiting.pop(seq)
            if not error and command == "stream":
                self._streams.add(seq)
            if not error and command in _WITH_BODY:
                self._body_of = Response(seq, "", {})
                return None
            self._body_may_come = True
            return Response(seq, error, {})
        if seq not in self._streams:
            raise SerfError(f"the agent answered a request of number {seq}, which nobody made")
        if error:
            raise SerfError(f"the agent ended a stream: {error}")
        self._body_of = Record(seq, {})
        return None

    def _body(self, body: Body) -> Response | Record | None:
        header, self._body_of = self._body_of, None
        match header:
            case Response(seq, error):
                return Response(seq, error, body)
            case Record(seq):
                return Record(seq, body)
            case None if self._body_may_come:
                self._body_may_come = False
                return None
        raise SerfError("the agent sent a body that no header announced")


# What bodies say


def members_in(body: Body) -> tuple[SerfMember, ...]:
    """The members that a response or a record lists."""
    listed = body.get(b"Members")
    if listed is None:
        return ()  # Go writes an empty list as nil
    if not isinstance(listed, list):
        raise SerfError("the agent sent members that are no list")
    return tuple(_member(member) for member in listed)


def event_in(body: Body) -> SerfEvent:
    """The event of a stream's record."""
    return SerfEvent(_text(body, b"Event"), members_in(body))


def coordinate_in(body: Body) -> Coordinate | None:
    """The coordinate in a response; None when the agent has none yet."""
    if body.get(b"Ok") is not True:
        return None
    found = body.get(b"Coord")
    if not isinstance(found, dict):
        raise SerfError("the agent sent a coordinate that is no map")
    vector = found.get(b"Vec")
    if not isinstance(vector, list) or len(vector) > 64:
        raise SerfError("the agent sent a coordinate without a vector")
    return Coordinate(
        tuple(_real(number) for number in vector),
        _real(found.get(b"Height")),
        _real(found.get(b"Adjustment")),
    )


def joined_in(body: Body) -> int:
    """How many members a join has reached."""
    return _integer(body, b"Num")


def statistics_in(body: Body) -> dict[str, dict[str, str]]:
    """What `stats` tells, by section."""
    return {_decoded(section): _strings(values) for section, values in body.items() if isinstance(values, dict)}


def _member(member: object) -> SerfMember:
    if not isinstance(member, dict):
        raise SerfError("the agent sent a member that is no map")
    address = member.get(b"Addr")
    try:
        host = str(ipaddress.ip_address(address)) if isinstance(address, bytes) and address else ""
    except ValueError as error:
        raise SerfError(f"the agent sent an address of {len(address or b'')} bytes") from error
    return SerfMember(
        name=_text(member, b"Name"),
        address=host,
        port=_integer(member, b"Port"),
        status=_text(member, b"Status"),
        tags=_strings(member.get(b"Tags")),
    )


def _strings(values: object) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SerfError("the agent sent tags that are no map")
    return {_decoded(key): _decoded(value) for key, value in values.items()}


def _text(body: Body, key: bytes) -> str:
    return _decoded(body.get(key))


def _decoded(value: object) -> str:
    if not isinstance(value, bytes):
        raise SerfError(f"the agent sent a {type(value).__name__} where a string was due")
    return value.decode("utf-8", "replace")


def _integer(body: Body, key: bytes) -> int:
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SerfError(f"the agent sent {key.decode()} as a {type(value).__name__}, not a number")
    return value


def _real(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise SerfError("the agent sent a coordinate that is no number")
    return float(value)
