"""Certificates of the gossip door: read from files, and read again when the files change.

A member's certificate names `<member's name>.peerd`; both sides of a connection check it for the member that is meant.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from peerd_gossip.errors import GossipUnavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the cluster's CA, this member's certificate (chain) and its key."""

    ca: Path
    cert: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """CA, certificate and key; GossipUnavailable when one can not be read."""
        try:
            return self.ca.read_bytes(), self.cert.read_bytes(), self.key.read_bytes()
        except OSError as error:
            raise GossipUnavailable(f"the certificates of the gossip door can not be read: {error}") from error


def tls_name(name: str) -> str:
    """What a member's certificate names it."""
    return f"{name}.peerd"


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Clients must show a certificate of the CA. The files are looked at again before each handshake."""
    last = files.read()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        try:
            now = files.read()
        except GossipUnavailable as error:  # halfway through being replaced: the last ones are still good
            log.warning("%s; going on with those read before", error)
            return None
        if now == last:
            return None
        last = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(_configuration(last), fetch, require_client_authentication=True)


def client_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """As the files are now; a channel keeps what it was opened with."""
    ca, cert, key = files.read()
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


def is_named(auth_context: Mapping[str, Sequence[bytes]], name: str) -> bool:
    """Whether the other side's certificate, which gRPC has verified, is that of the member of this name."""
    return tls_name(name).encode() in auth_context.get("x509_subject_alternative_name", ())


def _configuration(pem: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    ca, cert, key = pem
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)
