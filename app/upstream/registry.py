"""OCI registries: blobs and manifests by name, with tokens.

Owns: the paths of the distribution-spec ("Pulling manifests", "Pulling blobs") and in whose name they are asked for.
"""

from collections.abc import Mapping

from app.content.digest import Digest
from app.content.json_text import parsed
from app.content.location import BlobInRegistry, ManifestInRegistry
from app.errors import BadRequest, SourceLied, UpstreamRefused
from app.upstream.body import content_length, refuse_encoded
from app.upstream.config import RegistryNames, normal_repository
from app.upstream.control import ControlClient
from app.upstream.credentials import Credential
from app.upstream.exchange import Answer, Hop, Send, ask, failure
from app.upstream.guard import Guard
from app.upstream.patience import Patience, Waiting
from app.upstream.token import Asker, Tokens
from app.upstream.url import UpstreamUrl

# distribution-spec, "Pushing Manifests": "at least 4 megabytes" is what everybody takes, so nobody sends more.
MANIFEST_BYTES_MAX = 4 * 1024 * 1024

# Schema 1 is left out: its digest leaves out a part of its bytes, and containerd 2 does not take it any more.
MANIFEST_MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT_MANIFESTS = {"Accept": ", ".join((*MANIFEST_MEDIA_TYPES, "*/*;q=0.1"))}


