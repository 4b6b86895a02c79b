"""Orders between members whose peer doors want certificates."""

import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.client import api
from app.client.node import Node as NodeClient
from tests.conftest import Cluster
from tests.operations.images import NAME, GatedRegistry, image, layer
from tests.support.nodes import Node

Client = Callable[[Node], NodeClient]


@pytest.fixture(scope="module")
def authority(new_folder: Callable[[], Path]) -> Path:
    """A CA and two nodes' certificates."""
    folder = new_folder()
    peerd = Path(sys.executable).with_name("peerd")
    subprocess.run([peerd, "certs", "init", "--out", folder], check=True, capture_output=True)
    for number in (1, 2):
        names = ["--name", f"node-{number}", "--ip", f"127.0.0.{number}"]
        subprocess.run([peerd, "certs", "issue", *names, "--out", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, authority: Path, images: GatedRegistry) -> list[Node]:
    trust = [
        [
            *("--tls-ca", str(authority / "ca.crt")),
            *("--tls-cert", str(authority / f"node-{number}.crt")),
            *("--tls-key", str(authority / f"node-{number}.key")),
        ]
        for number in (1, 2)
    ]
    return cluster(2, "--registry", f"{NAME}=http://127.0.0.1:{images.port}", trust=trust)


def test_members_carry_out_orders_and_strangers_give_none(
    nodes: list[Node], client: Client, images: GatedRegistry
) -> None:
    made = image("with tls", [layer("with tls")])
    images.push("tls", "1", made)
    reference = f"{NAME}/tls:1"
    begun = api.start_preheat(client(nodes[0]), [reference], "all")
    nodes[0].program.wait_until(
        lambda: api.preheat(client(nodes[0]), begun.id).state != "running", "done with the preheat"
    )
    done = api.preheat(client(nodes[0]), begun.id)
    assert {(node.name, node.state, node.error) for node in done.nodes} == {
        ("node-1", "finished", None),
        ("node-2", "finished", None),
    }
    assert images.copies_of(made) == 1

    answer = ordered_without_certificate(nodes[1], reference)
    assert b"HTTP/1.1" not in answer

    purge = api.purge(client(nodes[0]), reference, all_nodes=True)
    assert {(node.name, node.error) for node in purge.nodes} == {("node-1", None), ("node-2", None)}
    assert all(node.forgotten_bytes == made.size for node in purge.nodes)


def ordered_without_certificate(node: Node, target: str) -> bytes:
    """What the peer door answers to whoever orders it to forget something, without a certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    body = json.dumps({"target": target, "roots": [], "parts": []}).encode()
    head = (
        "POST /orders/purge HTTP/1.1\r\nHost: peer\r\nX-MS-Peerd-RequestFromPeer: true\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    got = b""
    try:
        with (
            socket.create_connection((node.host, node.peer_port), timeout=10) as plain,
            tls.wrap_socket(plain) as connection,
        ):
            connection.sendall(head.encode() + body)
            while piece := connection.recv(4096):
                got += piece
    except (ssl.SSLError, ConnectionError):
        pass
    return got
