"""A node's /api/v1, typed as openapi/ describes it. Each raises NodeUnreachable and NodeRefused."""

from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from app.api.models import MemberList, Preheat, Purge, Status, TransferList
from app.client.node import Node, NodeUnreachable

_Model = TypeVar("_Model", bound=BaseModel)


def status(node: Node) -> Status:
    """How the node is doing."""
    return _read(node, Status, node.get_json("/api/v1/status"))


def members(node: Node) -> MemberList:
    """The members that it knows, itself included."""
    return _read(node, MemberList, node.get_json("/api/v1/members"))


def transfers(node: Node) -> TransferList:
    """What its clients are being sent, and were lately."""
    return _read(node, TransferList, node.get_json("/api/v1/transfers"))


def start_preheat(node: Node, references: list[str], nodes: int | str) -> Preheat:
    """Bring content onto so many nodes, or `all`; returns at once."""
    return _read(node, Preheat, node.post_json("/api/v1/preheat", {"references": references, "nodes": nodes}))


def preheat(node: Node, identity: str) -> Preheat:
    """How far a preheat is."""
    return _read(node, Preheat, node.get_json(f"/api/v1/preheat/{quote(identity, safe='')}"))


def purge(node: Node, target: str, *, all_nodes: bool) -> Purge:
    """Forget a digest, an image or a URL."""
    everywhere = "?all_nodes=true" if all_nodes else ""
    return _read(node, Purge, node.delete(f"/api/v1/contents/{quote(target, safe=':')}{everywhere}"))


def _read(node: Node, model: type[_Model], text: bytes) -> _Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NodeUnreachable(
            f"{node.url} is no peerd of this version: its {model.__name__} has {place or 'no JSON'}: {first['msg']}"
        ) from error
