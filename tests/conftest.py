"""Real servers for tests that go from end to end; the machinery is in tests/support."""

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.blob_store import BlobStore, running_blob_store
from tests.support.nodes import Node, running_nodes
from tests.support.origin import Origin
from tests.support.program import RUNNING
from tests.support.registry import Registry, running_registry
from tests.support.tables import figures, pytest_terminal_summary

__all__ = ["figures", "pytest_terminal_summary"]

Cluster = Callable[..., list[Node]]


@pytest.fixture(scope="module")
def new_folder() -> Iterator[Callable[[], Path]]:
    """Makes folders for what is too large to be kept after the module, as pytest's own are."""
    with ExitStack() as stack:
        yield lambda: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peerd-tests-")))


@pytest.fixture(scope="module")
def registry(new_folder: Callable[[], Path]) -> Iterator[Registry]:
    with running_registry(new_folder()) as registry:
        yield registry


@pytest.fixture(scope="module")
def htpasswd_registry(new_folder: Callable[[], Path]) -> Iterator[Registry]:
    with running_registry(new_folder(), with_password=True) as registry:
        yield registry


@pytest.fixture(scope="module")
def blob_store(new_folder: Callable[[], Path]) -> Iterator[BlobStore]:
    with running_blob_store(new_folder()) as blob_store:
        yield blob_store


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin.running() as origin:
        yield origin


@pytest.fixture(scope="module")
def cluster(new_folder: Callable[[], Path]) -> Iterator[Cluster]:
    """`cluster(3, "--no-prefetch")`: nodes that know each other, until the module's end."""
    with ExitStack() as stack:
        yield lambda count, *options, **more: stack.enter_context(running_nodes(new_folder(), count, *options, **more))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside what failed stand the logs of the servers that run."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {program.name}", program.tail()) for program in RUNNING]
    return report
