"""`peerd pull`, through the demo's registry in a node's place and through a real registry, read back by skopeo."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.client.manifest import Platform
from app.demo.image import Document, Image, make_image
from app.demo.registry import Registry

Peerd = Callable[..., Any]
AMD64 = ("--platform", "linux/amd64")


def node_of(registry: Registry) -> tuple[str, str]:
    return "--node", f"http://127.0.0.1:{registry.port}"


def skopeo(*words: str) -> str:
    return subprocess.run(["skopeo", *words], check=True, capture_output=True, text=True).stdout


def test_an_image_is_verified_and_told_in_json(peerd: Peerd, registry: Registry, image: Image) -> None:
    registry.push("app", "v1", image)
    result = peerd("pull", *node_of(registry), *AMD64, "--json", "example.local/app:v1")
    assert result.exit_code == 0, result.stderr
    (pulled,) = json.loads(result.stdout)["pulled"]
    assert pulled["reference"] == "example.local/app:v1"
    assert pulled["digest"] == str(image.index.digest)
    assert pulled["size_bytes"] == image.size
    assert {part["digest"] for part in pulled["parts"]} == {str(one.digest) for one in (image.manifest, *image.blobs)}
    assert sum(pulled["bytes_by_source"].values()) == image.size


def test_without_a_terminal_there_is_a_line_for_each_content(peerd: Peerd, registry: Registry, image: Image) -> None:
    registry.push("app", "v1", image)
    lines = peerd("pull", *node_of(registry), *AMD64, "example.local/app:v1").stderr.splitlines()
    assert len(lines) == len(image.blobs) + 3
    assert sum(line.endswith(", verified") for line in lines) == len(image.blobs) + 1


def test_each_blob_is_asked_for_once(peerd: Peerd, registry: Registry, image: Image) -> None:
    registry.push("app", "v1", image)
    assert peerd("pull", *node_of(registry), *AMD64, "example.local/app:v1").exit_code == 0
    assert [registry.requests_for(blob) for blob in image.blobs] == [1] * len(image.blobs)


@pytest.mark.parametrize("platforms", [AMD64, ("--all-platforms",)], ids=["one platform", "all platforms"])
def test_an_oci_layout_is_one_to_skopeo(
    platforms: tuple[str, ...], peerd: Peerd, registry: Registry, image: Image, tmp_path: Path
) -> None:
    registry.push("app", "v1", image)
    layout = tmp_path / "layout"
    result = peerd("pull", *node_of(registry), *platforms, "--oci-layout", str(layout), "example.local/app:v1")
    assert result.exit_code == 0, result.stderr
    skopeo("copy", "--all", f"oci:{layout}:v1", f"dir:{tmp_path / 'copy'}")
    root = image.manifest if platforms == AMD64 else image.index
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == root.data
    assert not list(layout.rglob("*.partial"))


def test_a_layout_keeps_what_was_in_it_and_replaces_what_has_the_same_name(
    peerd: Peerd, registry: Registry, image: Image, tmp_path: Path
) -> None:
    other = make_image(4096, Platform("linux", "amd64"))
    registry.push("app", "v1", image)
    registry.push("app", "v2", other)
    layout = tmp_path / "layout"
    pull = ("pull", *node_of(registry), *AMD64, "--oci-layout", str(layout))
    assert peerd(*pull, "example.local/app:v1", "example.local/app:v2").exit_code == 0
    registry.push("app", "v1", other)
    assert peerd(*pull, "example.local/app:v1").exit_code == 0
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    named = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in entries}
    assert named == dict.fromkeys(("v1", "v2"), str(other.manifest.digest))
    assert len(entries) == 2


def test_a_folder_of_other_things_is_not_made_a_layout(peerd: Peerd, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = peerd("pull", *node_of(registry), "--oci-layout", str(tmp_path), "example.local/app:v1")
    assert result.exit_code == 1
    assert "is no OCI layout" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_bytes_that_do_not_verify_end_with_1_and_leave_no_file(
    peerd: Peerd, registry: Registry, image: Image, tmp_path: Path
) -> None:
    good = image.blobs[1]
    registry.push("app", "v1", image)
    registry.push_blob(Document(good.media_type, good.data[::-1], good.digest))
    result = peerd("pull", *node_of(registry), *AMD64, "--oci-layout", str(tmp_path / "l"), "example.local/app:v1")
    assert result.exit_code == 1
    assert str(good.digest) in result.stderr
    assert not (tmp_path / "l" / "index.json").exists()
    assert not (tmp_path / "l" / "blobs" / "sha256" / good.digest.hex).exists()
    assert not list((tmp_path / "l").rglob("*.partial"))


def test_a_reason_for_scripts(peerd: Peerd, registry: Registry) -> None:
    result = peerd("pull", *node_of(registry), "--json", "example.local/absent:v1")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["pulled"] == []
    assert "MANIFEST_UNKNOWN" in document["error"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("UPPER",), "no image reference", id="no image reference"),
        pytest.param(("--output", "f", "alpine"), "--output keeps the file of one URL", id="an image into a file"),
        pytest.param(("--oci-layout", "d", "http://h/f"), "--oci-layout keeps images", id="a file into a layout"),
        pytest.param(("--platform", "linux", "alpine"), "no platform", id="half a platform"),
        pytest.param(("--platform", "linux/arm", "--all-platforms", "alpine"), "exclude each other", id="one and all"),
        pytest.param(("--node", "127.0.0.1:5000", "alpine"), "no node's URL", id="a node without http://"),
    ],
)
def test_what_can_not_be_meant_ends_with_2(words: tuple[str, ...], told: str, peerd: Peerd, tmp_path: Path) -> None:
    result = peerd("pull", *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_no_node_ends_with_1_and_with_advice(peerd: Peerd) -> None:
    result = peerd("pull", "--node", "http://127.0.0.1:9", "alpine")
    assert result.exit_code == 1
    assert "peerd serve" in result.stderr


def test_a_file_is_kept_under_its_name_once_it_is_whole(scripted_node, peerd: Peerd, tmp_path: Path) -> None:
    data = bytes(100_000)
    headers = {"Content-Length": str(len(data)), "ETag": '"1"'}
    part = {"Content-Length": "99000", "Content-Range": f"bytes 1000-{len(data) - 1}/{len(data)}"}
    scripted = scripted_node((200, headers, data[:1000]), (206, part, data[1000:]))
    output = tmp_path / "file"
    url = "http://example.local/file?sig=secret"
    result = peerd("pull", "--node", scripted.node.url, "--output", str(output), url)
    assert result.exit_code == 0, result.stderr
    assert output.read_bytes() == data
    assert scripted.asked[0][0] == f"GET /blobs/{url} HTTP/1.1"
    assert "secret" not in result.stdout + result.stderr


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry (distribution), empty."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    program = shutil.which("docker-registry")
    assert program, "scripts/test_requirements.sh installs docker-registry"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not answers(f"http://{address}/v2/"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.URLError:
        return False


def test_an_image_of_a_real_registry_comes_out_as_it_went_in(
    peerd: Peerd, registry: Registry, image: Image, docker_registry: str, tmp_path: Path
) -> None:
    registry.push("app", "v1", image)
    pushed = f"docker://{docker_registry}/app:v1"
    skopeo(
        "copy",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"docker://127.0.0.1:{registry.port}/app:v1",
        pushed,
    )
    layout = tmp_path / "layout"
    words = ("pull", "--node", f"http://{docker_registry}", "--all-platforms", "--oci-layout", str(layout), "--json")
    result = peerd(*words, "example.local/app:v1")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pulled"][0]["digest"] == str(image.index.digest)
    assert skopeo("inspect", "--raw", f"oci:{layout}:v1").encode() == image.index.data
