"""Against a real registry: distribution, as Debian has it."""

import json
import random
from pathlib import Path

import httpx
import pytest

from app.content.digest import Digest
from app.content.location import BlobInRegistry, ManifestInRegistry
from app.errors import ContentUnknown, UpstreamRefused
from app.upstream.config import UpstreamConfig
from tests.support.registry import AUTHORIZATION, Registry
from tests.upstream.reading import content, fetch

DATA = random.Random(3).randbytes(2 * 1024 * 1024 + 5)
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
MISSING = Digest.of(b"nobody has pushed this")


def pushed_blob(registry: Registry, data: bytes = DATA, algorithm: str = "sha256") -> BlobInRegistry:
    return BlobInRegistry("example.local", "test/app", Digest.parse(registry.push_blob("test/app", data, algorithm)))


def pushed_manifest(registry: Registry) -> bytes:
    """A manifest of one configuration and no layers, tagged v1."""
    config = registry.push_blob("test/app", b"{}")
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [],
        }
    ).encode()
    put = httpx.put(
        f"{registry.url}/v2/test/app/manifests/v1",
        content=body,
        headers={"Content-Type": MEDIA_TYPE, "Authorization": AUTHORIZATION},
        trust_env=False,
    )
    assert put.status_code == 201, put.text
    return body


def configured(registry: Registry, auth_file: Path | None = None) -> UpstreamConfig:
    return UpstreamConfig(registries={"example.local": registry.url}, auth_file=auth_file)


def tag(reference: Digest | str = "v1", authorization: str | None = None) -> ManifestInRegistry:
    return ManifestInRegistry("example.local", "test/app", reference, authorization)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_blob_in_parts_and_whole(opened, registry: Registry, algorithm: str) -> None:
    location = pushed_blob(registry, algorithm=algorithm)
    source = await opened(configured(registry))
    stat = await source.stat(location)
    assert (stat.size, stat.ranged) == (len(DATA), True)
    what = content(location, stat.size, stat.validator)
    for start, stop in [(0, 1), (5, 1024 * 1024), (len(DATA) - 1, len(DATA)), (0, len(DATA))]:
        assert await fetch(source, what, start, stop) == DATA[start:stop]


async def test_an_empty_blob(opened, registry: Registry) -> None:
    source = await opened(configured(registry))
    assert (await source.stat(pushed_blob(registry, b""))).size == 0


async def test_a_manifest_by_tag_and_by_digest(opened, registry: Registry) -> None:
    body = pushed_manifest(registry)
    source = await opened(configured(registry))
    assert await source.manifest_digest(tag()) == (Digest.of(body), MEDIA_TYPE, len(body))
    assert await source.manifest(tag()) == (body, MEDIA_TYPE)
    assert await source.manifest(tag(Digest.of(body))) == (body, MEDIA_TYPE)


async def test_what_was_never_pushed(opened, registry: Registry) -> None:
    source = await opened(configured(registry))
    with pytest.raises(ContentUnknown):
        await source.stat(BlobInRegistry("example.local", "test/app", MISSING))
    with pytest.raises(ContentUnknown):
        await source.manifest_digest(tag("v0"))
    with pytest.raises(ContentUnknown):
        await fetch(source, content(BlobInRegistry("example.local", "test/app", MISSING), 10), 0, 5)


async def test_a_password_is_wanted(opened, htpasswd_registry: Registry) -> None:
    location = pushed_blob(htpasswd_registry)
    source = await opened(configured(htpasswd_registry))
    with pytest.raises(UpstreamRefused) as refusal:
        await source.stat(location)
    assert refusal.value.status == 401
    assert refusal.value.challenge is not None
    with pytest.raises(UpstreamRefused):
        await fetch(source, content(location, len(DATA)), 0, 5)


async def test_the_nodes_password(opened, htpasswd_registry: Registry, tmp_path: Path) -> None:
    body = pushed_manifest(htpasswd_registry)
    location = pushed_blob(htpasswd_registry)
    auth_file = tmp_path / "config.json"
    auth_file.write_text(
        json.dumps({"auths": {"http://example.local/v2/": {"username": "tester", "password": "secret"}}})
    )
    source = await opened(configured(htpasswd_registry, auth_file))
    stat = await source.stat(location)
    assert await fetch(source, content(location, stat.size, stat.validator), 5, 99) == DATA[5:99]
    assert await source.manifest(tag()) == (body, MEDIA_TYPE)


async def test_a_clients_password_and_nobody_elses(opened, htpasswd_registry: Registry) -> None:
    registry, digest = htpasswd_registry, pushed_blob(htpasswd_registry).digest
    source = await opened(configured(registry))
    own = BlobInRegistry("example.local", "test/app", digest, AUTHORIZATION)
    stat = await source.stat(own)
    assert await fetch(source, content(own, stat.size, stat.validator), 0, len(DATA)) == DATA
    with pytest.raises(UpstreamRefused):
        await source.stat(BlobInRegistry("example.local", "test/app", digest))
    with pytest.raises(UpstreamRefused):
        await source.stat(BlobInRegistry("example.local", "test/app", digest, "Basic dGVzdGVyOndyb25n"))
