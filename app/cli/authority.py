"""A cluster's CA and its nodes' certificates, as X.509 files.

Owns: what is in a certificate. Keys are ECDSA P-256: small, and known to every TLS library that a peer may be built with.
A node's certificate names `<node-name>.peerd` and the node's addresses, and serves both ends of a connection.
"""

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.errors import BadRequest, PeerdError

# Clocks of a cluster differ; a certificate is valid a little before it was made.
_CLOCK_DIFFERENCE: Final = dt.timedelta(minutes=5)
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class NoAuthority(PeerdError):
    """The files of the CA are missing, or are no CA's."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Self:
        """A CA's files; raises NoAuthority."""
        try:
            read_certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
            read_key = serialization.load_pem_private_key(key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise NoAuthority(f"no CA in {certificate} and {key}: {error}; `peerd certs init` makes one") from error
        if (
            not isinstance(read_key, ec.EllipticCurvePrivateKey)
            or read_key.public_key() != read_certificate.public_key()
        ):
            raise NoAuthority(f"{key} is not the key of {certificate}")
        return cls(read_certificate, read_key)

    def write(self, certificate: Path, key: Path) -> None:
        """Both files, the key readable by its owner alone, each whole or not at all."""
        certificate.parent.mkdir(parents=True, exist_ok=True)
        encoded = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(key, encoded, mode=0o600)
        _write(certificate, self.certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def new_authority(*, days: int, now: dt.datetime) -> Credentials:
    """A CA for one cluster, valid for so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peerd cluster CA")])
    builder = (
        _builder(name, name, key, now, now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Credentials(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Credentials, node_name: str, addresses: list[IpAddress], *, days: int, now: dt.datetime
) -> Credentials:
    """A node's certificate; it does not outlive the CA's."""
    end = min(now + dt.timedelta(days=days), authority.certificate.not_valid_after_utc)
    if end <= now:
        raise BadRequest(
            f"the CA's certificate ended on {end:%Y-%m-%d}: make a new one with `peerd certs init --force`"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    # X.520 allows a common name of 64 characters; what counts is the alternative name.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node_name}.peerd"[:64])])
    names: list[x509.GeneralName] = [x509.DNSName(f"{node_name}.peerd"), *map(x509.IPAddress, addresses)]
    ca_key = _key_identifier(authority)
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(subject, authority.certificate.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(ca_key, critical=False)
    )
    return Credentials(builder.sign(authority.key, hashes.SHA256()), key)


def _key_identifier(authority: Credentials) -> x509.AuthorityKeyIdentifier:
    """How the CA's certificate names its own key, which not every tool derives from it in the same way (RFC 5280, 4.2.1.2)."""
    try:
        named = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named.value)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, data: bytes, *, mode: int) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    partial.replace(path)
