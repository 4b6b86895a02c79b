"""What members tell each other is read back as it was written, and nothing else is believed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.content.digest import Digest
from app.operations.documents import REFERENCES_MAX, BringOrder, BringProgress, Forgotten, PurgeOrder


@pytest.mark.parametrize(
    "document",
    [
        PurgeOrder("host/app:v1"),
        PurgeOrder("host/app:v1", frozenset([Digest.of(b"")]), frozenset([Digest.of(b"a"), Digest.of(b"b")])),
        Forgotten(3, 2, 1, frozenset([Digest.of(b"")]), frozenset([Digest.of(b"a")])),
        BringOrder("ab12.rest", ("host/app:v1", "https://host/a?sig=x"), from_members=True),
        BringProgress(),
        BringProgress("failed", 1, 2, "host/app:v1: gone", frozenset({0, 99})),
    ],
)
def test_round_trip(document: Any) -> None:
    assert type(document).from_json(document.to_json()) == document


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (PurgeOrder.from_json, {"target": 1, "roots": [], "parts": []}),
        (PurgeOrder.from_json, {"target": "a", "roots": ["sha256:short"], "parts": []}),
        (PurgeOrder.from_json, {"target": "a", "roots": [], "parts": [1]}),
        (PurgeOrder.from_json, []),
        (Forgotten.from_json, {"freed": -1, "contents": 0, "names": 0, "roots": [], "parts": []}),
        (Forgotten.from_json, {"freed": 1, "contents": "2", "names": 0, "roots": [], "parts": []}),
        (BringOrder.from_json, {"id": "a", "references": [], "from_members": False}),
        (BringOrder.from_json, {"id": "a", "references": ["a"] * (REFERENCES_MAX + 1), "from_members": False}),
        (BringOrder.from_json, {"id": "a", "references": [1], "from_members": False}),
        (BringOrder.from_json, {"id": None, "references": ["a"], "from_members": False}),
        (BringProgress.from_json, {"state": "great", "done": 0, "total": 0, "error": None, "brought": []}),
        (BringProgress.from_json, {"state": "failed", "done": 0, "total": 0, "error": 5, "brought": []}),
        (
            BringProgress.from_json,
            {"state": "failed", "done": 0, "total": 0, "error": None, "brought": [REFERENCES_MAX]},
        ),
    ],
)
def test_what_is_no_document_is_refused(read: Callable[[bytes], object], fields: object) -> None:
    with pytest.raises(ValueError):
        read(json.dumps(fields).encode())
