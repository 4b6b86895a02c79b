"""`/api/v1/events` of a real node: whole documents, at once and then as they change."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from app.api.models import ImageList, MemberList, Status, TransferList
from tests.support.nodes import Node

MODELS: dict[str, type[BaseModel]] = {
    "status": Status,
    "members": MemberList,
    "transfers": TransferList,
    "images": ImageList,
}


@contextmanager
def events_of(node: Node) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """Names and documents of the events that a node sends, each checked against the API's model."""
    with socket.create_connection((node.host, node.http_port), timeout=30) as connection:
        connection.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        yield _parsed(connection.makefile("rb"))


def _parsed(lines: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            document = line.removeprefix("data: ")
            MODELS[name].model_validate_json(document)
            yield name, json.loads(document)


def test_all_come_at_once_and_others_are_asked_how_loaded_they_are(nodes: list[Node]) -> None:
    assert all(member["load"] is None for name, member in nodes[0].members().items() if name != "node-1")
    with events_of(nodes[0]) as events:
        assert {next(events)[0] for _ in range(4)} == set(MODELS)
        for name, document in events:
            if name == "members" and all(member["load"] for member in document["members"]):
                break
        quotas = {member["name"]: member["load"]["cache_quota_bytes"] for member in document["members"]}
        assert quotas == dict.fromkeys(("node-1", "node-2", "node-3"), 10 << 30)


def test_a_node_that_ends_ends_its_events(nodes: list[Node]) -> None:
    with events_of(nodes[2]) as events:
        assert next(events)
        with nodes[2].program.away():
            assert all(name in MODELS for name, _ in events)
