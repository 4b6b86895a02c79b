from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.kube_apiserver import KubeApiserver, installed, running_kube_apiserver
from tests.kubernetes.stand_in import StandIn


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    folder = tmp_path / "api-server"
    folder.mkdir()
    with StandIn(folder).running() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def kube_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiserver]:
    if not installed():
        pytest.skip("no kube-apiserver and etcd on PATH: the stand-in alone is asked")
    with running_kube_apiserver(tmp_path_factory.mktemp("kube-apiserver")) as server:
        yield server


@pytest.fixture(params=["stand_in", "kube_apiserver"])
def server(request: pytest.FixtureRequest) -> StandIn | KubeApiserver:
    """Each of both."""
    found: StandIn | KubeApiserver = request.getfixturevalue(request.param)
    return found
