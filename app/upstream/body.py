"""Whether an answer is what was asked for, and its body into a sink.

Owns: distrust of upstream. An answer to a range is believed only when it says which bytes it has, of how many, and of which
version; a body only when it has as many bytes as it has to. What a client is shown comes straight from here, and a byte in
the wrong place is a corrupt disk in somebody's container.
"""

import re
import threading
from collections.abc import Mapping

from app.content.byte_range import ByteRange
from app.content.source import Sink, Stat
from app.content.validator import Validator
from app.errors import ContentChanged, PeerdError, RangesUnsupported, SourceLied, SourceUnavailable
from app.http1 import Response
from app.upstream.exchange import Answer, failure
from app.upstream.pinned import CONNECTION_ERRORS, reason

# Small enough that a body which stops is noticed with little lost, large enough that Python is not what limits it.
_PIECE_BYTES = 256 * 1024
_of_thread = threading.local()

# RFC 9110, section 14.4: Content-Range = "bytes" SP first "-" last "/" ( complete-length / "*" ), or "bytes */" length.
_CONTENT_RANGE = re.compile(r"bytes +(?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)", re.IGNORECASE)


def content_range(headers: Mapping[str, str]) -> tuple[ByteRange | None, int | None]:
    """The range and the complete length that `Content-Range` says; either may be left unsaid. Raises SourceLied."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        raise SourceLied("upstream answers with a part and does not say which")
    first, last, total = match.groups()
    try:
        span = None if first is None else ByteRange(int(first), int(last) + 1)
    except ValueError as error:
        raise SourceLied(f"upstream answers with bytes {first}-{last}, which is no range") from error
    return span, None if total == "*" else int(total)


def content_length(headers: Mapping[str, str]) -> int | None:
    """What `Content-Length` says; None where the body is chunked or ends with the connection. Raises SourceLied."""
    if "Transfer-Encoding" in headers:
        return None
    length = headers.get("Content-Length")
    if length is None:
        return None
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise SourceLied("upstream's Content-Length is not a number")
    return int(length)


def refuse_encoded(headers: Mapping[str, str]) -> None:
    """Raise SourceLied for a body that is not the bytes themselves, since nothing but `identity` was asked for."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceLied(f"upstream sends Content-Encoding {encoding[:32]!r} though identity was asked for")


def check_part(answer: Answer, span: ByteRange, stat: Stat, *, immutable: bool) -> None:
    """Raise unless `answer` has exactly the bytes `span` of the version that `stat` describes.

    Args:
        answer: to a request for `span`.
        span: of a content of `stat.size` bytes.
        stat: from the first look at the content.
        immutable: the content is named by its digest at a registry: another `ETag` then only means another replica.

    Raises:
        ContentChanged: it is another version's.
        RangesUnsupported: it is the whole, of the right version.
        SourceLied: it contradicts itself, or the first look.
        other: what its status says.
    """
    if answer.status == 416:
        raise ContentChanged(
            f"upstream has no bytes {span.start} to {span.stop} any more, where there were {stat.size}"
        )
    if answer.status not in (200, 206):
        raise failure(answer, "the bytes")
    refuse_encoded(answer.headers)
    if answer.status == 200:
        _check_version(answer.headers, content_length(answer.headers), stat, immutable=immutable)
        raise RangesUnsupported(
            f"upstream answers with the whole where bytes {span.start} to {span.stop} were asked for"
        )
    got, total = content_range(answer.headers)
    _check_version(answer.headers, total, stat, immutable=immutable)
    if got != span:
        raise SourceLied(f"upstream answers with {_named(got)} where bytes {span.start} to {span.stop} were asked for")
    if total is not None and total != stat.size:
        raise SourceLied(f"upstream says {total} bytes in all where it said {stat.size} before")
    length = content_length(answer.headers)
    if length is not None and length != len(span):
        raise SourceLied(f"upstream sends {length} bytes as a part of {len(span)}")


def check_whole(answer: Answer, stat: Stat, *, immutable: bool) -> None:
    """Raise unless `answer` begins with the first byte of the version that `stat` describes; as `check_part` does."""
    if answer.status != 200:
        if answer.status in (206, 416):
            raise SourceLied(f"upstream answers {answer.status} though no range was asked for")
        raise failure(answer, "the bytes")
    refuse_encoded(answer.headers)
    length = content_length(answer.headers)
    _check_version(answer.headers, stat.size if length is None else length, stat, immutable=immutable)
    if None not in (length, stat.size) and length != stat.size:
        raise SourceLied(f"upstream says {length} bytes in all where it said {stat.size} before")


def pour(response: Response, sink: Sink, size: int | None, *, from_whole: bool = False) -> bool:
    """Put a body into `sink`, in a thread; returns whether it was read to its end, so that the connection can be kept.

    Args:
        response: whose body was not touched.
        sink: takes the bytes.
        size: how many bytes there have to be; None: as many as come, and the framing says when it ends.
        from_whole: only the first `size` bytes are wanted of a body that goes on.

    Raises:
        SourceUnavailable: it ended early.
        SourceLied: it goes on after `size` bytes.
        Abandoned: nobody wants the rest.
    """
    buffer = _buffer()
    count = 0
    while not (from_whole and count == size):
        # One byte more than there is to come, where there must be none.
        room = len(buffer) if size is None else min(len(buffer), size - count + (not from_whole))
        try:
            got = response.readinto(buffer[:room])
        except CONNECTION_ERRORS as error:
            raise _ended(count, size, reason(error)) from error
        if not got:
            if response.length or (size is not None and count < size):
                raise _ended(count, size, "closed")
            return True
        if size is not None and count + got > size:
            raise SourceLied(f"upstream sends more than the {size} bytes that there are")
        sink.write(buffer[:got])
        count += got
    return False


def _buffer() -> memoryview:
    """This thread's own: new memory for each piece costs as much as reading it."""
    buffer: memoryview | None = getattr(_of_thread, "buffer", None)
    if buffer is None:
        buffer = _of_thread.buffer = memoryview(bytearray(_PIECE_BYTES))
    return buffer


def _ended(count: int, size: int | None, why: str) -> PeerdError:
    total = "an unknown number of" if size is None else size
    return SourceUnavailable(f"upstream ended after {count} of {total} bytes: {why}")


def _check_version(headers: Mapping[str, str], size: int | None, stat: Stat, *, immutable: bool) -> None:
    """Raise ContentChanged when the answer carries another validator, SourceLied when it carries none where it has to."""
    if immutable or stat.validator is None:
        return
    # Like is compared with like: a replica may send an ETag where the first one only had a time.
    if stat.validator.etag is None:
        headers = {"Last-Modified": headers["Last-Modified"]} if "Last-Modified" in headers else {}
    elif "ETag" in headers:
        headers = {"ETag": headers["ETag"]}
    else:
        headers = {}
    if not headers:
        # RFC 9110, section 15.3.7: a 206 has to carry the ETag that a 200 would have; and Last-Modified too, unless
        # If-Range was sent. Without it nobody can tell whether this part belongs to the others.
        raise SourceLied("upstream answers without the validator that it gave before")
    validator = Validator.of_headers(headers, size)
    if validator != stat.validator:
        raise ContentChanged(f"upstream has another version by now: {validator} instead of {stat.validator}")


def _named(span: ByteRange | None) -> str:
    return "no bytes" if span is None else f"bytes {span.start} to {span.stop}"
