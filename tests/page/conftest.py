"""Three nodes in two zones, a registry that can be held back, and a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.demo.registry import serving
from tests.conftest import Cluster
from tests.operations.images import NAME, GatedRegistry
from tests.page.browser import WIDE, Browser, running_browser
from tests.support.nodes import INSECURE, Node


@pytest.fixture(scope="module")
def images() -> Iterator[GatedRegistry]:
    registry = GatedRegistry()
    with serving(registry):
        yield registry


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, images: GatedRegistry) -> list[Node]:
    zones = [[*INSECURE, "--zone", zone] for zone in ("west-1", "west-1", "west-2")]
    registry = f"{NAME}=http://127.0.0.1:{images.port}"
    options = ("--registry", registry, "--cache-size", "256MiB", "--chunk-size", "1MiB", "--tag-ttl", "1s")
    return cluster(3, *options, trust=zones)


@pytest.fixture(scope="module")
def one_browser(new_folder: Callable[[], Path]) -> Iterator[Browser]:
    with running_browser(new_folder()) as browser:
        yield browser


@pytest.fixture
def page(one_browser: Browser, nodes: list[Node]) -> Browser:
    """The page of the first node, drawn."""
    one_browser.show_on(WIDE)
    one_browser.open(f"http://{nodes[0].netloc}/")
    one_browser.wait_until(lambda: one_browser.text("#live") == "live", "live")
    one_browser.wait_until(lambda: "3 alive" in one_browser.text("#tile-health"), "showing three that are alive")
    return one_browser
