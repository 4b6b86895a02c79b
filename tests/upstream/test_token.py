import asyncio
import json
from base64 import b64encode
from pathlib import Path

import pytest

from app.errors import UpstreamForbidden, UpstreamRefused, UpstreamUnavailable
from app.upstream.config import UpstreamConfig
from tests.upstream.conversation import response, upstream
from tests.upstream.reading import content, fetch
from tests.upstream.registry import BLOB, Registry, TokenServer, blob, manifest

ME = "Basic " + b64encode(b"me:password").decode()
BOB = "Basic " + b64encode(b"bob:secret").decode()


def configured(port: int, auth: Path | None = None) -> UpstreamConfig:
    return UpstreamConfig(
        registries={"example.local": f"http://127.0.0.1:{port}"}, allow=("127.0.0.1:*",), auth_file=auth
    )


@pytest.fixture
def auth(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"example.local": {"auth": ME.removeprefix("Basic ")}}}))
    return path


async def test_an_anonymous_token_is_asked_for_once(opened) -> None:
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = (
            f'Bearer realm="{server.url}/token",service="registry one",scope="repository:test/app:pull"'
        )
        source = await opened(configured(store.port))
        stat = await source.stat(blob("example.local"))
        assert await fetch(source, content(blob("example.local"), stat.size), 5, 9) == BLOB[5:9]
        assert [asked.authorization for asked in store.asked] == [None, "Bearer token-1", "Bearer token-1"]
        assert [(asked.target, asked.authorization) for asked in server.asked] == [
            ("/token?service=registry%20one&scope=repository%3Atest%2Fapp%3Apull", None)
        ]


async def test_a_hundred_concurrent_readers_ask_for_one_token(opened) -> None:
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        await asyncio.gather(*(source.stat(blob("example.local")) for _ in range(100)))
        assert len(server.asked) == 1


async def test_a_token_is_for_one_repository(opened) -> None:
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-1", "Bearer token-2"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        await source.stat(blob("example.local", "a"))
        await source.stat(blob("example.local", "b"))
        assert [asked.target.partition("scope=")[2] for asked in server.asked] == [
            "repository%3Aa%3Apull",
            "repository%3Ab%3Apull",
        ]


async def test_a_token_that_is_withdrawn_is_asked_for_anew_once(opened) -> None:
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        await source.stat(blob("example.local"))
        registry.accepts = {"Bearer token-2"}
        await asyncio.gather(*(source.stat(blob("example.local")) for _ in range(10)))
        assert len(server.asked) == 2
        registry.accepts = set()
        with pytest.raises(UpstreamRefused) as refusal:
            await source.stat(blob("example.local"))
        assert refusal.value.status == 401
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("expires_in", "remembered"),
    [
        pytest.param(None, True, id="nothing said: 60 s"),
        pytest.param(300, True, id="300 s"),
        pytest.param(0.0001, False, id="over before it began"),
        pytest.param(-5, False, id="over already"),
    ],
)
async def test_how_long_a_token_is_remembered(opened, expires_in: float | None, remembered: bool) -> None:
    tokens, registry = TokenServer(expires_in=expires_in), Registry(accepts={"Bearer token-1", "Bearer token-2"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        await source.stat(blob("example.local"))
        if not remembered:
            await asyncio.sleep(0.01)
        await source.stat(blob("example.local"))
        assert len(server.asked) == (1 if remembered else 2)


async def test_the_nodes_credential_is_shown_to_the_token_server_and_not_to_the_registry(opened, auth: Path) -> None:
    tokens, registry = TokenServer(accepts=ME), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        assert (await source.stat(blob("example.local"))).size == len(BLOB)
        assert [asked.authorization for asked in server.asked] == [ME]
        assert [asked.authorization for asked in store.asked] == [None, "Bearer token-1"]


async def test_basic(opened, auth: Path) -> None:
    registry = Registry(challenge='Basic realm="x"', accepts={ME})
    async with upstream(registry) as store:
        source = await opened(configured(store.port, auth))
        await source.stat(blob("example.local"))
        await source.stat(blob("example.local"))
        assert [asked.authorization for asked in store.asked] == [None, ME, ME]


async def test_basic_that_is_refused_is_shown_once(opened, auth: Path) -> None:
    registry = Registry(challenge='Basic realm="x"', accepts=set())
    async with upstream(registry) as store:
        source = await opened(configured(store.port, auth))
        with pytest.raises(UpstreamRefused):
            await source.stat(blob("example.local"))
        assert [asked.authorization for asked in store.asked] == [None, ME]


async def test_basic_without_a_credential_is_refused(opened) -> None:
    registry = Registry(challenge='Basic realm="x"', accepts={ME})
    async with upstream(registry) as store:
        source = await opened(configured(store.port))
        with pytest.raises(UpstreamRefused) as refusal:
            await source.stat(blob("example.local"))
        assert refusal.value.challenge == 'Basic realm="x"'


async def test_an_identity_token_is_exchanged(opened, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"example.local": {"identitytoken": "IDENTITY"}}}))
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-1"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token",service="s"'
        source = await opened(configured(store.port, path))
        await source.stat(blob("example.local"))
        asked = server.asked[0]
    assert (asked.method, asked.target, asked.authorization) == ("POST", "/token", None)
    assert sorted(asked.body.decode().split("&")) == [
        "client_id=peerd",
        "grant_type=refresh_token",
        "refresh_token=IDENTITY",
        "scope=repository%3Atest%2Fapp%3Apull",
        "service=s",
    ]


