"""What a manifest refers to, and what is no manifest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.content.descriptors import BlobDescriptor, children, refers
from app.content.digest import Digest
from tests.containerd.oci import CONFIG, INDEX, LAYER, MANIFEST, build_image

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.mark.parametrize("media_type", [INDEX, DOCKER_LIST])
def test_an_index_refers_to_its_manifests(media_type: str) -> None:
    image = build_image()
    found = children(media_type, image.blobs[image.target])
    assert [child.digest for child in found] == [image.manifest, image.foreign]
    assert found[0] == BlobDescriptor(MANIFEST, image.manifest, len(image.blobs[image.manifest]))


@pytest.mark.parametrize("media_type", [MANIFEST, DOCKER_MANIFEST])
def test_a_manifest_refers_to_its_configuration_and_layers_in_order(media_type: str) -> None:
    image = build_image(layers=3)
    found = children(media_type, image.blobs[image.manifest])
    assert [child.digest for child in found] == [image.config, *image.layers]
    assert [child.media_type for child in found] == [CONFIG, LAYER, LAYER, LAYER]


GOOD = {"mediaType": LAYER, "digest": str(Digest.of(b"x")), "size": 1}


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([{**GOOD, "digest": "sha256:short"}], id="a digest that is none"),
        pytest.param([{**GOOD, "size": -1}], id="a negative size"),
        pytest.param([{**GOOD, "size": "1"}], id="a size that is text"),
        pytest.param([{"digest": GOOD["digest"], "size": 1}], id="no media type"),
        pytest.param([7, None, "text", []], id="entries that are no objects"),
        pytest.param({"0": GOOD}, id="layers that are no list"),
    ],
)
def test_what_can_not_be_meant_is_left_out(layers: object) -> None:
    document = json.dumps({"config": {**GOOD, "mediaType": CONFIG}, "layers": layers}).encode()
    assert [child.media_type for child in children(MANIFEST, document)] == [CONFIG]


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_bytes_that_are_no_manifest_refer_to_nothing(data: bytes) -> None:
    assert children(MANIFEST, data) == ()
    assert children(INDEX, data) == ()


@pytest.mark.parametrize(
    ("media_type", "size", "want"),
    [
        (MANIFEST, 1000, True),
        (INDEX, 1000, True),
        (LAYER, 1000, False),
        pytest.param(MANIFEST, 9 << 20, False, id="too large to be read"),
    ],
)
def test_which_blobs_are_read_for_what_they_refer_to(media_type: str, size: int, want: bool) -> None:
    assert refers(BlobDescriptor(media_type, Digest.of(b"x"), size)) is want
