from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest

from app.upstream.config import UpstreamConfig
from app.upstream.source import UpstreamSource
from tests.upstream.reading import LOOPBACK, VirtualTime


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
async def opened(executor: ThreadPoolExecutor, time: VirtualTime) -> AsyncIterator[Callable]:
    """Opens sources that end with the test: `await opened()` for loopback, or with a configuration and more."""
    async with AsyncExitStack() as stack:

        async def open_source(config: UpstreamConfig = LOOPBACK, **arguments) -> UpstreamSource:
            arguments.setdefault("patience", time.patience())
            return await stack.enter_async_context(UpstreamSource.open(config, executor, **arguments))

        yield open_source


@pytest.fixture
async def source(opened: Callable) -> UpstreamSource:
    """A source that may ask loopback, and whose pauses take no time."""
    return await opened()
