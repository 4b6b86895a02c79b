"""What several tests of the library need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.support.tables import Figures

PATIENCE = 10
"""A machine under load is slower than what is promised; it is waited for so many times as long, and the figure is printed."""


@pytest.fixture
def until(figures: Figures) -> Callable[..., Awaitable[None]]:
    """Poll until something holds; what does not hold in time is told with its last value.

    `told` names a line of the table of seconds at the end of the run.
    """

    async def poll(holds: Callable[[], object], *, within_s: float = 10.0, told: str | None = None) -> None:
        began = time.monotonic()
        while not (value := holds()):
            assert time.monotonic() < began + PATIENCE * within_s, f"not within {PATIENCE * within_s} s: {value!r}"
            await asyncio.sleep(0.01)
        if told is not None:
            seconds = time.monotonic() - began
            figures("Seconds until members know", {"what": told, "seconds": f"{seconds:.2f}", "goal": within_s})

    return poll
