"""What is asked of upstream and what it answers, as values; and the way through its redirects.

Owns: where a credential may go. Control calls and byte transfers both speak in these words, so that there is one place
which follows a redirect: by hand, a few times, guarded at each hop, and never with the credential to another origin.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from app.errors import ContentUnknown, PeerdError, UpstreamRefused, UpstreamUnavailable
from app.upstream.guard import Guard
from app.upstream.patience import Waiting
from app.upstream.url import UpstreamUrl

# RFC 9110, section 15.4, those that mean "ask the same there"; 300 has no one place, 304 and 305 are something else.
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_MAX = 5


@dataclass(frozen=True, slots=True)
class Hop:
    """One place to ask, and the `Authorization` to show there."""

    url: UpstreamUrl
    authorization: str | None = field(default=None, repr=False)

    def redirected(self, url: UpstreamUrl) -> "Hop":
        """The same at `url`; without the credential unless scheme, host and port are the same.

        Credentials are scoped to an origin, not to a name: another port is another server, `http` shows it to everybody
        (RFC 9110, section 15.4, and CVE-2018-1000007 in curl for what happens else). A signed URL wants none anyway: S3
        answers 400 to two credentials.
        """
        return Hop(url, self.authorization if url.origin == self.url.origin else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: of the final answer to this one request.
        headers: case-insensitive.
        body: None where it was not wanted, or is longer than was wanted.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


Send = Callable[[Hop], Awaitable[Answer]]


async def ask(hop: Hop, send: Send, *, guard: Guard, waiting: Waiting) -> tuple[Hop, Answer]:
    """Ask `hop` by `send`, where it redirects to, and so on; returns where the last answer came from, and that answer.

    `send` tries one hop and raises UpstreamUnavailable when it can not be reached. A busy upstream is waited for.

    Raises:
        UpstreamForbidden: a redirect leads to where the guard lets nobody go.
        UpstreamUnavailable: unreachable, busy for longer than is waited, or going in circles.
    """
    for _ in range(_REDIRECTS_MAX + 1):
        answer = await waiting.out(_sending(send, hop), str(hop.url.origin))
        location = answer.headers.get("Location")
        if answer.status not in _REDIRECTS or not location:
            return hop, answer
        hop = hop.redirected(guard.redirected(hop.url, location))
    raise UpstreamUnavailable(f"{hop.url.origin} redirects more than {_REDIRECTS_MAX} times")


def failure(answer: Answer, what: str) -> PeerdError:
    """The error that says what `answer`, which is no success, means for `what` was asked."""
    match answer.status:
        case 401 | 403:
            return UpstreamRefused(
                f"upstream answers {answer.status} for {what}: it wants another credential",
                status=answer.status,
                challenge=answer.headers.get("WWW-Authenticate"),
            )
        case 404 | 410:
            return ContentUnknown(f"upstream answers {answer.status} for {what}: there is no such thing")
        case status:
            return UpstreamUnavailable(f"upstream answers {status} for {what}")


def _sending(send: Send, hop: Hop) -> Callable[[], Awaitable[Answer]]:
    return lambda: send(hop)
