"""Registries that ask for a password, and where credentials go."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import made
from tests.support.nodes import Node, running_alone, running_nodes, wait_until_agreed
from tests.support.origin import Origin, always, file
from tests.support.registry import AUTHORIZATION, Registry
from tests.upstream.conversation import Asked, Wire, response

pytestmark = [pytest.mark.xdist_group("credentials")]

NewFolder = Callable[[], Path]


@pytest.fixture(scope="module")
def storage() -> Iterator[Origin]:
    """Where a registry sends those who ask for blobs."""
    with Origin.running() as storage:
        yield storage


@pytest.fixture(scope="module")
def options(htpasswd_registry: Registry, origin: Origin) -> list[str]:
    return ["--registry", f"private.test={htpasswd_registry.url}", "--registry", f"origin.test={origin.url}"]


@pytest.fixture(scope="module")
def node(new_folder: NewFolder, options: list[str]) -> Iterator[Node]:
    """A node that has no credentials."""
    with running_alone(new_folder(), *options) as node:
        yield node


@pytest.fixture(scope="module")
def trusted_node(new_folder: NewFolder, options: list[str]) -> Iterator[Node]:
    """A node that has the password of the registry, under the name by which clients call it."""
    folder = new_folder()
    config = folder / "config.json"
    config.write_text(json.dumps({"auths": {"private.test": {"auth": AUTHORIZATION.removeprefix("Basic ")}}}))
    with running_alone(folder, *options, "--registry-auth", str(config)) as node:
        yield node


def blob(registry: Registry, name: str) -> tuple[str, bytes]:
    """Where a node has a blob that nobody asked for yet, and its bytes."""
    data = made.content(name, 1_500_000)
    return f"/v2/team/app/blobs/{registry.push_blob('team/app', data)}?ns=private.test", data


def test_a_node_with_the_registrys_password_pulls_through(trusted_node: Node, htpasswd_registry: Registry) -> None:
    target, data = blob(htpasswd_registry, "with --registry-auth")
    reply = trusted_node.ask(target)
    assert (reply.status, reply.headers["cache-status"]) == (200, "peerd; fwd=miss; detail=upstream")
    assert reply.body == data


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_node_without_it_answers_404_so_that_the_client_logs_in_by_itself(
    node: Node, htpasswd_registry: Registry, method: str
) -> None:
    target, _ = blob(htpasswd_registry, f"without {method}")
    for asked in (target, "/v2/team/app/manifests/latest?ns=private.test", target.replace("-app", "nothing")):
        reply = node.ask(asked, method=method)
        assert reply.status == 404
        assert "www-authenticate" not in reply.headers


def test_a_clients_own_password_is_used_and_what_came_of_it_is_shared(node: Node, htpasswd_registry: Registry) -> None:
    target, data = blob(htpasswd_registry, "the client's own")
    assert node.ask(target).status == 404
    reply = node.ask(target, headers={"Authorization": AUTHORIZATION})
    assert (reply.status, reply.body) == (200, data)
    assert node.ask(target).body == data, "the cluster is one domain of trust, unless --consent upstream is set"


def test_a_wrong_password_is_404(node: Node, htpasswd_registry: Registry) -> None:
    target, _ = blob(htpasswd_registry, "a wrong password")
    assert node.ask(target, headers={"Authorization": "Basic bm9ib2R5Om5vdGhpbmc="}).status == 404


def test_upstreams_own_401_is_passed_on_at_blobs(node: Node, htpasswd_registry: Registry) -> None:
    target, data = blob(htpasswd_registry, "by URL")
    digest = target.partition("?")[0].rpartition("/")[2]
    url = f"/blobs/{htpasswd_registry.url}/v2/team/app/blobs/{digest}"
    reply = node.ask(url)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Basic realm="tests"'
    assert json.loads(reply.body)["status"] == 401
    assert node.ask(url, headers={"Authorization": AUTHORIZATION}).body == data


def test_a_clients_credential_goes_to_no_host_that_upstream_redirects_to(
    node: Node, origin: Origin, storage: Origin
) -> None:
    data = made.content("redirected", 100_000)
    digest = made.digest_of(data)
    path = f"/v2/team/app/blobs/{digest}"
    there = storage.at("/somewhere/else", file(data))
    elsewhere = always(response(307, Location=f"{there}?sig=a%2Bb"))
    for target in (f"{path}?ns=origin.test", f"/blobs/{origin.at(path, elsewhere)}/by-url"):
        origin.at(f"{path}/by-url", elsewhere)
        reply = node.ask(target, headers={"Authorization": "Bearer a-clients-token"})
        assert (reply.status, reply.body) == (200, data)

    asked = origin.asked_for(path) + origin.asked_for(f"{path}/by-url")
    assert {one.authorization for one in asked} == {"Bearer a-clients-token"}
    redirected = storage.asked_for("/somewhere/else")
    assert redirected
    assert {one.authorization for one in redirected} == {None}
    assert {one.target for one in redirected} == {"/somewhere/else?sig=a%2Bb"}


def test_the_nodes_password_goes_to_its_own_registry_only(
    trusted_node: Node, origin: Origin, htpasswd_registry: Registry
) -> None:
    data = made.content("another registry", 1000)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"

    async def wants_a_password(asked: Asked, wire: Wire) -> None:
        await wire.send(response(401, WWW_Authenticate='Basic realm="private.test"'))

    origin.at(path, wants_a_password)
    assert trusted_node.ask(f"{path}?ns=origin.test").status == 404
    assert trusted_node.ask(f"/blobs/{origin.url}{path}").status == 401
    asked = origin.asked_for(path)
    assert asked
    assert {one.authorization for one in asked} == {None}
    # Nor does it go to the registry itself when a URL is asked for without one: that is the client's business.
    digest = htpasswd_registry.push_blob("team/app", made.content("by URL alone", 1000))
    assert trusted_node.ask(f"/blobs/{htpasswd_registry.url}/v2/team/app/blobs/{digest}").status == 401


def test_a_token_is_had_where_the_registry_says_and_used_for_its_blobs(node: Node, origin: Origin) -> None:
    data = made.content("with a token", 1000)
    path = f"/v2/team/token/blobs/{made.digest_of(data)}"

    async def wants_a_token(asked: Asked, wire: Wire) -> None:
        if asked.authorization == "Bearer anonymous":
            await file(data)(asked, wire)
        else:
            challenge = f'Bearer realm="{origin.url}/token",service="origin.test",scope="repository:team/token:pull"'
            await wire.send(response(401, WWW_Authenticate=challenge))

    origin.at(path, wants_a_token)
    origin.at("/token", always(response(200, b'{"token": "anonymous", "expires_in": 300}')))
    reply = node.ask(f"{path}?ns=origin.test")
    assert (reply.status, reply.body) == (200, data)
    (asked,) = origin.asked_for("/token")
    assert "scope=repository%3Ateam%2Ftoken%3Apull" in asked.target
    assert asked.authorization is None


def test_no_credential_is_found_in_log_or_cache(new_folder: NewFolder, htpasswd_registry: Registry) -> None:
    folder = new_folder()
    secret = AUTHORIZATION.removeprefix("Basic ")
    options = ["--registry", f"private.test={htpasswd_registry.url}", "--log-level", "debug"]
    with running_nodes(folder, 2, *options) as nodes:
        target, data = blob(htpasswd_registry, "nowhere to be found")
        assert nodes[0].ask(target, headers={"Authorization": AUTHORIZATION}).body == data
        url = f"{htpasswd_registry.url}/v2/?sv=1&sig=not-for-logs"
        for behind in (url, quote(url, safe=""), quote(quote(url, safe=""), safe="")):
            nodes[0].ask(f"/blobs/{behind}", headers={"Authorization": AUTHORIZATION})
        wait_until_agreed(nodes)
        assert nodes[1].ask(target).body == data
    for path in (path for path in folder.rglob("*") if path.is_file()):
        written = path.read_bytes()
        assert secret.encode() not in written, path
        assert b"not-for-logs" not in written, path
