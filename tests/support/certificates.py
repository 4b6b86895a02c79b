"""A node's certificate, as files."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from app.cli.authority import Credentials, issue
from app.settings import TlsFiles

LOOPBACK = [ipaddress.ip_address("127.0.0.1")]


def written(
    folder: Path, authority: Credentials, name: str, *, days: int = 10, now: dt.datetime | None = None
) -> TlsFiles:
    """A certificate of `authority` for a node at loopback, its key, and the authority's own certificate."""
    folder.mkdir(exist_ok=True)
    files = TlsFiles(folder / "ca.crt", folder / "node.crt", folder / "node.key")
    issue(authority, name, LOOPBACK, days=days, now=now or dt.datetime.now(dt.UTC)).write(files.cert, files.key)
    files.ca.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return files
