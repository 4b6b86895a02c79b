"""Conditional requests (RFC 9110, section 13), for contents that have an entity tag or a time of change. Pure."""

import re
from email.utils import parsedate_to_datetime

_TAG = re.compile(r'(?:W/)?"[^"]*"')


def if_match_holds(header: str | None, etag: str | None) -> bool:
    """Section 13.1.1: strong comparison; a weak tag never matches."""
    if header is None:
        return True
    if header.strip() == "*":
        return True
    return etag is not None and not etag.startswith("W/") and etag in _TAG.findall(header)


def if_none_match_holds(header: str | None, etag: str | None) -> bool:
    """Section 13.1.2: weak comparison. False means that the client has it already: 304."""
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return etag is None or etag.removeprefix("W/") not in (tag.removeprefix("W/") for tag in _TAG.findall(header))


def if_range_holds(header: str | None, etag: str | None, last_modified: str | None) -> bool:
    """Section 13.1.5: strong comparison of a tag, or an exact match of the time. False: `Range` is ignored."""
    if header is None:
        return True
    text = header.strip()
    if text.startswith(('"', "W/")):
        return etag is not None and text == etag and not text.startswith("W/")
    if last_modified is None:
        return False
    try:
        return parsedate_to_datetime(text) == parsedate_to_datetime(last_modified)
    except (TypeError, ValueError):
        return False
