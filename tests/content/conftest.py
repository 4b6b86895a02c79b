from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """The threads of fake sources."""
    with ThreadPoolExecutor(8) as executor:
        yield executor
