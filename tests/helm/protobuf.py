"""Kubernetes' binary form of a Secret: in it Helm sends what it keeps of a release, whatever the server might prefer.

The envelope is "k8s\\0" and a message `Unknown` (apimachinery, `runtime/generated.proto`), in which the Secret is
(`core/v1/generated.proto`). Field numbers are those of the .proto files.
"""

import base64
from collections.abc import Iterator

from tests.helm.chart import Document

MAGIC = b"k8s\0"
_UNKNOWN_RAW = 2
_SECRET_METADATA, _SECRET_DATA, _SECRET_TYPE = 1, 2, 3
_META_NAME, _META_NAMESPACE, _META_LABELS = 1, 3, 11
_VARINT, _BYTES = 0, 2


def secret(envelope: bytes) -> Document:
    """The same as JSON would have it."""
    message = _only(envelope.removeprefix(MAGIC), _UNKNOWN_RAW)
    metadata = _only(message, _SECRET_METADATA)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": _only(message, _SECRET_TYPE).decode(),
        "metadata": {
            "name": _only(metadata, _META_NAME).decode(),
            "namespace": _only(metadata, _META_NAMESPACE).decode(),
            "labels": {key: value.decode() for key, value in _map(metadata, _META_LABELS).items()},
        },
        "data": {key: base64.b64encode(value).decode() for key, value in _map(message, _SECRET_DATA).items()},
    }


def _map(message: bytes, number: int) -> dict[str, bytes]:
    """A map is a repeated message of key (1) and value (2)."""
    return {_only(one, 1).decode(): _only(one, 2) for field, one in _fields(message) if field == number}


def _only(message: bytes, number: int) -> bytes:
    """A field's last value, or nothing (protobuf, "Last One Wins")."""
    return next((value for field, value in reversed([*_fields(message)]) if field == number), b"")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field that has bytes (protobuf, "Encoding")."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == _VARINT:
            _, at = _varint(message, at)
            continue
        assert tag & 7 == _BYTES, f"wire type {tag & 7} at {at}"
        size, at = _varint(message, at)
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
