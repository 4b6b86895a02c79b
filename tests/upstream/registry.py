"""A registry and a token server whose every word a test can change."""

import json
from dataclasses import dataclass, field

from app.content.digest import Digest
from app.content.location import BlobInRegistry, ManifestInRegistry
from tests.upstream.conversation import Asked, Wire, part, response

BLOB = bytes(range(256)) * 64
DIGEST = Digest.of(BLOB)
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}).encode()
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"


def blob(registry: str, repository: str = "test/app", authorization: str | None = None) -> BlobInRegistry:
    return BlobInRegistry(registry, repository, DIGEST, authorization)


def manifest(registry: str, reference: Digest | str = "v1", authorization: str | None = None) -> ManifestInRegistry:
    return ManifestInRegistry(registry, "test/app", reference, authorization)


@dataclass
class TokenServer:
    """Gives `token-1`, `token-2` … to whom it is told to."""

    accepts: str | None = None
    expires_in: float | None = 300
    answer: bytes | None = None
    asked: list[Asked] = field(default_factory=list)

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        self.asked.append(asked)
        if self.answer is not None:
            await wire.send(self.answer)
        elif asked.authorization != self.accepts and asked.method == "GET":
            await wire.send(response(401, b"who are you?"))
        else:
            document = {"token": f"token-{len(self.asked)}"}
            if self.expires_in is not None:
                document["expires_in"] = self.expires_in
            await wire.send(response(200, json.dumps(document).encode()))


@dataclass
class Registry:
    """Serves one blob and one manifest, to those who show what it `accepts`; None: to everybody."""

    challenge: str = ""
    accepts: set[str] | None = None
    redirect: str | None = None

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        if self.accepts is not None and asked.authorization not in self.accepts:
            await wire.send(response(401, b"{}", WWW_Authenticate=self.challenge))
        elif asked.target.endswith(f"/blobs/{DIGEST}"):
            if self.redirect:
                await wire.send(response(307, b"", Location=self.redirect))
            else:
                await wire.send(part(BLOB, asked))
        elif "/manifests/" in asked.target:
            head = response(
                200,
                b"" if asked.method == "HEAD" else MANIFEST,
                length=len(MANIFEST),
                Content_Type=MEDIA_TYPE,
                Docker_Content_Digest=str(Digest.of(MANIFEST)),
            )
            await wire.send(head)
        else:
            await wire.send(response(404))
