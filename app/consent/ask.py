"""The question: would upstream give this content to this client?

A client's own credential is shown first, since that is the one question which settles it for who has one. Where it has none, or
is turned away, nobody's is: what everybody gets is public, and that is remembered for all clients. Those who ask the same at
the same time ask once. Whatever else upstream says, and that it says nothing, is no yes.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

from app.consent.memory import ConsentMemory, Given, Withheld
from app.consent.seal import Seal
from app.content.digest import Digest
from app.content.location import BlobInRegistry, FileAtUrl, Location, ManifestInRegistry
from app.content.single_flight import SingleFlight
from app.content.source import Stat
from app.errors import ContentUnknown, PeerdError, SourceLied, UpstreamRefused, UpstreamUnavailable

Place = TypeVar("Place", BlobInRegistry, FileAtUrl, ManifestInRegistry)
Answered = Literal["given", "refused", "unknown"]
By = Literal["memory", "upstream"]


class Upstream(Protocol):
    """What is needed of upstream: its word to a client that asks by itself."""

    async def stat(self, location: Location, *, alone: bool) -> Stat:
        """Size and version of a blob or file."""

    async def manifest_digest(self, location: ManifestInRegistry, *, alone: bool) -> tuple[Digest, str, int]:
        """Digest, media type and size of a manifest."""


class Consent:
    """Upstream's consent to clients, asked for and remembered. `told` counts answers, and who gave them."""

    def __init__(
        self, upstream: Upstream, memory: ConsentMemory, seal: Seal, *, told: Callable[[Answered, By], None]
    ) -> None:
        self._upstream = upstream
        self._memory = memory
        self._seal = seal
        self._told = told
        self._asking: SingleFlight[bytes, Given] = SingleFlight()

    async def ask(self, location: Place, *, anew: bool = False) -> Given:
        """What upstream gives to the client whose credential is in `location`; `anew`: what was remembered does not count.

        Raises:
            UpstreamRefused, ContentUnknown: neither this client gets it, nor everybody; upstream's word to this client.
            UpstreamError, SourceLied: nobody can tell. Nothing is served on that.
        """
        everybody, own = location, self._seal.of(location)
        public = own
        if location.authorization is not None:
            everybody = replace(location, authorization=None)
            public = self._seal.of(everybody)
        if not anew:
            for seal in (public, own):
                if isinstance(word := self._memory.get(seal), Given):
                    self._told("given", "memory")
                    return word
        try:
            return await self._one_or_all(location, own, everybody, public, anew=anew)
        except UpstreamUnavailable:
            if anew or (word := self._memory.while_away(public)) is None:
                raise
            return word

    async def _one_or_all(self, location: Place, own: bytes, everybody: Place, public: bytes, *, anew: bool) -> Given:
        if own == public:
            return await self._word(everybody, public, anew=anew)
        try:
            return await self._word(location, own, anew=anew)
        except (UpstreamRefused, ContentUnknown) as error:
            refusal = error
        with contextlib.suppress(UpstreamRefused, ContentUnknown):
            return await self._word(everybody, public, anew=anew)
        raise refusal

    async def _word(self, location: Place, seal: bytes, *, anew: bool) -> Given:
        """Upstream's word on one credential, from memory or asked now; raises as `ask`."""
        word = None if anew else self._memory.get(seal)
        if isinstance(word, Withheld):
            self._told("refused", "memory")
            raise UpstreamRefused(
                f"upstream answered {word.status} for {location} a moment ago: it wants another credential",
                status=word.status,
                challenge=word.challenge,
            )
        return word or await self._asking.ask(seal, lambda: self._asked(location, seal))

    async def _asked(self, location: Place, seal: bytes) -> Given:
        # From before the question: a credential that is revoked while upstream answers does not count for longer.
        asked_at = self._memory.now()
        answer: Answered = "unknown"
        try:
            given = await self._stat(location)
            answer = "given"
        except UpstreamRefused as error:
            answer = "refused"
            self._memory.put(seal, Withheld(error.status, error.challenge), said_at=asked_at)
            raise
        except ContentUnknown:
            # Not remembered: what is not there now may be pushed in a moment.
            answer = "refused"
            self._memory.forget(seal)
            raise
        finally:
            self._told(answer, "upstream")
        self._memory.put(seal, given, said_at=asked_at)
        return given

    async def _stat(self, location: BlobInRegistry | FileAtUrl | ManifestInRegistry) -> Given:
        if isinstance(location, ManifestInRegistry):
            digest, _, size = await self._upstream.manifest_digest(location, alone=True)
            if digest != location.reference:
                raise SourceLied(f"{location.registry} answers with {digest} for {location}")
            return Given(size)
        stat = await self._upstream.stat(location, alone=True)
        return Given(stat.size, stat.validator)


def differs(what: str, given: Given, size: int) -> PeerdError:
    """The error where upstream's answer to the client can not have been this content."""
    return UpstreamUnavailable(
        f"upstream answers with {given.size} bytes for {what}, which has {size}: that is no consent to it"
    )
