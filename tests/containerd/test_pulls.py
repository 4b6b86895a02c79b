"""Images reach machines through each other: real containerd, registry and nodes, each on a host of its own."""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containerd.fleet import Fleet, Machine
from tests.containerd.kubelet import pull_image
from tests.containerd.oci import OciImage, build_image, image_of, layer, random_layer
from tests.support.program import installed
from tests.support.tables import Figures

pytestmark = [pytest.mark.xdist_group("containerd-pulls")]

MIB = 1 << 20
WITHDRAWN_WITHIN_SECONDS = 5
"""What is promised; a machine under load is waited for longer, and the figure is printed."""


@pytest.fixture(scope="module")
def busybox() -> bytes:
    """A program that needs nothing else."""
    return Path(installed("busybox", "busybox-static")).read_bytes()


@pytest.fixture(scope="module")
def make_image(busybox: bytes) -> Callable[[str], OciImage]:
    """Makes images whose containers have a shell, with 24 MiB of ballast."""
    return lambda label: image_of(
        [layer({"bin/busybox": busybox}), *(random_layer(f"{label}/{n}", 8 * MIB) for n in range(3))], label=label
    )


def test_what_one_machine_pulled_the_registry_sends_to_no_other(
    fleet: Fleet, make_image: Callable[[str], OciImage], busybox: bytes
) -> None:
    a, b, c = fleet.machines
    image = make_image("ctr")
    name = fleet.registry.publish(image, "team/ctr")
    a.pull(name)
    assert a.has(image)
    fleet.wait_until_told()
    asked = len(fleet.registry.log())
    for machine in (b, c):
        machine.pull(name)
        assert machine.has(image)
        said = machine.run(name, "/bin/busybox", "sha256sum", "/bin/busybox")
        assert said.split() == [hashlib.sha256(busybox).hexdigest(), "/bin/busybox"]
    later = fleet.registry.log()[asked:]
    assert not [line for line in later if "/blobs/" in line.target], "B and C have the registry send no blob"


def test_the_same_for_the_call_that_a_kubelet_makes(fleet: Fleet, make_image: Callable[[str], OciImage]) -> None:
    a, b, c = fleet.machines
    image = make_image("kubelet")
    name = fleet.registry.publish(image, "team/kubelet")
    before = sum(a.served().values())
    assert pull_image(a.containerd.socket, name) == str(image.config)
    assert a.has(image)
    assert sum(a.served().values()) - before > 24 * MIB, "containerd found the mirror by its config_path"
    fleet.wait_until_told()
    asked = len(fleet.registry.log())
    for machine in (b, c):
        assert pull_image(machine.containerd.socket, name) == str(image.config)
        assert machine.has(image)
        assert machine.run(name, "/bin/busybox", "echo", "runs") == "runs\n"
    assert not [line for line in fleet.registry.log()[asked:] if "/blobs/" in line.target]


def pulled_before_peerd(machine: Machine, name: str) -> None:
    """Have containerd hold an image that its peerd had no part in, and start that peerd anew."""
    machine.node.program.end()
    shutil.rmtree(machine.cache_dir)
    machine.pull(name, mirrored=False)
    machine.node.program.start_again()


@pytest.mark.parametrize("gone", ["stopped", "unplugged"])
def test_what_containerd_held_before_peerd_came_is_shared_without_the_registry(fleet: Fleet, gone: str) -> None:
    a, b, _ = fleet.machines
    image = build_image(seed=f"before {gone}", layers=2, layer_size=5 * MIB)
    name = fleet.registry.publish(image, f"team/before-{gone}")
    pulled_before_peerd(a, name)
    fleet.wait_until_told()
    before = a.node.metric("peerd_uploaded_bytes_total")
    away = fleet.registry.program.away() if gone == "stopped" else fleet.registry.host.unplugged()
    with away:
        b.pull(name)
    assert b.has(image)
    assert a.node.metric("peerd_uploaded_bytes_total") - before >= 10 * MIB
    kept = {content["digest"] for content in a.contents() if content["source"] != "containerd"}
    assert not kept & {str(digest) for digest in image.digests}, "A keeps no second copy"


def test_what_containerd_deletes_is_withdrawn(fleet: Fleet, figures: Figures) -> None:
    a, b, _ = fleet.machines
    image = build_image(seed="deleted", layers=2, layer_size=MIB)
    name = fleet.registry.publish(image, "team/deleted")
    pulled_before_peerd(a, name)
    fleet.wait_until_told()
    held = b.node.members()["a"]["keys"]
    a.containerd.ctr("images", "rm", name)
    deleted = time.monotonic()
    b.node.program.wait_until(
        lambda: b.node.members()["a"]["keys"] <= held - len(image.digests), "told what A no longer holds"
    )
    seconds = f"{time.monotonic() - deleted:.2f}"
    figures(
        "containerd", {"what": "a deleted image is withdrawn", "seconds": seconds, "goal": WITHDRAWN_WITHIN_SECONDS}
    )
    assert not {str(digest) for digest in image.digests} & {content["digest"] for content in a.contents()}
    before = fleet.registry.sent(image)
    b.pull(name)
    assert b.has(image)
    assert fleet.registry.sent(image) - before >= 2 * MIB, "B has it from the registry"
