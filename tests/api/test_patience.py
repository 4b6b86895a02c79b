"""How long a mirror's client is let wait for its first byte."""

import asyncio
import itertools
from typing import Any

import pytest

from app.routes.sending import _Patience


async def test_progress_in_the_moment_in_which_the_limit_expires_comes_too_late() -> None:
    loop, failures = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            patience = _Patience(limit, itertools.count().__next__, 60.0)
            limit.reschedule(loop.time())
            loop.call_soon(patience._look_again)
            await asyncio.sleep(60)
    assert not failures
