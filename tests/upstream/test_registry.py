import json

import pytest

from app.content.digest import Digest
from app.content.location import ManifestInRegistry
from app.errors import BadRequest, ContentUnknown, SourceLied, UpstreamForbidden, UpstreamRefused, UpstreamUnavailable
from app.upstream.config import UpstreamConfig
from app.upstream.registry import MANIFEST_BYTES_MAX
from tests.upstream.conversation import Asked, Script, Wire, response, upstream
from tests.upstream.registry import MANIFEST, MEDIA_TYPE, Registry, blob, manifest

DIGEST = Digest.of(MANIFEST)


def configured(port: int, name: str = "example.local") -> UpstreamConfig:
    return UpstreamConfig(registries={name: f"http://127.0.0.1:{port}"})


async def test_a_manifest(opened) -> None:
    async with upstream(Registry()) as store:
        source = await opened(configured(store.port))
        assert await source.manifest(manifest("example.local")) == (MANIFEST, MEDIA_TYPE)
        assert await source.manifest(manifest("example.local", DIGEST)) == (MANIFEST, MEDIA_TYPE)
        assert await source.manifest_digest(manifest("example.local")) == (DIGEST, MEDIA_TYPE, len(MANIFEST))
        assert [(asked.method, asked.target) for asked in store.asked] == [
            ("GET", "/v2/test/app/manifests/v1"),
            ("GET", f"/v2/test/app/manifests/{DIGEST}"),
            ("HEAD", "/v2/test/app/manifests/v1"),
        ]


async def test_all_media_types_but_schema_1_are_accepted(opened) -> None:
    async with upstream(Registry()) as store:
        source = await opened(configured(store.port))
        await source.manifest(manifest("example.local"))
        accepted = store.asked[0].headers["accept"].split(", ")
    assert {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    } < set(accepted)
    assert "v1+prettyjws" not in store.asked[0].headers["accept"]


@pytest.mark.parametrize(
    ("name", "repository", "path"),
    [
        ("docker.io", "alpine", "/v2/library/alpine/manifests/v1"),
        ("docker.io", "grafana/grafana", "/v2/grafana/grafana/manifests/v1"),
        ("example.local", "alpine", "/v2/alpine/manifests/v1"),
    ],
)
async def test_paths(opened, name: str, repository: str, path: str) -> None:
    async with upstream(Registry()) as store:
        source = await opened(configured(store.port, name))
        await source.manifest(ManifestInRegistry(name, repository, "v1"))
        assert store.asked[0].target == path


HEAD_OK = {"Content_Type": MEDIA_TYPE, "Docker_Content_Digest": str(DIGEST)}


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(response(405), id="HEAD is not allowed"),
        pytest.param(response(400), id="HEAD is not understood"),
        pytest.param(response(200, length=9, Content_Type=MEDIA_TYPE), id="no digest"),
        pytest.param(
            response(200, length=9, Content_Type=MEDIA_TYPE, Docker_Content_Digest="sha256:x"), id="no real digest"
        ),
        pytest.param(response(200, framed=False, **HEAD_OK), id="no length"),
        pytest.param(response(200, length=0, **HEAD_OK), id="length 0, as some say to HEAD"),
        pytest.param(response(200, length=9, Docker_Content_Digest=str(DIGEST)), id="no media type"),
    ],
)
async def test_where_head_does_not_say_get_does(opened, head: bytes) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(
            head if asked.method == "HEAD" else response(200, MANIFEST, Content_Type=f"{MEDIA_TYPE}; charset=utf-8")
        )

    async with upstream(script) as store:
        source = await opened(configured(store.port))
        assert await source.manifest_digest(manifest("example.local")) == (DIGEST, MEDIA_TYPE, len(MANIFEST))


