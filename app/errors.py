"""The tree of errors. Owns: what can go wrong, told apart by what the caller may do about it.

PeerdError
├── SourceError                 another source may still have the bytes
│   ├── SourceUnavailable           refused, timed out, busy, or does not have it after all
│   ├── NotNow                      whoever has it is busy, and nobody waits for it: take something else
│   ├── SourceLied                  checksum, digest, length or position is wrong: its conduct is remembered
│   └── RangesUnsupported           it has the bytes, but only from the beginning on
├── ContentError                no source can help
│   ├── ContentUnknown              nobody has it (404)
│   ├── ContentChanged              upstream has another version by now: what was begun can not be completed
│   ├── DigestMismatch              whole, and not what its digest says
│   └── Unobtainable                every source was tried; the bytes can not be had now
├── UpstreamError               upstream's own answer, kept apart from ours
│   ├── UpstreamRefused             401, 403: it wants another credential
│   ├── UpstreamUnavailable         unreachable, or goes on answering 429 or 5xx
│   └── UpstreamForbidden           our own policy does not let this host be asked
├── RangeNotSatisfiable         416 (RFC 9110, section 15.5.17)
└── BadRequest                  what the client sent can not be meant: digest, name, URL, reference

`app/routes/answers.py` holds the one table that maps these to statuses and documents. A message has subject, place,
numbers and what happens next; it never holds a credential, a signature or a whole URL with its query.
"""


class PeerdError(Exception):
    """Whatever peerd raises on purpose."""


class SourceError(PeerdError):
    """One source could not give what it was asked for; another may."""


class SourceUnavailable(SourceError):
    """The source refused, timed out, is busy, or does not have the bytes after all."""


class NotNow(SourceError):
    """Whoever has the bytes is busy; as nobody waits for them, something else is fetched first."""


class SourceLied(SourceError):
    """The source answered with something that can not be true: checksum, length or position."""


class RangesUnsupported(SourceError):
    """The source ignores `Range`; it can only be read from the beginning on."""


class ContentError(PeerdError):
    """The content itself can not be had, whichever source is asked."""


class ContentUnknown(ContentError):
    """Nobody has it: upstream says 404 and no member holds it."""


class ContentChanged(ContentError):
    """Upstream has another version by now than the one whose reading was begun."""


class DigestMismatch(ContentError):
    """The whole content does not hash to its digest."""


class Unobtainable(ContentError):
    """Every source was tried and failed; trying again later may help."""


class UpstreamError(PeerdError):
    """What upstream answered, or that it did not."""


class UpstreamRefused(UpstreamError):
    """Upstream answered 401 or 403.

    Attributes:
        status: upstream's own status.
        challenge: its `WWW-Authenticate`, if any.
    """

    def __init__(self, message: str, *, status: int, challenge: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.challenge = challenge


class UpstreamUnavailable(UpstreamError):
    """Upstream can not be reached, or goes on answering 429 or 5xx.

    Attributes:
        retry_after_seconds: what upstream asked for, when it did; None when it was not reached at all.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UpstreamForbidden(UpstreamError):
    """Our own policy (`--upstream-allow`, `--hosts`, private addresses) does not let this host be asked.

    Attributes:
        reason: one word for the metric `peerd_upstream_refused_total`: `scheme`, `host`, `address`, `userinfo`, `redirect`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RangeNotSatisfiable(PeerdError):
    """No byte of the content lies in what was asked for.

    Attributes:
        size: of the content in bytes, for `Content-Range: bytes */<size>`.
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"no byte of the {size} that there are lies in the range asked for")
        self.size = size


class BadRequest(PeerdError):
    """What the client sent can not be meant.

    Attributes:
        code: the OCI error code under `/v2` (distribution-spec, Error Codes).
    """

    def __init__(self, message: str, *, code: str = "UNSUPPORTED") -> None:
        super().__init__(message)
        self.code = code


def anew(error: PeerdError) -> PeerdError:
    """An error that is kept, to be raised by one of several who meet it: their frames, which hold the keeper, are not put on what it keeps."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy


def without_frames(error: PeerdError) -> PeerdError:
    """The same error, to be kept: a traceback holds frames, those hold the error, and all of them hold files open."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
