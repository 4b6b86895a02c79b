"""What is read from indexes and manifests (image-spec 1.1)."""

import json
from typing import Any

import pytest

from app.client.manifest import INDEX_TYPES, MANIFEST_TYPES, Index, Manifest, NotAnImage, Platform, read_document
from app.errors import BadRequest


def part(letter: str, **platform: str) -> dict[str, Any]:
    spoken: dict[str, Any] = {"mediaType": MANIFEST_TYPES[0], "digest": f"sha256:{letter * 64}", "size": 7}
    return spoken | ({"platform": platform} if platform else {})


INDEX = {
    "mediaType": INDEX_TYPES[1],
    "manifests": [
        part("a", os="linux", architecture="amd64"),
        part("b", os="linux", architecture="arm64", variant="v8"),
        part("c", os="linux", architecture="arm", variant="v6"),
        part("d", os="linux", architecture="arm", variant="v7"),
        part("e", os="unknown", architecture="unknown"),
        part("f"),
    ],
}


@pytest.mark.parametrize(
    ("platform", "letter"),
    [
        ("linux/amd64", "a"),
        pytest.param("linux/arm64", "b", id="v8 is the usual variant of arm64"),
        pytest.param("linux/arm64/v8", "b", id="it may be said"),
        pytest.param("linux/arm", "d", id="v7 is the usual variant of arm"),
        ("linux/arm/v6", "c"),
    ],
)
def test_the_manifest_of_a_platform(platform: str, letter: str) -> None:
    index = read_document(json.dumps(INDEX).encode(), "")
    assert isinstance(index, Index)
    assert index.for_platform(Platform.parse(platform)).digest.hex == letter * 64


def test_a_platform_that_is_not_there_is_told_those_that_are() -> None:
    index = read_document(json.dumps(INDEX).encode(), "")
    assert isinstance(index, Index)
    with pytest.raises(NotAnImage, match="no manifest for linux/s390x; it has linux/amd64, linux/arm/v6"):
        index.for_platform(Platform.parse("linux/s390x"))


def test_the_media_type_of_the_answer_counts_where_the_document_has_none() -> None:
    document = json.dumps({"config": part("a"), "layers": [part("b"), part("c")]}).encode()
    manifest = read_document(document, f"{MANIFEST_TYPES[0]}; charset=utf-8")
    assert isinstance(manifest, Manifest)
    assert [blob.digest.hex[0] for blob in manifest.blobs] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"mediaType": "text/plain"}', id="something else"),
        pytest.param(
            b'{"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}', id="schema 1"
        ),
        pytest.param(
            json.dumps({"mediaType": INDEX_TYPES[0], "manifests": ["x"]}).encode(), id="an entry that is none"
        ),
        pytest.param(json.dumps({"mediaType": MANIFEST_TYPES[0], "layers": []}).encode(), id="no configuration"),
        pytest.param(
            json.dumps({"mediaType": MANIFEST_TYPES[0], "config": part("a") | {"size": -1}, "layers": []}).encode(),
            id="a size below nothing",
        ),
        pytest.param(
            json.dumps(
                {"mediaType": MANIFEST_TYPES[0], "config": part("a") | {"digest": "md5:x"}, "layers": []}
            ).encode(),
            id="a digest that is none",
        ),
    ],
)
def test_what_is_no_image(document: bytes) -> None:
    with pytest.raises(NotAnImage):
        read_document(document, "")


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/arm/v7/x"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(BadRequest):
        Platform.parse(text)