async def test_a_sha512_digest_that_head_does_not_confirm_is_computed_as_such(opened) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(405) if asked.method == "HEAD" else response(200, MANIFEST, Content_Type=MEDIA_TYPE))

    digest = Digest.of(MANIFEST, "sha512")
    async with upstream(script) as store:
        source = await opened(configured(store.port))
        assert (await source.manifest_digest(manifest("example.local", digest)))[0] == digest


def answers(data: bytes) -> Script:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(data if asked.method == "GET" else data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    return script


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(response(404), ContentUnknown, id="404"),
        pytest.param(response(401), UpstreamRefused, id="401"),
        pytest.param(response(403), UpstreamRefused, id="403"),
        pytest.param(response(500), UpstreamUnavailable, id="500"),
        pytest.param(response(200, b"{}", Content_Encoding="gzip"), SourceLied, id="encoded"),
        pytest.param(response(200, b"{}", length=MANIFEST_BYTES_MAX + 1), SourceLied, id="too long, as it says"),
        pytest.param(
            response(
                200,
                b"%x\r\n" % (MANIFEST_BYTES_MAX + 1) + b" " * (MANIFEST_BYTES_MAX + 1) + b"\r\n0\r\n\r\n",
                framed=False,
                Transfer_Encoding="chunked",
            ),
            SourceLied,
            id="too long, as it turns out",
        ),
    ],
)
async def test_what_is_no_manifest(opened, answer: bytes, error: type[Exception]) -> None:
    async with upstream(answers(answer)) as store:
        source = await opened(configured(store.port))
        with pytest.raises(error):
            await source.manifest(manifest("example.local"))


async def test_a_manifest_may_have_four_mebibytes(opened) -> None:
    body = b" " * MANIFEST_BYTES_MAX
    async with upstream(answers(response(200, body, Content_Type="x/y"))) as store:
        source = await opened(configured(store.port))
        assert await source.manifest(manifest("example.local")) == (body, "x/y")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_tag_that_is_not_there_is_not_asked_for_twice(opened, status: int) -> None:
    async with upstream(answers(response(status))) as store:
        source = await opened(configured(store.port))
        with pytest.raises((ContentUnknown, UpstreamRefused)):
            await source.manifest_digest(manifest("example.local"))
        assert len(store.asked) == 1


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (MANIFEST, MEDIA_TYPE),
        (json.dumps({"mediaType": "a/b"}).encode(), "a/b"),
        (b"{}", MEDIA_TYPE),
        (b'{"mediaType": 5}', MEDIA_TYPE),
        (b"[]", MEDIA_TYPE),
        (b"no JSON", MEDIA_TYPE),
    ],
)
async def test_without_content_type_the_manifest_says_what_it_is(opened, body: bytes, media_type: str) -> None:
    async with upstream(answers(response(200, body))) as store:
        source = await opened(configured(store.port))
        assert (await source.manifest(manifest("example.local")))[1] == media_type


async def test_a_named_registry_is_allowed_as_it_stands_and_nothing_beside_it(opened) -> None:
    async with upstream(Registry()) as store, upstream(Registry()) as other:
        source = await opened(configured(store.port))
        await source.stat(blob("example.local"))
        with pytest.raises(UpstreamForbidden):
            await source.stat(blob(f"127.0.0.1:{other.port}"))
        assert other.connections == 0


async def test_hosts_shut_another_registry_out_before_dns(opened) -> None:
    asked: list[str] = []

    async def dns(host: str, port: int) -> list:
        asked.append(host)
        return []

    refused: list[str] = []
    source = await opened(UpstreamConfig(hosts=("ghcr.io",)), resolve=dns, on_refused=refused.append)
    with pytest.raises(UpstreamForbidden):
        await source.manifest(manifest("quay.io"))
    with pytest.raises(UpstreamForbidden):
        await source.stat(blob("quay.io"))
    assert asked == []
    assert refused == ["host", "host"]


async def test_a_name_that_is_none(opened) -> None:
    with pytest.raises(BadRequest):
        await (await opened()).stat(blob("a/b"))
