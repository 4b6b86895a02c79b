"""What can be wrong with a source, as conducts of fake ones."""

import hashlib

from app.content.byte_range import ByteRange
from app.content.source import Sink
from app.errors import (
    ContentChanged,
    RangesUnsupported,
    SourceLied,
    SourceUnavailable,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tests.content.heart import CHUNK, Conduct, dies, good, ignores_ranges


def _begin(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    count = min(conduct.right, len(span))
    if count:
        good(conduct, data, ByteRange(span.start, span.start + count), sink)


def short(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Returns as if all was sent, and it was not."""
    _begin(conduct, data, span, sink)


def long(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Sends more than was asked for."""
    good(conduct, data, span, sink)
    sink.write(b"and then some")


def wrong_content_range(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Noticed by who reads its headers, before a byte."""
    raise SourceLied("answers with other bytes")


def breaks_ranges_off(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Ignores ranges, and the whole that it sends breaks off."""
    if not span.covers(len(data)):
        raise RangesUnsupported("answers with the whole")
    dies(conduct, data, span, sink)


def changed(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """Another version, from some byte on."""
    _begin(conduct, data, span, sink)
    raise ContentChanged("another ETag")


def refused(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    raise UpstreamRefused("401", status=401)


def unavailable(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    _begin(conduct, data, span, sink)
    raise UpstreamUnavailable("503", retry_after_seconds=1.0)


def _chunk(data: bytes, span: ByteRange) -> bytes:
    start = span.start // CHUNK * CHUNK
    return data[start : start + CHUNK]


def _spoilt(data: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in data)


def honest(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """A member: says the checksum first."""
    sink.expect_checksum(hashlib.sha256(_chunk(data, span)).digest())
    good(conduct, data, span, sink)


def honest_and_dies(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    sink.expect_checksum(hashlib.sha256(_chunk(data, span)).digest())
    dies(conduct, data, span, sink)


def rotten(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """A member that says the right checksum, and whose bytes are wrong from some byte on."""
    sink.expect_checksum(hashlib.sha256(_chunk(data, span)).digest())
    count = min(conduct.right, len(span) - 1)
    if count:
        good(conduct, data, ByteRange(span.start, span.start + count), sink)
    sink.write(_spoilt(data[span.start + count : span.stop]))


def says_no_checksum(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """A member that wants to be believed without one."""
    sink.write(_spoilt(data[span.start : span.stop]))


def consistent_liar(conduct: Conduct, data: bytes, span: ByteRange, sink: Sink) -> None:
    """A member whose checksum is that of its own wrong bytes: only the whole's digest tells."""
    lie = _spoilt(_chunk(data, span))
    sink.expect_checksum(hashlib.sha256(lie).digest())
    start = span.start % CHUNK
    sink.write(lie[start : start + len(span)])


UPSTREAM_FAULTS = (
    dies,
    short,
    long,
    wrong_content_range,
    ignores_ranges,
    breaks_ranges_off,
    changed,
    refused,
    unavailable,
)
PEER_FAULTS = (honest, honest_and_dies, rotten, says_no_checksum, short, wrong_content_range)
__all__ = ["PEER_FAULTS", "UPSTREAM_FAULTS", "SourceUnavailable", "consistent_liar", "honest", "rotten"]
