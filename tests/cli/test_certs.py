"""`peerd certs`: what it makes is what TLS accepts, and no more."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from app.cli.authority import Credentials, issue, new_authority

Peerd = Callable[..., Any]


@pytest.fixture
def certs(peerd: Peerd, tmp_path: Path) -> Path:
    assert peerd("certs", "init", "--out", str(tmp_path)).exit_code == 0
    for name in ("node-a", "node-b"):
        issued = peerd("certs", "issue", "--name", name, "--ip", "127.0.0.1", "--ip", "fd00::7", "--out", str(tmp_path))
        assert issued.exit_code == 0, issued.stderr
    return tmp_path


def context(purpose: ssl.Purpose, certs: Path, name: str) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=str(certs / "ca.crt"))
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(certs / f"{name}.crt", certs / f"{name}.key")
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, expected: str) -> str:
    """The name in the certificate that the server was shown; raises SSLError where either refuses."""
    ours, theirs = socket.socketpair()
    shown: list[object] = []

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as stream:
                shown.append(stream.getpeercert())
        except OSError as error:
            shown.append(error)
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours, server_hostname=expected) as stream:
            stream.recv(1)
    finally:
        thread.join()
    (certificate,) = shown
    if isinstance(certificate, OSError):
        raise certificate
    assert isinstance(certificate, dict)
    return str(dict(certificate["subjectAltName"])["DNS"])


def test_two_nodes_of_one_ca_know_each_other_by_name_and_address(certs: Path) -> None:
    server, client = (
        context(ssl.Purpose.CLIENT_AUTH, certs, "node-a"),
        context(ssl.Purpose.SERVER_AUTH, certs, "node-b"),
    )
    for expected in ("node-a.peerd", "127.0.0.1", "fd00::7"):
        assert handshake(server, client, expected) == "node-b.peerd"


@pytest.mark.parametrize("expected", ["node-b.peerd", "node-a", "127.0.0.2"])
def test_a_node_is_not_taken_for_another(expected: str, certs: Path) -> None:
    server, client = (
        context(ssl.Purpose.CLIENT_AUTH, certs, "node-a"),
        context(ssl.Purpose.SERVER_AUTH, certs, "node-b"),
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, expected)


def test_a_node_of_another_ca_is_refused(certs: Path, peerd: Peerd, tmp_path: Path) -> None:
    other = tmp_path / "other"
    peerd("certs", "init", "--out", str(other))
    peerd("certs", "issue", "--name", "node-a", "--ip", "127.0.0.1", "--out", str(other))
    with pytest.raises(ssl.SSLError):
        handshake(
            context(ssl.Purpose.CLIENT_AUTH, other, "node-a"),
            context(ssl.Purpose.SERVER_AUTH, certs, "node-b"),
            "node-a.peerd",
        )


def test_keys_are_readable_by_their_owner_alone(certs: Path) -> None:
    assert {path.name: path.stat().st_mode & 0o777 for path in certs.glob("*.key")} == {
        "ca.key": 0o600,
        "node-a.key": 0o600,
        "node-b.key": 0o600,
    }


def test_a_node_can_not_issue(certs: Path, peerd: Peerd, tmp_path: Path) -> None:
    words = (
        "certs",
        "issue",
        "--name",
        "node-c",
        "--ca",
        str(certs / "node-a.crt"),
        "--ca-key",
        str(certs / "node-a.key"),
    )
    peerd(*words, "--out", str(tmp_path))
    client = context(ssl.Purpose.SERVER_AUTH, certs, "node-b")
    if (tmp_path / "node-c.crt").exists():
        chained = tmp_path / "chain.crt"
        chained.write_bytes((tmp_path / "node-c.crt").read_bytes() + (certs / "node-a.crt").read_bytes())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(chained, tmp_path / "node-c.key")
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server, client, "node-c.peerd")


def test_a_ca_is_not_replaced_by_accident(certs: Path, peerd: Peerd) -> None:
    before = (certs / "ca.crt").read_bytes()
    refused = peerd("certs", "init", "--out", str(certs))
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert (certs / "ca.crt").read_bytes() == before
    assert peerd("certs", "init", "--force", "--out", str(certs)).exit_code == 0
    assert (certs / "ca.crt").read_bytes() != before


def test_a_ca_may_lie_elsewhere(certs: Path, peerd: Peerd, tmp_path: Path) -> None:
    ca = ("--ca", str(certs / "ca.crt"), "--ca-key", str(certs / "ca.key"))
    result = peerd("certs", "issue", "--name", "node-c", *ca, "--out", str(tmp_path / "elsewhere"))
    assert result.stdout.split() == [str(tmp_path / "elsewhere" / f"node-c.{kind}") for kind in ("crt", "key")]


def test_no_ca_is_told_how_to_make_one(peerd: Peerd, tmp_path: Path) -> None:
    result = peerd("certs", "issue", "--name", "node-a", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "peerd certs init" in result.stderr


@pytest.mark.parametrize(
    "words", [("--name", "a b"), ("--name", "a", "--ip", "10.0.0."), ("--name", "a", "--days", "0")]
)
def test_a_wrong_value_is_named(words: tuple[str, ...], peerd: Peerd, tmp_path: Path) -> None:
    result = peerd("certs", "issue", *words, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert repr(words[-1]).strip("'") in result.stderr


def test_a_certificate_ends_after_its_days_and_never_after_its_ca() -> None:
    now = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    authority = new_authority(days=10, now=now)
    address = ipaddress.ip_address("10.0.0.7")
    short = issue(authority, "node-a", [address], days=3, now=now).certificate
    long = issue(authority, "node-a", [address], days=300, now=now).certificate
    assert short.not_valid_after_utc == now + dt.timedelta(days=3)
    assert long.not_valid_after_utc == authority.certificate.not_valid_after_utc == now + dt.timedelta(days=10)
    assert short.not_valid_before_utc < now
    names = short.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [address]


def test_a_ca_of_another_tool_names_its_key_as_it_likes(peerd: Peerd, tmp_path: Path) -> None:
    """Go derives it from SHA-256 since 1.25 (RFC 7093, section 2, method 1), and Helm's CA is made by Go."""
    ours = new_authority(days=10, now=dt.datetime.now(dt.UTC))
    builder = x509.CertificateBuilder(
        ours.certificate.issuer,
        ours.certificate.subject,
        ours.key.public_key(),
        ours.certificate.serial_number,
        ours.certificate.not_valid_before_utc,
        ours.certificate.not_valid_after_utc,
    ).add_extension(x509.SubjectKeyIdentifier(bytes(range(20))), critical=False)
    for extension in ours.certificate.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    Credentials(builder.sign(ours.key, hashes.SHA256()), ours.key).write(tmp_path / "ca.crt", tmp_path / "ca.key")
    for name in ("node-a", "node-b"):
        peerd("certs", "issue", "--name", name, "--out", str(tmp_path))
    server, client = (
        context(ssl.Purpose.CLIENT_AUTH, tmp_path, "node-a"),
        context(ssl.Purpose.SERVER_AUTH, tmp_path, "node-b"),
    )
    assert handshake(server, client, "node-a.peerd") == "node-b.peerd"
