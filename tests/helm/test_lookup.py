"""What the chart finds in the cluster is kept, and what is not its own is left alone: Helm with an API server."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.api_server import ADMINISTRATOR, ApiServer
from tests.helm.chart import CHART, Document, helm, only


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer().running() as api:
        yield api


def looked_up(api: ApiServer, folder: Path, *words: str) -> list[Document]:
    """What would be installed there."""
    kubeconfig = api.kubeconfig(folder / "kubeconfig", ADMINISTRATOR)
    run = helm("template", "peerd", CHART, "--dry-run=server", "--kubeconfig", kubeconfig, *words)
    assert run.returncode == 0, run.stderr
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def namespace(**annotations: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "peerd-ns", "annotations": annotations}}


@pytest.mark.parametrize("name", ["peerd-ca", "peerd-serf"])
def test_a_secret_that_is_there_is_kept_as_it_is(name: str, api: ApiServer, tmp_path: Path) -> None:
    first = only(looked_up(api, tmp_path), "Secret", name)
    assert only(looked_up(api, tmp_path), "Secret", name)["data"] != first["data"]
    api.put(first)
    assert only(looked_up(api, tmp_path), "Secret", name)["data"] == first["data"]


def test_serfs_key_is_one_that_serf_takes(api: ApiServer, tmp_path: Path) -> None:
    (content,) = only(looked_up(api, tmp_path), "Secret", "peerd-serf")["data"].values()
    assert len(base64.b64decode(base64.b64decode(content), validate=True)) == 32


def test_a_namespace_of_somebody_elses_is_not_taken(api: ApiServer, tmp_path: Path) -> None:
    """Helm would delete it with the release."""
    api.put(namespace())
    assert "Namespace" not in {one["kind"] for one in looked_up(api, tmp_path)}
    api.put(namespace(**{"meta.helm.sh/release-name": "other"}))
    assert "Namespace" not in {one["kind"] for one in looked_up(api, tmp_path)}


def test_a_namespace_that_the_release_made_stays_in_it(api: ApiServer, tmp_path: Path) -> None:
    """Helm would delete it at the upgrade that leaves it out."""
    api.put(namespace(**{"meta.helm.sh/release-name": "peerd"}))
    assert only(looked_up(api, tmp_path), "Namespace", "peerd-ns")
