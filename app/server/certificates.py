"""This node's certificate and the cluster's CA, as TLS contexts, and read again when their files change.

The files are looked at before each handshake, which costs three stats, so that nothing has to watch them. While they are being
replaced, one by one, what was read before is used. A replaced CA lets nobody in any more whom only the old one vouched for.
"""

import logging
import ssl

from cryptography import x509

from app.server.strangers import Strangers, watched
from app.settings import TlsFiles

log = logging.getLogger(__name__)

# (device, inode, modification time in ns) of CA, certificate and key.
_Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """TLS 1.3 contexts for both ends. Raises OSError or ssl.SSLError when the files can not be used at the start."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = self._look()
        self._server, self._client, self.expires_at = self._read()
        self.door = self._new(ssl.PROTOCOL_TLS_SERVER)
        self.door.sni_callback = self._before_handshake
        self.door.sslobject_class = watched(Strangers())
        # A session that is resumed shows no certificate: it would let in whom a replaced CA does not vouch for any more.
        self.door.num_tickets = 0
        self.generation = 0

    def client(self) -> ssl.SSLContext:
        """For connections to other members; the name to be checked is the caller's business."""
        self.refresh()
        return self._client

    def refresh(self) -> None:
        """Read the files again if they changed. `expires_at` and `generation` tell of what is used now."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._server, self._client, self.expires_at = self._read()
        except (OSError, ssl.SSLError, ValueError) as error:
            log.warning("changed certificates can not be used yet: %s; going on with those read before", error)
            return
        self._stamp = stamp
        self.generation += 1
        log.info("certificates were read again; this node's ends at %d (seconds since the epoch)", self.expires_at)

    def _before_handshake(self, connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        self.refresh()
        connection.context = self._server

    def _look(self) -> _Stamp:
        stats = [path.stat() for path in (self._files.ca, self._files.cert, self._files.key)]
        return tuple((one.st_dev, one.st_ino, one.st_mtime_ns) for one in stats)

    def _read(self) -> tuple[ssl.SSLContext, ssl.SSLContext, float]:
        certificate = x509.load_pem_x509_certificate(self._files.cert.read_bytes())
        server, client = self._new(ssl.PROTOCOL_TLS_SERVER), self._new(ssl.PROTOCOL_TLS_CLIENT)
        return server, client, certificate.not_valid_after_utc.timestamp()

    def _new(self, protocol: int) -> ssl.SSLContext:
        """Both ends show a certificate of the cluster's CA, and nothing older than TLS 1.3 is spoken."""
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._files.cert, self._files.key)
        context.load_verify_locations(self._files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context
