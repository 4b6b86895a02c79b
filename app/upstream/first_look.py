"""The first look at a content: its size, its version, and whether it can be had in parts.

Owns: what `GET` with `Range: bytes=0-0` tells. Not `HEAD`: a presigned URL is signed for one method, and what `HEAD` says
of ranges is a promise, while a 206 is one kept.
"""

from collections.abc import Awaitable, Callable, Mapping

from app.content.byte_range import ByteRange
from app.content.source import Stat
from app.content.validator import Validator
from app.errors import SourceLied
from app.upstream.body import content_length, content_range, refuse_encoded
from app.upstream.exchange import Answer, failure

RANGE_OF_ONE_BYTE = {"Range": "bytes=0-0"}
WHOLE: Mapping[str, str] = {}

AskFor = Callable[[Mapping[str, str]], Awaitable[Answer]]
"""Asks for the content with these headers."""


async def first_look(ask_for: AskFor, what: str) -> Stat:
    """What is known of a content before its bytes; asks once, or twice where the content is empty.

    Raises:
        UpstreamRefused, UpstreamUnavailable, ContentUnknown: upstream's own words for `what`.
        SourceLied: it contradicts itself.
    """
    answer = await ask_for(RANGE_OF_ONE_BYTE)
    if answer.status == 416:
        # RFC 9110, section 15.5.17: no byte 0, so it is empty; but a 416 carries no validator and no media type.
        return _stat_of_whole(await ask_for(WHOLE), what, ranged=True)
    if answer.status != 206:
        return _stat_of_whole(answer, what, ranged=False)
    refuse_encoded(answer.headers)
    got, total = content_range(answer.headers)
    if got != ByteRange(0, 1) or total == 0:
        raise SourceLied("upstream answers with other bytes than the first, which was asked for")
    return _stat(answer.headers, total, ranged=True)


def _stat_of_whole(answer: Answer, what: str, *, ranged: bool) -> Stat:
    if answer.status != 200:
        raise failure(answer, what)
    refuse_encoded(answer.headers)
    size = content_length(answer.headers)
    return _stat(answer.headers, size, ranged=ranged and size == 0)


def _stat(headers: Mapping[str, str], size: int | None, *, ranged: bool) -> Stat:
    return Stat(
        size=size,
        validator=Validator.of_headers(headers, size),
        media_type=headers.get("Content-Type"),
        ranged=ranged,
        last_modified=headers.get("Last-Modified"),
    )
