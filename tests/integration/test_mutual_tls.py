"""Peers with certificates of one CA: they exchange bytes, and a stranger gets none."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node, wait_until_agreed
from tests.support.registry import Registry

pytestmark = [pytest.mark.xdist_group("mutual tls")]

SIZE = 5_000_000


def certs(*arguments: str | Path) -> None:
    peerd = Path(sys.executable).with_name("peerd")
    run = subprocess.run([peerd, "certs", *arguments], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def authority(new_folder: Callable[[], Path]) -> Path:
    """The cluster's CA and two nodes' certificates, as `peerd certs` makes them."""
    folder = new_folder()
    certs("init", "--out", folder)
    for number in (1, 2):
        certs("issue", "--name", f"node-{number}", "--ip", f"127.0.0.{number}", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def another_authority(new_folder: Callable[[], Path]) -> Path:
    """A CA that says the same names."""
    folder = new_folder()
    certs("init", "--out", folder)
    certs("issue", "--name", "node-2", "--ip", "127.0.0.2", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, authority: Path, registry: Registry) -> list[Node]:
    trust = [
        [
            *("--tls-ca", str(authority / "ca.crt")),
            *("--tls-cert", str(authority / f"node-{number}.crt")),
            *("--tls-key", str(authority / f"node-{number}.key")),
        ]
        for number in (1, 2)
    ]
    return cluster(2, "--registry", f"reg.test={registry.url}", trust=trust)


def stranger(identity: Path | None = None) -> ssl.SSLContext:
    """TLS that trusts whoever answers; with node-2's certificate from a CA's folder, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(identity / "node-2.crt", identity / "node-2.key")
    return context


def received(node: Node, target: str, tls: ssl.SSLContext | None) -> bytes:
    """What the peer door answers to a request for a chunk."""
    request = f"GET {target} HTTP/1.1\r\nHost: peer\r\nRange: bytes=0-999\r\nConnection: close\r\n\r\n".encode()
    got = b""
    try:
        plain = socket.create_connection((node.host, node.peer_port), timeout=20)
        with plain, tls.wrap_socket(plain) if tls is not None else plain as connection:
            connection.sendall(request)
            while piece := connection.recv(65536):
                got += piece
    except (ssl.SSLError, ConnectionError):
        pass
    return got


@pytest.fixture(scope="module")
def shared(nodes: list[Node], registry: Registry) -> tuple[str, bytes]:
    """A blob that the first node holds, and its bytes."""
    data = made.content("over mutual TLS", SIZE)
    digest = registry.push_blob("team/app", data)
    assert nodes[0].ask(f"/v2/team/app/blobs/{digest}?ns=reg.test").body == data
    wait_until_agreed(nodes)
    return digest, data


def test_members_exchange_bytes(nodes: list[Node], shared: tuple[str, bytes], registry: Registry) -> None:
    digest, data = shared
    with registry.program.away():
        reply = nodes[1].ask(f"/v2/team/app/blobs/{digest}?ns=reg.test")
    assert reply.correct
    assert reply.body == data
    assert nodes[1].metric("peerd_received_bytes_total", source="peer") > 0


def test_the_peer_door_answers_a_certificate_of_the_cluster(
    nodes: list[Node], shared: tuple[str, bytes], authority: Path
) -> None:
    digest, data = shared
    answer = received(nodes[0], f"/contents/{quote(digest, safe='')}", stranger(authority))
    assert answer.startswith(b"HTTP/1.1 206 ")
    assert answer.endswith(b"\r\n\r\n" + data[:1000])


@pytest.mark.parametrize("who", ["without TLS", "without a certificate", "with a certificate of another CA"])
def test_a_stranger_gets_no_byte(
    nodes: list[Node], shared: tuple[str, bytes], another_authority: Path, who: str
) -> None:
    digest, _ = shared
    tls = {
        "without TLS": None,
        "without a certificate": stranger(),
        "with a certificate of another CA": stranger(another_authority),
    }[who]
    for target in (f"/contents/{quote(digest, safe='')}", f"/contents/{quote(digest, safe='')}/stat", "/"):
        assert received(nodes[0], target, tls) == b""


def test_a_node_that_says_it_is_a_peer_at_the_clients_door_is_a_client(
    nodes: list[Node], shared: tuple[str, bytes]
) -> None:
    digest, _ = shared
    said = {"X-MS-Peerd-RequestFromPeer": "true", "X-MS-Peerd-Node": "node-2"}
    assert nodes[0].ask(f"/contents/{quote(digest, safe='')}", headers=said).status == 404
    reply = nodes[0].ask(f"/v2/team/app/blobs/{digest}?ns=reg.test", headers=said)
    assert (reply.status, reply.headers["x-ms-peerd-node"]) == (200, "node-1")
