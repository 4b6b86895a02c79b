"""Which contents only one image needs."""

import json

import pytest

from app.client.manifest import INDEX_TYPES, MANIFEST_TYPES
from app.content.digest import Digest
from app.operations.held_images import Graph, named_by, needed_only_by


def d(name: str) -> Digest:
    return Digest.of(name.encode())


def graph(**named: str) -> Graph:
    """Each manifest, and the names of what it names."""
    return {d(manifest): frozenset(map(d, names.split())) for manifest, names in named.items()}


@pytest.mark.parametrize(
    ("held", "root", "doomed"),
    [
        pytest.param(graph(m="c l1 l2"), "m", "m c l1 l2", id="all of an image that is alone"),
        pytest.param(
            graph(i="m n", m="c l", n="k j"), "i", "i m n c l k j", id="an index with what its manifests name"
        ),
        pytest.param(graph(i="m n", m="c l"), "i", "i m n c l", id="a manifest that is not held names nothing"),
        pytest.param(graph(m="c base own", o="k base"), "m", "m c own", id="a layer that another image has stays"),
        pytest.param(
            graph(i="m", j="m", m="c l"), "i", "i", id="a manifest that another index names stays, with its parts"
        ),
        pytest.param(graph(i="m", m="c l"), "m", "m c l", id="what is asked for goes, though an index names it"),
        pytest.param(
            graph(i="m n", m="c l", n="k l"), "m", "m c", id="and what its sister of the same index has stays"
        ),
        pytest.param(graph(o="k"), "m", "m", id="nothing is known of it"),
        pytest.param(graph(i="i m", m="c"), "i", "i m c", id="a manifest that names itself ends"),
    ],
)
def test_needed_only_by(held: Graph, root: str, doomed: str) -> None:
    assert needed_only_by([d(root)], held) == set(map(d, doomed.split()))


def test_parts_that_are_known_from_elsewhere_go_too_unless_another_image_here_has_them() -> None:
    held = graph(o="k base")
    assert needed_only_by([d("m")], held, [d("own"), d("base")]) == {d("m"), d("own")}


def part(name: str) -> dict[str, object]:
    return {"mediaType": "x/y", "digest": str(d(name)), "size": 1}


@pytest.mark.parametrize(
    ("document", "media_type", "named"),
    [
        pytest.param({"config": part("c"), "layers": [part("l")]}, MANIFEST_TYPES[0], "c l", id="a manifest"),
        pytest.param({"manifests": [part("m")]}, INDEX_TYPES[1], "m", id="a manifest list of Docker's"),
        pytest.param({"layers": "none"}, MANIFEST_TYPES[0], "", id="no manifest, whatever it says"),
        pytest.param([], MANIFEST_TYPES[0], "", id="no object"),
    ],
)
def test_named_by(document: object, media_type: str, named: str) -> None:
    assert named_by(json.dumps(document).encode(), media_type) == set(map(d, named.split()))


def test_bytes_that_rotted_name_nothing() -> None:
    assert named_by(b"\0\xff", MANIFEST_TYPES[0]) == set()
