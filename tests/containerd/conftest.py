from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.containerd.daemon import Containerd


@pytest.fixture
def absent_containerd() -> Iterator[Containerd]:
    """One that is not started yet."""
    containerd = Containerd()
    yield containerd
    containerd.close()


@pytest.fixture
def containerd(absent_containerd: Containerd) -> Containerd:
    absent_containerd.start()
    return absent_containerd


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor
