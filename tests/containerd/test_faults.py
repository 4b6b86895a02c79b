"""Whatever fails, a pull that would have worked without peerd works with it.

Each fault is a line of the table that is printed at the end: how long the pull took, and how long the same pull takes straight
from the registry on the same links.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.containerd.fleet import CREDENTIALS, REGISTRY_NAME, Fleet, Machine, running_fleet
from tests.containerd.oci import OciImage, build_image
from tests.support.tables import Figures

pytestmark = [pytest.mark.xdist_group("containerd-faults")]

MIB = 1 << 20
LAYER_BYTES = 20 * MIB
MIDDLE_BYTES = 8 * MIB
LINK_MBIT_PER_S = 300
"""What one host sends."""

SLOW_MBIT_PER_S = 80
"""So slow that the middle of a layer is not over when it is looked for, on a machine that does other things too."""

REPOSITORY = "team/app"
NAME = f"{REGISTRY_NAME}/{REPOSITORY}:1"

NewFolder = Callable[[], Path]
Note = Callable[..., None]


@pytest.fixture(scope="module")
def image() -> OciImage:
    """Two layers."""
    return build_image(seed="faults", layers=2, layer_size=LAYER_BYTES)


@pytest.fixture(scope="module")
def fleet(new_folder: NewFolder, image: OciImage) -> Iterator[Fleet]:
    """Two machines: A, which may hold the image, and B, which pulls it."""
    with running_fleet(new_folder(), 2) as fleet:
        fleet.machines[0].host.limit(LINK_MBIT_PER_S)
        publish(fleet, image)
        yield fleet


@pytest.fixture
def b(fleet: Fleet) -> Iterator[Machine]:
    """B, and after the test all is as it was before."""
    yield fleet.machines[1]
    for machine in fleet.machines:
        if not machine.node.program.runs:
            machine.node.program.start_again()
    fleet.forget()


@pytest.fixture
def a(fleet: Fleet, b: Machine, image: OciImage) -> Machine:
    """A, whose containerd holds the image, as B was told."""
    a = fleet.machines[0]
    a.pull(NAME)
    assert a.has(image)
    fleet.wait_until_told()
    return a


@pytest.fixture
def note(request: pytest.FixtureRequest, image: OciImage, figures: Figures) -> Note:
    """`note(machine, seconds)`: that pull brought the image. Adds the line of this test to the table."""
    fault = request.node.name.removeprefix("test_").replace("_", " ")

    def note(machine: Machine, seconds: float, *options: str) -> None:
        assert machine.has(image)
        machine.containerd.remove_images()
        plain = machine.pull(NAME, *options, mirrored=False)
        cells = {"fault": fault, "with peerd": f"{seconds:.1f}", "without": f"{plain:.1f}"}
        figures("Seconds of a pull of 40 MiB", cells)

    return note


@pytest.fixture
def slow_links(fleet: Fleet) -> Iterator[None]:
    """For a test that does something in the middle of a layer."""
    senders = (fleet.registry.host, fleet.machines[0].host)
    for host in senders:
        host.limit(SLOW_MBIT_PER_S)
    yield
    for host in senders:
        host.limit(LINK_MBIT_PER_S)


def publish(fleet: Fleet, image: OciImage) -> None:
    fleet.registry.host.limit(LINK_MBIT_PER_S)
    fleet.registry.publish(image, REPOSITORY)


@contextmanager
def frozen(machine: Machine) -> Iterator[None]:
    """Its peerd accepts connections and says nothing."""
    machine.node.program.send(signal.SIGSTOP)
    try:
        yield
    finally:
        machine.node.program.send(signal.SIGCONT)


def rot(file: Path) -> None:
    """Flip a few bytes in the middle of a file."""
    with file.open("r+b") as opened:
        opened.seek(LAYER_BYTES // 2)
        found = opened.read(16)
        opened.seek(LAYER_BYTES // 2)
        opened.write(bytes(255 - byte for byte in found))


def test_none(a: Machine, b: Machine, note: Note) -> None:
    before = a.node.metric("peerd_uploaded_bytes_total")
    seconds = b.pull(NAME)
    assert a.node.metric("peerd_uploaded_bytes_total") - before >= 2 * LAYER_BYTES
    note(b, seconds)


def test_peerd_is_stopped(b: Machine, note: Note) -> None:
    b.node.program.end()
    note(b, b.pull(NAME))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_peerd_is_ended_in_the_middle_of_a_layer(
    b: Machine, note: Note, slow_links: None, number: signal.Signals
) -> None:
    with b.pulling(NAME) as pull:
        pull.wait_until_in_a_layer(MIDDLE_BYTES, b.transferred)
        b.node.program.end(number)
    note(b, pull.seconds)


def test_the_only_peer_is_killed_in_the_middle_of_a_layer(a: Machine, b: Machine, note: Note, slow_links: None) -> None:
    with b.pulling(NAME) as pull:
        pull.wait_until_in_a_layer(MIDDLE_BYTES, b.transferred)
        a.node.program.end(signal.SIGKILL)
    note(b, pull.seconds)


def test_the_only_peers_host_is_unplugged_in_the_middle_of_a_layer(
    a: Machine, b: Machine, note: Note, slow_links: None
) -> None:
    with b.pulling(NAME) as pull:
        pull.wait_until_in_a_layer(MIDDLE_BYTES, b.transferred)
        with a.host.unplugged():
            pull.wait()
    note(b, pull.seconds)


def test_the_only_peer_accepts_and_says_nothing(a: Machine, b: Machine, note: Note) -> None:
    with frozen(a):
        seconds = b.pull(NAME)
    note(b, seconds)


def test_the_only_peer_falls_silent_in_the_middle_of_a_layer(
    a: Machine, b: Machine, note: Note, slow_links: None
) -> None:
    with b.pulling(NAME) as pull:
        pull.wait_until_in_a_layer(MIDDLE_BYTES, b.transferred)
        with frozen(a):
            pull.wait()
    note(b, pull.seconds)


@pytest.mark.parametrize("when", ["before it was sent", "after it was sent"])
def test_a_peers_containerd_has_a_rotten_layer(
    fleet: Fleet, a: Machine, b: Machine, image: OciImage, note: Note, when: str
) -> None:
    if when == "after it was sent":
        b.pull(NAME)
        b.forget()
        fleet.wait_until_told()
    rot(a.containerd.blob_file(image.layers[0]))
    note(b, b.pull(NAME))


def test_a_peers_cache_has_a_rotten_layer(fleet: Fleet, b: Machine, image: OciImage, note: Note) -> None:
    a, layer = fleet.machines[0], image.layers[0]
    assert a.node.ask(f"/v2/{REPOSITORY}/blobs/{layer}?ns={REGISTRY_NAME}").correct
    (file,) = (found for found in a.cache_dir.rglob("data") if found.stat().st_size == len(image.blobs[layer]))
    rot(file)
    fleet.wait_until_told()
    note(b, b.pull(NAME))


def test_the_registry_wants_a_password(new_folder: NewFolder, image: OciImage, note: Note) -> None:
    with running_fleet(new_folder(), 1, with_password=True) as fleet:
        publish(fleet, image)
        (a,) = fleet.machines
        seconds = a.pull(NAME, "--user", CREDENTIALS)
        assert not sum(a.served().values()), "peerd has no password"
        note(a, seconds, "--user", CREDENTIALS)


@pytest.fixture
def small_disk(new_folder: NewFolder) -> Iterator[Path]:
    """A file system of 24 MiB."""
    disk = new_folder()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={24 * MIB}", "peerd-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("left_mib", [12, 0])
def test_the_cache_disk_is_full(
    new_folder: NewFolder, small_disk: Path, image: OciImage, note: Note, left_mib: int
) -> None:
    with running_fleet(new_folder(), 1, "--cache-dir", str(small_disk / "cache")) as fleet:
        publish(fleet, image)
        (a,) = fleet.machines
        room = os.statvfs(small_disk)
        (small_disk / "filler").write_bytes(bytes(room.f_bavail * room.f_bsize - left_mib * MIB))
        seconds = a.pull(NAME)
        assert a.served()["upstream"] >= 2 * LAYER_BYTES, "it all came through peerd"
        note(a, seconds)
