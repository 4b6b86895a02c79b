"""`/api/v1/events` of a real node, each document checked against the API's model."""

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
    """Names and documents of the events that a node sends."""
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
