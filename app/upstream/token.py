"""Bearer tokens of registries.

Owns: the exchange that turns a challenge and a credential into an `Authorization` (distribution, "Token Authentication
Specification" and "OAuth2 Token Authentication"), and how long that is remembered.

Where does a credential go? To the registry it is for, and to the token server that this registry names in its challenge,
as with containers/image, containerd and Docker: without that no login at a token server would work, and whoever trusts a
registry with a password trusts its word where to present it. But never in the clear where the registry itself was asked
over TLS: then the challenge is refused.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from app.content.json_text import parsed
from app.errors import UpstreamForbidden, UpstreamUnavailable
from app.upstream.challenge import Challenge, challenges
from app.upstream.control import ControlClient
from app.upstream.credentials import Credential, CredentialFile
from app.upstream.exchange import Answer, Hop, ask, failure
from app.upstream.guard import Guard
from app.upstream.patience import Waiting
from app.upstream.remembered import Remembered
from app.upstream.url import UpstreamUrl

# The specification: "If omitted, this defaults to 60 seconds".
_EXPIRES_SECONDS = 60.0
# Forgotten before the registry forgets: clocks differ, and a request that is sent now is still to be let in.
_MARGIN_SECONDS_MAX = 10.0
# A token that is said to live for a year is forgotten sooner: what was withdrawn should count some day.
_EXPIRES_SECONDS_MAX = 3600.0
_BASIC_SECONDS = 300.0
_TOKEN_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for what: the scope of a token.

    Attributes:
        registry: its name, as credentials are filed.
        url: where it is reached.
        repository: as the registry knows it.
        own: the client's own `Authorization`, when that is what counts; then no credential of the node is used.
        anonymous: nobody asks: no credential is used at all.
    """

    registry: str
    url: UpstreamUrl
    repository: str
    own: str | None
    anonymous: bool = False

    @property
    def key(self) -> str:
        """Under which the result is remembered; holds no credential, only its hash."""
        nameless = "nobody" if self.anonymous else "node"
        own = hashlib.sha256(self.own.encode()).hexdigest() if self.own else nameless
        return f"{self.url.origin} {self.registry} {self.repository} {own}"


