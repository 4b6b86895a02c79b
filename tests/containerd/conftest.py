from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.containerd.daemon import Containerd
from tests.containerd.fleet import Fleet, running_fleet


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


@pytest.fixture(scope="module")
def fleet(new_folder: Callable[[], Path]) -> Iterator[Fleet]:
    """Three machines."""
    with running_fleet(new_folder(), 3) as fleet:
        yield fleet
