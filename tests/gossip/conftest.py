"""What several tests of the library need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Poll until something holds; what does not hold in time is told with its last value."""

    async def poll(holds: Callable[[], object], *, within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while not (value := holds()):
            assert time.monotonic() < deadline, f"not within {within_s} s: {value!r}"
            await asyncio.sleep(0.01)

    return poll
