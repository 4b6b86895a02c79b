"""Certificates that strangers come with, and two nodes whose cluster has replaced its CA while they ran."""

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.cli.authority import Credentials, issue, new_authority
from tests.support.nodes import Node, running_nodes

NOW = dt.datetime.now(dt.UTC)
LONG_AGO = NOW - dt.timedelta(days=400)
LATER = NOW + dt.timedelta(days=30)
NAMES = ("node-1", "node-2")


def authority() -> Credentials:
    return new_authority(days=1000, now=LONG_AGO)


def paper(folder: Path, ca: Credentials, name: str, *, days: int = 500, now: dt.datetime = LONG_AGO) -> Path:
    """A certificate and its key as `<folder>/<name>.crt` and `.key`; returns their path without the ending."""
    folder.mkdir(exist_ok=True)
    address = ipaddress.ip_address(f"127.0.0.{NAMES.index(name) + 1 if name in NAMES else 9}")
    issue(ca, name, [address], days=days, now=now).write(folder / f"{name}.crt", folder / f"{name}.key")
    return folder / name


def context(shown: Path | None, *, tls_1_2: bool = False) -> ssl.SSLContext:
    """TLS that believes whoever answers; with a certificate, or none."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    found.set_alpn_protocols(["h2", "http/1.1"])
    if tls_1_2:
        found.maximum_version = ssl.TLSVersion.TLSv1_2
    if shown is not None:
        found.load_cert_chain(f"{shown}.crt", f"{shown}.key")
    return found


@dataclass(frozen=True)
class Cluster:
    """Two nodes under a new CA, which had another one before.

    Attributes:
        nodes: those that run, each with its certificate of the new CA.
        folder: for papers.
        new, old: the CA that counts, and the one that did.
        sessions: what node-2 of the old CA kept of its connections to node-1, by door, with its context.
    """

    nodes: list[Node]
    folder: Path
    new: Credentials
    old: Credentials
    sessions: dict[str, tuple[ssl.SSLContext, ssl.SSLSession | None]]

    def port(self, door: str) -> tuple[str, int]:
        node = self.nodes[0]
        return node.host, node.peer_port if door == "peer" else node.gossip_port


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """One within this block."""
    old, new = authority(), authority()
    trust = []
    for name in NAMES:
        own = folder / f"of-{name}"
        paper(own, old, name)
        old.write(own / "ca.crt", folder / "old-ca.key")
        trust.append(
            [
                part
                for option, file in (
                    ("--tls-ca", "ca.crt"),
                    ("--tls-cert", f"{name}.crt"),
                    ("--tls-key", f"{name}.key"),
                )
                for part in (option, str(own / file))
            ]
        )
    with running_nodes(folder, len(NAMES), trust=trust) as nodes:
        cluster = Cluster(nodes, folder, new, old, {})
        former = paper(folder / "former", old, "node-2")
        for door in ("peer", "gossip"):
            tls = context(former)
            cluster.sessions[door] = tls, session_at(cluster.port(door), tls)
        for name in NAMES:
            own = folder / f"of-{name}"
            paper(own, new, name)
            new.write(own / "ca.crt", folder / "new-ca.key")
        yield cluster


def session_at(place: tuple[str, int], tls: ssl.SSLContext) -> ssl.SSLSession | None:
    """What a connection that a door takes leaves to resume it by."""
    with tls.wrap_socket(socket.create_connection(place, timeout=20)) as connection:
        connection.sendall(opening(connection))
        assert connection.recv(65536), "the door answers nothing"
        return connection.session


def opening(connection: ssl.SSLSocket, headers: str = "", target: str = "/load") -> bytes:
    """The first bytes of a client: HTTP/2's where the door speaks that, else a request."""
    if connection.selected_alpn_protocol() == "h2":
        return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n".encode()


def said(
    place: tuple[str, int], tls: ssl.SSLContext | None, session: ssl.SSLSession | None = None, headers: str = ""
) -> bytes:
    """The first bytes that a door says to a stranger; none where it hangs up."""
    try:
        plain = socket.create_connection(place, timeout=20)
        if tls is None:
            with plain:
                plain.sendall(b"GET /load HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return plain.recv(65536)
        with plain, tls.wrap_socket(plain, session=session) as connection:
            connection.sendall(opening(connection, headers))
            return connection.recv(65536)
    except (ssl.SSLError, ConnectionError):
        return b""
