from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.consent.parties import PrivateRegistry, SignedStore, running_private_registry, running_signed_store


@pytest.fixture(scope="module")
def private(new_folder: Callable[[], Path]) -> Iterator[PrivateRegistry]:
    with running_private_registry(new_folder()) as private:
        yield private


@pytest.fixture(scope="module")
def signed_store(new_folder: Callable[[], Path]) -> Iterator[SignedStore]:
    with running_signed_store(new_folder()) as store:
        yield store
