"""Plain containerd, which sends no credential unasked, beside nodes that hold a private image."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containerd.fleet import CREDENTIALS, REGISTRY_NAME, Fleet, Machine, running_fleet
from tests.containerd.oci import OciImage, build_image
from tests.support.registry import AUTHORIZATION

pytestmark = [pytest.mark.xdist_group("consent-containerd")]

REPOSITORY = "team/secret"
LAYER_BYTES = 2_000_000
USER = {"Authorization": AUTHORIZATION}


@pytest.fixture(scope="module")
def image() -> OciImage:
    return build_image(seed="consent", layers=2, layer_size=LAYER_BYTES)


@pytest.fixture(scope="module")
def fleet(new_folder: Callable[[], Path], image: OciImage) -> Iterator[Fleet]:
    """Two machines whose nodes hold the image; they have the password too."""
    config = new_folder() / "config.json"
    config.write_text(json.dumps({"auths": {REGISTRY_NAME: {"auth": AUTHORIZATION.removeprefix("Basic ")}}}))
    options = ("--consent", "upstream", "--registry-auth", str(config))
    with running_fleet(new_folder(), 2, *options, with_password=True) as fleet:
        fleet.registry.publish(image, REPOSITORY)
        for machine in fleet.machines:
            for path in paths(image):
                reply = machine.node.ask(path, headers=USER)
                assert reply.correct, (path, reply)
        yield fleet


def paths(image: OciImage) -> list[str]:
    """Everything of the image that a client may ask for."""
    kinds = [
        (digest, "manifests" if "manifest" in kind or "index" in kind else "blobs")
        for digest, kind in image.media_types.items()
    ]
    return [f"/v2/{REPOSITORY}/{kind}/{digest}?ns={REGISTRY_NAME}" for digest, kind in kinds]


def pulled(machine: Machine, image: OciImage) -> float:
    """Bytes that the machine's node served while its containerd pulled the image with a login of its own."""
    before = sum(machine.served().values())
    machine.pull(f"{REGISTRY_NAME}/{REPOSITORY}:1", "--user", CREDENTIALS)
    assert machine.has(image)
    return sum(machine.served().values()) - before


def test_containerd_is_sent_to_the_registry_and_logs_in_there(fleet: Fleet, image: OciImage) -> None:
    for machine in fleet.machines:
        sent = fleet.registry.sent(image)
        assert pulled(machine, image) == 0, "no private byte from peerd"
        assert fleet.registry.sent(image) - sent >= 2 * LAYER_BYTES
        asked = [line for line in machine.node.program.log.read_text().splitlines() if " 404 served" in line]
        assert any(f"/v2/{REPOSITORY}/manifests/1 " in line for line in asked), "it asked the mirror first"
        assert any(f"/v2/{REPOSITORY}/blobs/" in line for line in asked)


def test_without_a_login_the_pull_fails_as_it_would_without_peerd(fleet: Fleet, image: OciImage) -> None:
    machine = fleet.machines[0]
    machine.containerd.remove_images()
    for mirrors in (machine.mirrors, machine.plain):
        run = machine.containerd.ctr(
            *("images", "pull", "--hosts-dir", mirrors, f"{REGISTRY_NAME}/{REPOSITORY}:1"), check=False
        )
        assert run.returncode != 0
        assert "401 Unauthorized" in run.stderr
    assert not {str(digest) for digest in image.blobs} & machine.containerd.blobs()


def test_what_containerd_holds_is_given_with_consent_only(fleet: Fleet, image: OciImage) -> None:
    """B's cache is empty: its containerd has the image, and A has nothing."""
    a, b = fleet.machines
    pulled(b, image)
    fleet.wait_until_told()
    for machine in fleet.machines:
        for content in machine.contents():
            if content["source"] != "containerd":
                machine.node.ask(f"/api/v1/contents/{content['key']}", method="DELETE")
    a.containerd.remove_images()
    fleet.wait_until_told()
    for machine in fleet.machines:
        for path in paths(image):
            assert machine.node.ask(path).status == 404
            assert machine.node.ask(path, headers={"Authorization": "Basic bm9ib2R5Om5vdGhpbmc="}).status == 404
    sent = fleet.registry.sent(image)
    for machine in fleet.machines:
        for path, data in zip(paths(image), image.blobs.values(), strict=True):
            reply = machine.node.ask(path, headers=USER)
            assert (reply.status, reply.body) == (200, data)
    # Consent costs a byte of each blob.
    assert fleet.registry.sent(image) - sent < LAYER_BYTES
