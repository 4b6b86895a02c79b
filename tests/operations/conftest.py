"""A cluster of three, a registry that can be held back, and the client of the commands."""

from collections.abc import Callable, Iterator

import pytest

from app.client.node import Node as NodeClient
from app.demo.registry import serving
from tests.conftest import Cluster
from tests.operations.images import NAME, GatedRegistry
from tests.support.nodes import Node


@pytest.fixture(scope="module")
def images() -> Iterator[GatedRegistry]:
    registry = GatedRegistry()
    with serving(registry):
        yield registry


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, images: GatedRegistry) -> list[Node]:
    return cluster(3, "--registry", f"{NAME}=http://127.0.0.1:{images.port}", "--chunk-size", "1MiB", "--tag-ttl", "1s")


@pytest.fixture(scope="module")
def client() -> Callable[[Node], NodeClient]:
    """What the commands speak to a node with."""
    return lambda node: NodeClient(f"http://{node.netloc}")
