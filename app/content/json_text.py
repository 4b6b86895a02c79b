"""JSON from outside: from members, upstreams, or a disk that rots."""

import json
from typing import Any


def parsed(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError where it is none, or nested more deeply than Python can follow."""
    try:
        return json.loads(text)
    except RecursionError:  # Not a ValueError by itself: a thousand brackets in a row would be our mistake.
        raise ValueError("JSON that is nested too deeply") from None
