"""The demo: its images are images, its registry counts what it sends, and its judgement is not to be fooled."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from app.client.manifest import Platform
from app.demo.acts import Act, Row, SentBlob, faults
from app.demo.image import Image, make_image
from app.demo.registry import Registry

MIB = 2**20


def asked(registry: Registry, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{registry.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_an_image_consists_of_what_it_says(image: Image) -> None:
    (entry,) = json.loads(image.index.data)["manifests"]
    manifest = json.loads(image.manifest.data)
    config, *layers = image.blobs
    assert entry["digest"] == str(image.manifest.digest)
    assert [part["digest"] for part in (manifest["config"], *manifest["layers"])] == [
        str(blob.digest) for blob in image.blobs
    ]
    assert json.loads(config.data)["rootfs"]["diff_ids"] == [str(layer.digest) for layer in layers]


def test_two_images_share_no_layer() -> None:
    one, other = (make_image(4096, Platform.here()) for _ in range(2))
    assert not {layer.digest for layer in one.blobs} & {layer.digest for layer in other.blobs}


class TestRegistry:
    def test_counts_the_bytes_of_ranges(self, registry: Registry, image: Image) -> None:
        registry.push("app", "v1", image)
        blob = image.blobs[1]
        status, headers, body = asked(registry, f"/v2/app/blobs/{blob.digest}", Range="bytes=10-19")
        assert (status, body) == (206, blob.data[10:20])
        assert headers["Content-Range"] == f"bytes 10-19/{len(blob.data)}"
        assert asked(registry, f"/v2/app/blobs/{blob.digest}", Range="bytes=20-")[2] == blob.data[20:]
        assert (registry.requests_for(blob), registry.bytes_sent_of(blob)) == (2, len(blob.data) - 10)

    def test_does_not_count_a_head(self, registry: Registry, image: Image) -> None:
        registry.push("app", "v1", image)
        blob = image.blobs[1]
        request = urllib.request.Request(f"http://127.0.0.1:{registry.port}/v2/app/blobs/{blob.digest}", method="HEAD")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert int(answer.headers["Content-Length"]) == len(blob.data)
        assert registry.bytes_sent_of(blob) == 0

    def test_has_a_manifest_by_tag_and_by_digest(self, registry: Registry, image: Image) -> None:
        registry.push("app", "v1", image)
        by_tag = asked(registry, "/v2/app/manifests/v1?ns=demo.example")
        by_digest = asked(registry, f"/v2/app/manifests/{image.index.digest}")
        assert by_tag[2] == by_digest[2] == image.index.data
        assert by_tag[1]["Docker-Content-Digest"] == str(image.index.digest)

    @pytest.mark.parametrize("path", ["/v2/app/manifests/v2", "/v2/app/blobs/sha256:0", "/", "/v2/../../etc/passwd"])
    def test_has_nothing_else(self, path: str, registry: Registry, image: Image) -> None:
        registry.push("app", "v1", image)
        assert asked(registry, path)[0] == 404

    def test_refuses_a_range_behind_the_end(self, registry: Registry, image: Image) -> None:
        registry.push("app", "v1", image)
        blob = image.blobs[0]
        status, headers, _ = asked(registry, f"/v2/app/blobs/{blob.digest}", Range=f"bytes={len(blob.data)}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(blob.data)}")


def row(node: str, *, peer: int, upstream: int) -> Row:
    served = {"cache": 0, "peer": peer, "upstream": upstream}
    return Row(node, 1.0, peer + upstream, "8 digests", served, {"peer": peer, "upstream": upstream})


GOOD = Act(
    "in turn",
    (row("node-1", peer=0, upstream=100), row("node-2", peer=95, upstream=5), row("node-3", peer=100, upstream=0)),
    (SentBlob("a", 100, 1, 100), SentBlob("b", 50, 3, 51)),
)


class TestJudgement:
    def test_is_content_with_95_percent_from_peers_and_one_copy(self) -> None:
        assert faults(GOOD) == []

    def test_names_the_node_that_took_less(self) -> None:
        rows = (GOOD.rows[0], row("node-2", peer=94, upstream=6), GOOD.rows[2])
        (fault,) = faults(replace(GOOD, rows=rows))
        assert fault.startswith("node-2 took 94.0%")

    @pytest.mark.parametrize("sent", [99, 102, 200], ids=["less than once", "a little more", "twice"])
    def test_names_the_blob_that_was_not_sent_once(self, sent: int) -> None:
        (fault,) = faults(replace(GOOD, blobs=(SentBlob("a", 100, 1, sent),)))
        assert f"sent {sent} bytes of a" in fault

    def test_counts_copies_over_all_blobs(self) -> None:
        assert replace(GOOD, blobs=(SentBlob("a", 100, 1, 100), SentBlob("b", 100, 1, 200))).copies == 1.5


def start(*words: str, log: Path) -> subprocess.Popen[bytes]:
    # Who starts tests in the background of a script has it ignore SIGINT, and all its children.
    around = ["env", "--default-signal=INT"]
    command = [*around, sys.executable, "-m", "app.cli", "demo", "--image-size", "2MiB", *words]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"TMPDIR": str(log.parent)}
        )


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until_kept(demo: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while "Stop:" not in log.read_text():
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    demo = start(log=tmp_path / "log")
    code = demo.wait(120)
    told = (tmp_path / "log").read_text()
    assert code == 0, told
    assert told.count("Upstream copies: ") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_node_outlives_the_demo(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    demo = start("--nodes", "2", "--keep", log=log)
    try:
        until_kept(demo, log)
        nodes = children(demo.pid)
        assert len(nodes) == 2
    finally:
        demo.send_signal(number)
    assert demo.wait(60) == (-number if number == signal.SIGKILL else 0)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.1)