class Tokens:
    """What to show at registries."""

    def __init__(
        self,
        client: ControlClient,
        guard: Guard,
        credentials: CredentialFile,
        remembered: Remembered[str | None],
    ) -> None:
        self._client = client
        self._guard = guard
        self._credentials = credentials
        self._remembered = remembered

    async def remembered(self, asker: Asker) -> str | None:
        """The `Authorization` that worked a while ago, if it still should."""
        return await self._remembered.get(asker.key)

    async def answer_to(self, asker: Asker, refusal: Answer, shown: str | None, waiting: Waiting) -> str | None:
        """What to show after `refusal` (a 401) of `shown`; None: there is nothing more to show.

        Raises:
            UpstreamForbidden: the token server may not be asked.
            UpstreamUnavailable: it can not be, or answers with nonsense.
            UpstreamRefused: it does not take the credential.
        """
        return await self._remembered.once(asker.key, lambda: self._fresh(asker, refusal, shown, waiting))

    async def _fresh(self, asker: Asker, refusal: Answer, shown: str | None, waiting: Waiting) -> str | None:
        # Within the one flight, so that nobody forgets what another has just learnt.
        known = await self._remembered.get(asker.key)
        if known is not None and known != shown:
            return known
        await self._remembered.forget(asker.key)
        found = await self._exchanged_for(asker, refusal, shown, waiting)
        if found is None:
            return None
        await self._remembered.put(asker.key, *found)
        return found[0]

    async def anew(self, asker: Asker, refusal: Answer, shown: str | None, waiting: Waiting) -> str | None:
        """The same, of a credential that counts now: nothing that is remembered is taken, and nothing is kept."""
        found = await self._exchanged_for(asker, refusal, shown, waiting)
        return found[0] if found else None

    async def _exchanged_for(
        self, asker: Asker, refusal: Answer, shown: str | None, waiting: Waiting
    ) -> tuple[str, float] | None:
        """What to show, and for how many seconds it is to be remembered."""
        offered = challenges(refusal.headers.get("WWW-Authenticate"))
        credential = await self._credential(asker)
        for challenge in offered:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                return await self._token(asker, challenge, credential, waiting)
        for challenge in offered:
            if challenge.scheme == "basic" and credential is not None and credential.basic != shown:
                return credential.basic, _BASIC_SECONDS
        return None

    async def _credential(self, asker: Asker) -> Credential | None:
        if asker.own is not None:
            return Credential.from_basic(asker.own)
        if asker.anonymous:
            return None
        return await asyncio.to_thread(self._credentials.find, asker.registry, asker.repository)

    async def _token(
        self, asker: Asker, challenge: Challenge, credential: Credential | None, waiting: Waiting
    ) -> tuple[str, float]:
        """A token, as a value of `Authorization`, and for how many seconds it is to be remembered."""
        realm = self._realm(asker, challenge, credential)
        wanted = {
            "service": challenge.parameters.get("service", ""),
            "scope": challenge.parameters.get("scope") or f"repository:{asker.repository}:pull",
        }
        if credential is not None and credential.identity_token is not None:
            answer = await self._exchanged(realm, wanted, credential.identity_token, waiting)
        else:
            query = urlencode({name: value for name, value in wanted.items() if value}, quote_via=quote)
            url = self._guard.url(f"{realm}{'&' if '?' in realm.target else '?'}{query}")
            hop = Hop(url, credential.basic if credential else None)
            _, answer = await ask(hop, self._get, guard=self._guard, waiting=waiting)
        if answer.status != 200:
            raise failure(answer, f"a token from {realm.origin}")
        return _token_of(answer, realm)

    def _realm(self, asker: Asker, challenge: Challenge, credential: Credential | None) -> UpstreamUrl:
        realm = self._guard.redirected(asker.url, challenge.parameters["realm"])
        if asker.url.origin.scheme == "https" and realm.origin.scheme != "https" and credential is not None:
            with self._guard.counted():
                raise UpstreamForbidden(
                    f"{asker.url.origin} wants its credential shown to {realm.origin}, in the clear; it is not",
                    reason="redirect",
                )
        return realm

    async def _get(self, hop: Hop) -> Answer:
        return await self._client.send("GET", hop, headers={}, body_bytes_max=_TOKEN_BYTES_MAX)

    async def _exchanged(
        self, realm: UpstreamUrl, wanted: dict[str, str], identity_token: str, waiting: Waiting
    ) -> Answer:
        form = {"grant_type": "refresh_token", "client_id": "peerd", "refresh_token": identity_token, **wanted}
        # Not through `ask`: a form with a credential in it follows no redirect.
        return await waiting.out(
            lambda: self._client.send("POST", Hop(realm), headers={}, body_bytes_max=_TOKEN_BYTES_MAX, form=form),
            str(realm.origin),
        )


def _token_of(answer: Answer, realm: UpstreamUrl) -> tuple[str, float]:
    try:
        document = parsed(answer.body or b"")
        token = document.get("token") or document.get("access_token")
        expires_seconds = float(document.get("expires_in") or _EXPIRES_SECONDS)
    except (ValueError, TypeError, AttributeError) as error:
        raise UpstreamUnavailable(f"{realm.origin} answers with no token document") from error
    # RFC 6750, section 2.1: b64token; anything else would break out of the header.
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token or not token:
        raise UpstreamUnavailable(f"{realm.origin} answers with no token")
    margin_seconds = min(_MARGIN_SECONDS_MAX, expires_seconds / 4)
    return f"Bearer {token}", min(expires_seconds - margin_seconds, _EXPIRES_SECONDS_MAX)
