"""Images by skopeo, from a real registry through the mirror, to nodes that then do without the registry."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node, wait_until_agreed
from tests.support.oci import Image, blobs_of, hash_of, make_image
from tests.support.program import installed
from tests.support.registry import Registry

pytestmark = [pytest.mark.xdist_group("images")]

GIB = 1 << 30
NAME = "team/large"


@pytest.fixture(scope="module")
def image(new_folder: Callable[[], Path], registry: Registry) -> Image:
    """Two platforms, one with a layer of 1 GiB; in the registry."""
    image = make_image(new_folder() / "image", {"amd64": [GIB, 3 << 20, 100], "arm64": [5 << 20, 1]})
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{image.layout}:1", f"docker://{registry.netloc}/{NAME}:1")
    return image


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, registry: Registry) -> list[Node]:
    return cluster(2, "--registry", f"reg.test={registry.url}", "--default-registry", "reg.test")


@pytest.fixture(scope="module")
def pulled(nodes: list[Node], image: Image, new_folder: Callable[[], Path]) -> dict[str, int]:
    """What came of pulling the image through the first node."""
    return copy(nodes[0], new_folder())


def skopeo(*arguments: str) -> str:
    run = subprocess.run(
        [installed("skopeo", "skopeo"), "--insecure-policy", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, f"skopeo {' '.join(arguments)}: {run.stderr}"
    return run.stdout


def copy(node: Node, folder: Path) -> dict[str, int]:
    """Pull the image through a node; the blobs that came, each of which hashes to its name."""
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{node.netloc}/{NAME}:1", f"oci:{folder}/copied:1")
    blobs = blobs_of(folder / "copied")
    for digest in blobs:
        assert hash_of(folder / "copied/blobs/sha256" / digest.removeprefix("sha256:")) == digest
    shutil.rmtree(folder / "copied")
    return blobs


def inspect(node: Node, *arguments: str) -> str:
    return skopeo("inspect", "--tls-verify=false", *arguments, f"docker://{node.netloc}/{NAME}:1")


def test_a_pull_through_the_mirror_yields_the_registrys_digests(
    pulled: dict[str, int], image: Image, registry: Registry
) -> None:
    assert pulled == image.blobs
    large = image.layers[0]
    assert image.blobs[large] > GIB
    assert registry.sent_of(large) <= image.blobs[large] + 1, "the registry sends it once, and a byte to tell its size"


def test_skopeo_inspects_through_the_mirror(nodes: list[Node], image: Image) -> None:
    raw = inspect(nodes[0], "--raw")
    assert f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" == image.index
    assert image.layers[0] in inspect(nodes[0], "--no-tags", "--override-arch=amd64")
    assert image.layers[-1] in inspect(nodes[0], "--no-tags", "--override-arch=arm64")


def test_a_second_node_does_it_with_the_registry_stopped(
    nodes: list[Node], pulled: dict[str, int], registry: Registry, tmp_path: Path
) -> None:
    wait_until_agreed(nodes)
    with registry.program.away():
        assert copy(nodes[1], tmp_path) == pulled
        assert inspect(nodes[1], "--raw") == inspect(nodes[0], "--raw")
    assert nodes[1].metric("peerd_received_bytes_total", source="upstream") == 0


def test_a_sha512_blob_is_read_whole_and_in_ranges(nodes: list[Node], registry: Registry) -> None:
    data = made.content("sha512", 3_000_000)
    digest = registry.push_blob("team/other", data, "sha512")
    for node in nodes:
        whole = node.ask(f"/v2/team/other/blobs/{digest}")
        assert (whole.status, whole.headers["docker-content-digest"]) == (200, digest)
        assert whole.body == data
        part = node.ask(f"/v2/team/other/blobs/{digest}", headers={"Range": "bytes=1000000-2999999"})
        assert (part.status, part.body) == (206, data[1_000_000:])