async def test_a_clients_own_credential_is_shown_first(opened, auth: Path) -> None:
    registry = Registry(challenge='Basic realm="x"', accepts={ME, BOB})
    async with upstream(registry) as store:
        source = await opened(configured(store.port, auth))
        await source.stat(blob("example.local", authorization=BOB))
        assert [asked.authorization for asked in store.asked] == [BOB]


async def test_a_clients_own_password_is_exchanged_for_a_token_of_his_own(opened, auth: Path) -> None:
    tokens, registry = TokenServer(accepts=BOB), Registry(accepts={"Bearer token-1", "Bearer token-2"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        await source.stat(blob("example.local", authorization=BOB))
        await source.stat(blob("example.local", authorization=BOB))
        assert [asked.authorization for asked in server.asked] == [BOB]
        assert [asked.authorization for asked in store.asked] == [BOB, "Bearer token-1", "Bearer token-1"]
        tokens.accepts = ME
        await source.stat(blob("example.local"))
        assert [asked.authorization for asked in server.asked] == [BOB, ME]


async def test_where_a_clients_own_is_refused_the_node_asks_for_itself(opened, auth: Path) -> None:
    tokens, registry = TokenServer(accepts=ME), Registry(accepts={"Bearer token-2"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        assert (await source.stat(blob("example.local", authorization=BOB))).size == len(BLOB)
        assert [asked.authorization for asked in server.asked] == [BOB, ME]


async def test_a_clients_bearer_token_goes_to_no_token_server(opened) -> None:
    tokens, registry = TokenServer(), Registry(accepts={"Bearer token-2"})
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        await source.stat(blob("example.local", authorization="Bearer OWN"))
        assert store.asked[0].authorization == "Bearer OWN"
        assert [asked.authorization for asked in server.asked] == [None, None]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(200, b"not JSON"), id="no JSON"),
        pytest.param(response(200, b"[]"), id="no object"),
        pytest.param(response(200, b"{}"), id="no token"),
        pytest.param(response(200, b'{"token": 5}'), id="a number"),
        pytest.param(response(200, b'{"token": "a\\r\\nX: y"}'), id="a line end in it"),
        pytest.param(response(200, b'{"token": "t", "expires_in": "soon"}'), id="a time that is none"),
        pytest.param(response(200, b'{"token": "' + b"t" * 300_000 + b'"}'), id="much too long"),
        pytest.param(response(500), id="500"),
    ],
)
async def test_a_token_server_that_makes_no_sense(opened, answer: bytes) -> None:
    tokens, registry = TokenServer(answer=answer), Registry(accepts=set())
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port))
        with pytest.raises(UpstreamUnavailable):
            await source.stat(blob("example.local"))


async def test_a_token_server_that_refuses(opened, auth: Path) -> None:
    tokens, registry = TokenServer(accepts="nobody"), Registry(accepts=set())
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        with pytest.raises(UpstreamRefused):
            await source.manifest(manifest("example.local"))


@pytest.mark.parametrize(
    "realm", ["http://169.254.169.254/token", "http://10.0.0.1/", "http://2130706433/", "file:///etc"]
)
async def test_a_realm_is_guarded(opened, auth: Path, realm: str) -> None:
    registry = Registry(challenge=f'Bearer realm="{realm}"', accepts=set())
    refused: list[str] = []
    async with upstream(registry) as store:
        source = await opened(configured(store.port, auth), on_refused=refused.append)
        with pytest.raises(UpstreamForbidden):
            await source.stat(blob("example.local"))
        assert len(refused) == 1


async def test_a_challenge_that_can_not_be_met_is_a_refusal(opened) -> None:
    registry = Registry(challenge="Negotiate", accepts=set())
    async with upstream(registry) as store:
        source = await opened(configured(store.port))
        with pytest.raises(UpstreamRefused) as refusal:
            await source.stat(blob("example.local"))
        assert refusal.value.challenge == "Negotiate"


async def test_tokens_are_in_no_error_and_no_log(opened, auth: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens, registry = TokenServer(accepts=ME), Registry(accepts=set())
    caplog.set_level(0)
    async with upstream(tokens) as server, upstream(registry) as store:
        registry.challenge = f'Bearer realm="{server.url}/token"'
        source = await opened(configured(store.port, auth))
        with pytest.raises(UpstreamRefused) as refusal:
            await source.stat(blob("example.local"))
    said = f"{refusal.value!r} {caplog.text}"
    assert "token-" not in said
    assert ME.removeprefix("Basic ") not in said
