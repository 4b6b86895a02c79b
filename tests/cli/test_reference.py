"""Image references as people type them (distribution/reference)."""

import pytest

from app.client.reference import ImageReference, is_url
from app.errors import BadRequest

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        pytest.param("alpine", "docker.io/library/alpine:latest", id="an official image of Docker Hub"),
        pytest.param("alpine:3.20", "docker.io/library/alpine:3.20", id="with a tag"),
        pytest.param("org/app", "docker.io/org/app:latest", id="somebody's image on Docker Hub"),
        pytest.param("docker.io/alpine", "docker.io/library/alpine:latest", id="Docker Hub by name"),
        pytest.param("index.docker.io/org/app", "docker.io/org/app:latest", id="Docker Hub by its old name"),
        pytest.param("ghcr.io/a/b/c:tag", "ghcr.io/a/b/c:tag", id="a registry of that name"),
        pytest.param("localhost/app", "localhost/app:latest", id="localhost is a registry"),
        pytest.param("host:5000/app", "host:5000/app:latest", id="a colon before the slash is a port"),
        pytest.param("[::1]:5000/app:v1", "[::1]:5000/app:v1", id="an IPv6 address"),
        pytest.param(f"host:5000/x@{DIGEST}", f"host:5000/x@{DIGEST}", id="a digest needs no tag"),
        pytest.param(f"app:v1@{DIGEST}", f"docker.io/library/app:v1@{DIGEST}", id="a tag beside a digest stays"),
    ],
)
def test_an_image_reference(typed: str, full: str) -> None:
    reference = ImageReference.parse(typed)
    assert str(reference) == full
    assert ImageReference.parse(full) == reference


def test_a_digest_is_what_is_asked_for_where_there_is_one() -> None:
    assert ImageReference.parse(f"app:v1@{DIGEST}").version == DIGEST
    assert ImageReference.parse("app:v1").version == "v1"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        ":tag",
        "UPPER",
        "host:5000/UPPER",
        "a//b",
        "a/../b",
        "app:",
        "app:-x",
        "app@sha256:12",
        "a b",
        "host/",
        "app@",
    ],
)
def test_what_is_no_image_reference(typed: str) -> None:
    with pytest.raises(BadRequest):
        ImageReference.parse(typed)


def test_a_url_is_no_image() -> None:
    assert is_url("https://example.local/x")
    assert not is_url("example.local/x")
