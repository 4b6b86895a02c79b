"""What people name is told apart, and never shown with what signs it."""

import pytest

from app.content.digest import Digest
from app.content.key import ContentKey
from app.errors import BadRequest
from app.operations.targets import File, Image, parse_reference, parse_target

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        pytest.param("alpine", Image, "docker.io/library/alpine:latest", id="a bare name is an image of Docker Hub"),
        pytest.param("host:5000/app:v1", Image, "host:5000/app:v1", id="an image with registry and tag"),
        pytest.param(f"ghcr.io/app@{DIGEST}", Image, f"ghcr.io/app@{DIGEST}", id="an image by digest"),
        pytest.param(DIGEST, ContentKey, DIGEST, id="a digest is a key"),
        pytest.param(f"{DIGEST}@Host:5000", ContentKey, f"{DIGEST}@host:5000", id="parts that only claim a digest"),
        pytest.param("url:" + "0" * 64, ContentKey, "url:" + "0" * 64, id="the key of a file"),
        pytest.param("https://host/a?sig=secret", File, "https://host/a?…", id="a URL, shown without its query"),
        pytest.param("https://me:secret@host/a", File, "https://host/a", id="a URL, shown without its password"),
    ],
)
def test_targets_are_told_apart(text: str, kind: type, shown: str) -> None:
    target = parse_target(text)
    assert isinstance(target, kind)
    assert str(target) == shown
    assert "secret" not in repr(target)


@pytest.mark.parametrize(
    "text", ["", "Not An Image", "https://", "https://ho st/", "http://[::1/x", "sha256:short", "app:ta g"]
)
def test_what_can_not_be_meant_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_target(text)


def test_a_key_can_not_be_brought() -> None:
    with pytest.raises(BadRequest):
        parse_reference(DIGEST)


def test_a_digest_wins_over_the_tag_beside_it() -> None:
    image = parse_reference(f"host/app:v1@{DIGEST}")
    assert isinstance(image, Image)
    assert image.location.reference == Digest.parse(DIGEST)
