"""What would a client get that asks by itself? The node's own credential and what it remembers do not count."""

import json
from base64 import b64encode
from pathlib import Path

import pytest

from app.content.location import FileAtUrl
from app.errors import UpstreamRefused
from app.upstream.config import UpstreamConfig
from tests.upstream.conversation import Asked, Wire, part, response, upstream
from tests.upstream.registry import BLOB, MANIFEST, Registry, TokenServer, blob, manifest

NODE = "Basic " + b64encode(b"node:password").decode()
CLIENT = "Basic " + b64encode(b"client:secret").decode()


@pytest.fixture
def auth(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"example.local": {"auth": NODE.removeprefix("Basic ")}}}))
    return path


def configured(port: int, auth: Path | None = None) -> UpstreamConfig:
    return UpstreamConfig(
        registries={"example.local": f"http://127.0.0.1:{port}"}, allow=("127.0.0.1:*",), auth_file=auth
    )


async def test_the_nodes_credential_is_not_shown(opened, auth: Path) -> None:
    registry = Registry('Basic realm="x"', accepts={NODE})
    async with upstream(registry) as store:
        source = await opened(configured(store.port, auth))
        assert (await source.stat(blob("example.local"))).size == len(BLOB)
        shown = len(store.asked)
        for authorization in (None, CLIENT, "Bearer made-up"):
            with pytest.raises(UpstreamRefused):
                await source.stat(blob("example.local", authorization=authorization), alone=True)
            with pytest.raises(UpstreamRefused):
                await source.manifest_digest(manifest("example.local", "v1", authorization), alone=True)
        assert NODE not in [asked.authorization for asked in store.asked[shown:]]


async def test_nor_is_a_token_that_it_got_for_that(opened, auth: Path) -> None:
    tokens, registry = TokenServer(accepts=NODE), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        assert (await source.stat(blob("example.local"))).size == len(BLOB)
        for authorization in (None, CLIENT, "Bearer made-up"):
            with pytest.raises(UpstreamRefused):
                await source.stat(blob("example.local", authorization=authorization), alone=True)
        assert [asked.authorization for asked in store.asked].count("Bearer token-1") == 1


async def test_what_everybody_gets_by_an_anonymous_token_is_had_without_a_credential(opened, auth: Path) -> None:
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        for _ in range(2):
            assert (await source.stat(blob("example.local"), alone=True)).size == len(BLOB)
            _, _, size = await source.manifest_digest(manifest("example.local"), alone=True)
            assert size == len(MANIFEST)
        assert [asked.authorization for asked in server.asked] == [None], "and such a token is remembered"


async def test_a_password_is_exchanged_anew_each_time_so_that_a_revoked_one_is_noticed(opened) -> None:
    tokens, registry = TokenServer(accepts=CLIENT), Registry(accepts={f"Bearer token-{n}" for n in range(9)})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        assert (await source.stat(blob("example.local", authorization=CLIENT))).size == len(BLOB)
        assert (await source.stat(blob("example.local", authorization=CLIENT), alone=True)).size == len(BLOB)
        assert [asked.authorization for asked in server.asked] == [CLIENT, CLIENT]
        tokens.accepts = None
        with pytest.raises(UpstreamRefused):
            await source.stat(blob("example.local", authorization=CLIENT), alone=True)


async def test_a_redirect_that_is_remembered_is_not_taken_for_an_answer(opened) -> None:
    """A signed URL that the registry gave out yesterday's client says nothing of today's."""

    async def storage(asked: Asked, wire: Wire) -> None:
        await wire.send(part(BLOB, asked, ETag='"1"'))

    registry = Registry('Basic realm="x"', accepts={CLIENT})
    async with upstream(storage) as there, upstream(registry) as store:
        registry.redirect = f"{there.url}/signed?sig=x"
        source = await opened(configured(store.port))
        for alone in (False, False, True):
            stat = await source.stat(blob("example.local", authorization=CLIENT), alone=alone)
            assert stat.size == len(BLOB)
        assert len(store.asked) == 2, "once for the bytes, and once for consent"
        registry.accepts = set()
        with pytest.raises(UpstreamRefused):
            await source.stat(blob("example.local", authorization=CLIENT), alone=True)


async def test_a_file_is_asked_for_with_what_its_client_sent(opened) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        known = asked.authorization == CLIENT or asked.target.endswith("sig=good")
        await wire.send(part(BLOB, asked, ETag='"1"') if known else response(403))

    async with upstream(script) as store:
        source = await opened(configured(store.port))
        for query, authorization, given in (
            ("", CLIENT, True),
            ("?sig=good", None, True),
            ("?sig=bad", None, False),
            ("", None, False),
        ):
            location = FileAtUrl(f"{store.url}/file{query}", authorization=authorization)
            if given:
                assert (await source.stat(location, alone=True)).size == len(BLOB)
            else:
                with pytest.raises(UpstreamRefused):
                    await source.stat(location, alone=True)
