"""Names of images as containerd's clients write them, and which of them are shared."""

import re

import pytest

from app.containerd.image import ImageName, ShareRule

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("docker.io/library/nginx:1.25", ImageName("docker.io", "library/nginx", "1.25")),
        ("localhost/app:v1", ImageName("localhost", "app", "v1")),
        ("registry:5000/app:v1", ImageName("registry:5000", "app", "v1")),
        ("127.0.0.1:5000/a/b/c:latest", ImageName("127.0.0.1:5000", "a/b/c", "latest")),
        ("[::1]:5000/app:v1", ImageName("[::1]:5000", "app", "v1")),
        ("ghcr.io/org/app", ImageName("ghcr.io", "org/app", None)),
        (f"ghcr.io/org/app@sha256:{HEX}", ImageName("ghcr.io", "org/app", None)),
        (f"ghcr.io/org/app:v1@sha256:{HEX}", ImageName("ghcr.io", "org/app", "v1")),
        pytest.param(f"sha256:{HEX}", None, id="the CRI plugin's alias by id"),
        ("library/nginx:latest", None),
        ("", None),
    ],
)
def test_parts_of_a_name(text: str, want: ImageName | None) -> None:
    assert ImageName.parse(text) == want


def test_a_reference_needs_a_tag() -> None:
    assert ImageName("ghcr.io", "org/app", "v1").reference == "ghcr.io/org/app:v1"
    assert ImageName("ghcr.io", "org/app", None).reference is None


@pytest.mark.parametrize(
    ("rule", "name", "want"),
    [
        (ShareRule(), "ghcr.io/org/app:v1", True),
        (ShareRule(), f"sha256:{HEX}", False),
        (ShareRule(frozenset({"ghcr.io"})), "ghcr.io/org/app:v1", True),
        (ShareRule(frozenset({"ghcr.io"})), "ghcr.io:5000/org/app:v1", False),
        (ShareRule(frozenset({"ghcr.io"})), "docker.io/org/app:v1", False),
        (ShareRule(frozenset({"_default"})), "docker.io/org/app:v1", True),
        (ShareRule(pattern=re.compile("/public/")), "ghcr.io/public/app:v1", True),
        (ShareRule(pattern=re.compile("/public/")), "ghcr.io/private/app:v1", False),
        (ShareRule(frozenset({"ghcr.io"}), re.compile("/public/")), "docker.io/public/app:v1", False),
        pytest.param(
            ShareRule(pattern=re.compile("^(?!ghcr)")), f"sha256:{HEX}", False, id="an alias passes no filter"
        ),
    ],
)
def test_which_names_are_shared(rule: ShareRule, name: str, want: bool) -> None:
    assert rule.allows(name) is want
