"""Those who are turned away at a door with certificates, and why: told in the log, so that an operator finds an expired one.

Anybody on the network can knock, so each reason is told once a minute at most, with how often it came meanwhile.
"""

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

TOLD_SECONDS = 60.0
REASONS_MAX = 64
"""OpenSSL has some dozens that a stranger can bring about."""


class Strangers:
    """Counts and tells. `clock` gives seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def turned_away(self, reason: str) -> None:
        """Somebody was, for this reason."""
        now = self._clock()
        if reason not in self._told_at and len(self._told_at) >= REASONS_MAX:
            reason = "another reason"
        if now - self._told_at.get(reason, now - TOLD_SECONDS) < TOLD_SECONDS:
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._told_at[reason] = now
        more = self._untold.pop(reason, 0)
        log.warning(
            "a stranger was turned away at the peer door: %s%s", reason, f"; {more} more before" if more else ""
        )


def watched(strangers: Strangers) -> type[ssl.SSLObject]:
    """The end of a TLS connection that tells of a handshake which fails, for `SSLContext.sslobject_class`.

    asyncio and uvloop tell of none unless they debug.
    """

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                raise  # Not done yet; or hung up, as who only looks whether the port is open.
            except ssl.SSLError as error:
                strangers.turned_away(_reason(error))
                raise

    return Watched


def names_shown(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The DNS names of a certificate, as `SSLObject.getpeercert` gives it."""
    names: Sequence[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    return frozenset(value for kind, value in names if kind == "DNS")


def _reason(error: ssl.SSLError) -> str:
    """In OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not taken: {error.verify_message}"
    return (error.reason or "TLS failed").lower().replace("_", " ")