class Registry:
    """All registries, each reached where its name says."""

    def __init__(
        self, names: RegistryNames, guard: Guard, tokens: Tokens, client: ControlClient, patience: Patience
    ) -> None:
        self._names = names
        self._guard = guard
        self._tokens = tokens
        self._client = client
        self._patience = patience

    def blob_url(self, location: BlobInRegistry) -> UpstreamUrl:
        """Where a blob is asked for. Memory only; raises UpstreamForbidden or BadRequest."""
        return self._url(location.registry, location.repository, f"blobs/{location.digest}")

    async def ask_for_blob(
        self, location: BlobInRegistry, send: Send, waiting: Waiting, *, alone: bool = False
    ) -> tuple[Hop, Answer]:
        """Ask by `send` for a blob, as the client or as this node, and follow redirects; errors as `exchange.ask` has them.

        `alone`: as the client only, see `_ask_alone`.
        """
        ask_as = self._ask_alone if alone else self._ask
        return await ask_as(location, self.blob_url(location), send, waiting)

    async def manifest_digest(self, location: ManifestInRegistry, *, alone: bool = False) -> tuple[Digest, str, int]:
        """Digest, media type and size of what `location` names now: by HEAD, or by GET where HEAD does not say.

        `alone` as in `ask_for_blob`.
        """
        answer = await self._ask_for_manifest("HEAD", location, alone=alone)
        # 404 and 401 are as good as GET's; a registry that does not know HEAD answers 405, or 400.
        if answer.status in (401, 403, 404, 410):
            raise failure(answer, str(location))
        if answer.status == 200 and (told := _told_by(answer.headers)) is not None:
            return told
        body, media_type = await self.manifest(location, alone=alone)
        algorithm = location.reference.algorithm if isinstance(location.reference, Digest) else "sha256"
        return Digest.of(body, algorithm), media_type, len(body)

    async def manifest(self, location: ManifestInRegistry, *, alone: bool = False) -> tuple[bytes, str]:
        """A manifest's bytes, unchecked, and its media type; raises SourceLied beyond 4 MiB. `alone` as in `ask_for_blob`."""
        answer = await self._ask_for_manifest("GET", location, alone=alone)
        if answer.status != 200:
            raise failure(answer, str(location))
        refuse_encoded(answer.headers)
        if answer.body is None:
            raise SourceLied(f"{location} has more than {MANIFEST_BYTES_MAX} bytes, which no manifest may have")
        return answer.body, _media_type(answer.headers) or _media_type_within(answer.body)

    async def _ask_for_manifest(self, method: str, location: ManifestInRegistry, *, alone: bool) -> Answer:
        async def send(hop: Hop) -> Answer:
            return await self._client.send(method, hop, headers=_ACCEPT_MANIFESTS, body_bytes_max=MANIFEST_BYTES_MAX)

        url = self._url(location.registry, location.repository, f"manifests/{location.reference}")
        ask_as = self._ask_alone if alone else self._ask
        _, answer = await ask_as(location, url, send, self._patience.begin())
        return answer

    async def _ask(
        self, location: BlobInRegistry | ManifestInRegistry, url: UpstreamUrl, send: Send, waiting: Waiting
    ) -> tuple[Hop, Answer]:
        """Ask as the client first, where it showed a credential, and as this node when that is turned away."""
        repository = normal_repository(location.registry, location.repository)
        if location.authorization is not None:
            asker = Asker(location.registry, url, repository, location.authorization)
            try:
                hop, answer = await self._ask_as(asker, send, waiting)
            except UpstreamRefused:
                pass
            else:
                if answer.status not in (401, 403):
                    return hop, answer
        return await self._ask_as(Asker(location.registry, url, repository, None), send, waiting)

    async def _ask_alone(
        self, location: BlobInRegistry | ManifestInRegistry, url: UpstreamUrl, send: Send, waiting: Waiting
    ) -> tuple[Hop, Answer]:
        """Ask with the client's credential and no other, or as nobody where it showed none: what would that client get?

        A token that this node got for the credential before is not shown: it may count for longer than the credential.
        """
        own = location.authorization
        repository = normal_repository(location.registry, location.repository)
        asker = Asker(location.registry, url, repository, own, anonymous=own is None)
        if own is None:
            return await self._ask_as(asker, send, waiting)
        hop, answer = await ask(Hop(url, own), send, guard=self._guard, waiting=waiting)
        # Only a password is exchanged. In place of a token that does not count there would be one that anybody gets.
        if answer.status == 401 and hop.url.origin == url.origin and Credential.from_basic(own) is not None:
            fresh = await self._tokens.anew(asker, answer, own, waiting)
            if fresh is not None:
                return await ask(Hop(url, fresh), send, guard=self._guard, waiting=waiting)
        return hop, answer

    async def _ask_as(self, asker: Asker, send: Send, waiting: Waiting) -> tuple[Hop, Answer]:
        shown = await self._tokens.remembered(asker) or asker.own
        hop, answer = await ask(Hop(asker.url, shown), send, guard=self._guard, waiting=waiting)
        if answer.status == 401 and hop.url.origin == asker.url.origin:
            fresh = await self._tokens.answer_to(asker, answer, shown, waiting)
            if fresh is not None:
                return await ask(Hop(asker.url, fresh), send, guard=self._guard, waiting=waiting)
        return hop, answer

    def _url(self, registry: str, repository: str, tail: str) -> UpstreamUrl:
        with self._guard.counted():
            base = self._names.base(registry)
        return self._guard.url(f"{str(base).rstrip('/')}/v2/{normal_repository(registry, repository)}/{tail}")


def _told_by(headers: Mapping[str, str]) -> tuple[Digest, str, int] | None:
    """What HEAD says of a manifest; None when it leaves something out or says what can not be."""
    try:
        digest = Digest.parse(headers.get("Docker-Content-Digest", ""))
        size = content_length(headers)
    except (BadRequest, SourceLied):
        return None
    media_type = _media_type(headers)
    if media_type is None or size is None or size == 0:
        return None
    return digest, media_type, size


def _media_type(headers: Mapping[str, str]) -> str | None:
    return headers.get("Content-Type", "").partition(";")[0].strip() or None


def _media_type_within(body: bytes) -> str:
    """A manifest's own `mediaType` (image-spec), for a registry that sends no Content-Type."""
    try:
        media_type = parsed(body).get("mediaType")
    except (ValueError, AttributeError):
        media_type = None
    return media_type if isinstance(media_type, str) else MANIFEST_MEDIA_TYPES[1]
