"""The server's end of `kubectl exec` without a terminal or input: a WebSocket whose frames carry channels.

RFC 6455, and Kubernetes' subprotocol `v5.channel.k8s.io`: the first byte of a frame is its channel. Nothing of what the client
sends is read.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping

PROTOCOL = "v5.channel.k8s.io"
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 0x82, 0x88
_STDOUT, _STDERR, _ERROR = b"\x01", b"\x02", b"\x03"
_NORMAL_CLOSURE = struct.pack(">H", 1000)


def accepting(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that take the handshake (RFC 6455, section 4.2.2)."""
    digest = hashlib.sha1((headers["Sec-WebSocket-Key"] + _GUID).encode(), usedforsecurity=False).digest()
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
        "Sec-WebSocket-Protocol": PROTOCOL,
    }


def frames(stdout: bytes, stderr: bytes, code: int) -> Iterator[bytes]:
    """All that is sent of a command that has ended."""
    for channel, data in ((_STDOUT, stdout), (_STDERR, stderr), (_ERROR, _status(code))):
        if data:
            yield _frame(_BINARY, channel + data)
    yield _frame(_CLOSE, _NORMAL_CLOSURE)


def _status(code: int) -> bytes:
    if code == 0:
        return json.dumps({"kind": "Status", "status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: {code}"
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}, "message": message}
    return json.dumps({"kind": "Status", **failure}).encode()


def _frame(kind: int, payload: bytes) -> bytes:
    """One that is not masked, as a server's are (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", kind, size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", kind, 126, size)
    else:
        head = struct.pack(">BBQ", kind, 127, size)
    return head + payload
