"""Consent ends: signatures and passwords that are revoked, upstreams that are away, files that change."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.consent.parties import PrivateRegistry, SignedStore, headers_of
from tests.support import made
from tests.support.nodes import Node, running_alone, running_nodes, wait_until_agreed
from tests.support.origin import Origin, file
from tests.support.registry import AUTHORIZATION, Registry
from tests.upstream.conversation import Asked, Script, Wire, response

pytestmark = [pytest.mark.xdist_group("consent over time")]

NewFolder = Callable[[], Path]


@pytest.fixture(scope="module")
def options(private: PrivateRegistry, registry: Registry, origin: Origin) -> list[str]:
    return [
        *("--consent", "upstream"),
        *("--registry", f"private.test={private.registry.url}"),
        *("--registry", f"public.test={registry.url}"),
        *("--registry", f"origin.test={origin.url}"),
    ]


@pytest.fixture(scope="module")
def node(new_folder: NewFolder, options: list[str]) -> Iterator[Node]:
    """One that remembers consent for five minutes."""
    with running_alone(new_folder(), *options) as node:
        yield node


@pytest.fixture(scope="module")
def forgetful_node(new_folder: NewFolder, options: list[str]) -> Iterator[Node]:
    """One that asks again soon."""
    with running_alone(new_folder(), *options, "--consent-ttl", "1s") as node:
        yield node


def test_two_signatures_of_which_one_is_revoked(
    new_folder: NewFolder, options: list[str], signed_store: SignedStore
) -> None:
    """Both share the bytes, on two nodes; consent is to each by itself."""
    data = made.content("signed", 3_000_000)
    signed_store.put("disk", data)
    one, other = (signed_store.sign("disk", name) for name in ("one%2B", "other"))
    forged = signed_store.url("disk", "forged")
    with running_nodes(new_folder(), 2, *options, "--consent-ttl", "2s") as nodes:
        assert nodes[0].ask(f"/blobs/{one}").body == data
        wait_until_agreed(nodes)
        for node in nodes:
            for url in (one, quote(other, safe="")):
                reply = node.ask(f"/blobs/{url}", headers={"Range": "bytes=1000-1999"})
                assert (reply.status, reply.body) == (206, data[1000:2000])
            assert node.ask(f"/blobs/{forged}").status == 403
        signed_store.revoke("one%2B")
        for node in nodes:
            node.program.wait_until(lambda node=node: node.ask(f"/blobs/{one}").status == 403, "told of the revocation")
            assert node.ask(f"/blobs/{one}", headers={"Range": "bytes=0-0"}).status == 403
            assert node.ask(f"/blobs/{other}").body == data
    whole = sum(line.count for line in signed_store.log() if line.target.startswith("/disk") and line.count > 1)
    assert whole < len(data) + len(data) // 2, "one copy for all, whoever signed"


def test_within_its_time_consent_is_remembered_for_the_very_signature(node: Node, signed_store: SignedStore) -> None:
    data = made.content("remembered", 10_000)
    signed_store.put("remembered", data)
    first, second = (signed_store.sign("remembered", name) for name in ("first", "second"))
    for _ in range(3):
        assert node.ask(f"/blobs/{first}").body == data
    asked = signed_store.asked(first)
    signed_store.revoke("first")
    for _ in range(3):
        assert node.ask(f"/blobs/{first}").body == data
        assert node.ask(f"/blobs/{second}").body == data
    assert signed_store.asked(first) == asked
    assert signed_store.asked(second) == 1
    bare = first.partition("?")[0]
    assert node.ask(f"/blobs/{bare}").status == 403


def test_a_user_who_is_shut_out_gets_nothing_once_the_time_is_over(
    forgetful_node: Node, private: PrivateRegistry
) -> None:
    data = made.content("until shut out", 100_000)
    digest = private.registry.push_blob("team/app", data)
    target = f"/v2/team/app/blobs/{digest}?ns=private.test"
    colleague = headers_of("another user")
    assert forgetful_node.ask(target, headers=colleague).body == data
    private.let_in(colleague=False)
    try:
        forgetful_node.program.wait_until(
            lambda: forgetful_node.ask(target, headers=colleague).status == 404, "told that the user is shut out"
        )
        assert forgetful_node.ask(target, headers=headers_of("a user")).body == data
    finally:
        private.let_in(colleague=True)
    # A no is forgotten as well.
    forgetful_node.program.wait_until(
        lambda: forgetful_node.ask(target, headers=colleague).status == 200, "told that the user is back"
    )


def test_while_upstream_is_away_a_yes_counts_for_its_time_and_what_was_public_for_longer(
    node: Node, forgetful_node: Node, private: PrivateRegistry, registry: Registry
) -> None:
    data = made.content("while away", 100_000)
    secret = f"/v2/team/app/blobs/{private.registry.push_blob('team/app', data)}?ns=private.test"
    public = f"/v2/team/app/blobs/{registry.push_blob('team/app', data)}?ns=public.test"
    user = headers_of("a user")
    for one in (node, forgetful_node):
        assert one.ask(secret, headers=user).body == data
        assert one.ask(public).body == data
    with private.registry.program.away(), registry.program.away():
        forgetful_node.program.wait_until(
            lambda: forgetful_node.ask(secret, headers=user).status == 404, "in need of consent again"
        )
        assert node.ask(secret, headers=user).body == data
        assert node.ask(secret, headers=headers_of("another user")).status == 404
        assert node.ask(secret).status == 404
        for one in (node, forgetful_node):
            assert one.ask(public).body == data
            assert one.ask(public, headers=headers_of("another user")).body == data
        url = f"/blobs/{private.registry.url}{secret.partition('?')[0]}"
        assert node.ask(url, headers=user).status == 502


def by_client(bodies: dict[str | None, bytes]) -> Script:
    """A file of its own for each client, and 401 for others."""

    async def script(asked: Asked, wire: Wire) -> None:
        data = bodies.get(asked.authorization)
        if data is None:
            await wire.send(response(401, WWW_Authenticate="Bearer"))
        else:
            await file(data, ETag=f'"{made.digest_of(data)}"')(asked, wire)

    return script


def test_where_upstream_has_a_file_for_each_client_each_gets_its_own(node: Node, origin: Origin) -> None:
    own = {f"Bearer {name}": made.content(f"for {name}", 5_000 + place) for place, name in enumerate(("a", "b"))}
    url = origin.at("/mine", by_client({**own}))
    for _ in range(3):
        for credential, data in own.items():
            assert node.ask(f"/blobs/{url}", headers={"Authorization": credential}).body == data
    assert node.ask(f"/blobs/{url}").status == 401


def test_a_file_that_changes_is_served_anew_within_the_time_of_consent(new_folder: NewFolder, origin: Origin) -> None:
    versions = [made.content(f"version {number}", 4_000) for number in range(2)]
    url = origin.at("/changes", by_client({"Bearer a": versions[0]}))
    with running_alone(new_folder(), "--consent", "upstream", "--tag-ttl", "0s") as node:
        assert node.ask(f"/blobs/{url}", headers={"Authorization": "Bearer a"}).body == versions[0]
        origin.at("/changes", by_client({"Bearer a": versions[1]}))
        node.program.wait_until(
            lambda: node.ask(f"/blobs/{url}", headers={"Authorization": "Bearer a"}).body == versions[1],
            "given the new version",
        )
        assert node.ask(f"/blobs/{url}", headers={"Authorization": "Bearer b"}).status == 401


def test_a_url_that_names_anothers_digest_opens_nothing(node: Node, private: PrivateRegistry, origin: Origin) -> None:
    """The host consents to whatever is asked, with as many bytes as there are; it has them not."""
    data = made.content("claimed", 50_000)
    digest = private.registry.push_blob("team/app", data)
    assert node.ask(f"/v2/team/app/blobs/{digest}?ns=private.test", headers=headers_of("a user")).body == data
    lie = made.content("a lie", len(data))
    url = origin.at(f"/v2/team/app/blobs/{digest}", file(lie, ETag='"lie"'))
    assert node.ask(f"/blobs/{url}").body == lie


def test_a_registry_that_no_option_names_is_not_believed(node: Node, origin: Origin) -> None:
    digest = made.digest_of(b"whatever")
    for asked in (f"blobs/{digest}", f"manifests/{digest}", "manifests/latest"):
        reply = node.ask(f"/v2/team/app/{asked}?ns={origin.netloc}")
        assert reply.status == 404
        assert "--registry" in json.loads(reply.body)["errors"][0]["message"]
    assert origin.asked_for(f"/v2/team/app/blobs/{digest}") == []


def test_a_page_that_asks_for_a_login_is_no_consent(node: Node, origin: Origin) -> None:
    """Some proxies answer who is not logged in with a redirect to a page, which is 200."""
    data = made.content("behind a login", 60_000)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"
    page = origin.at("/login", file(b"<html>who are you?</html>", Content_Type="text/html"))

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.authorization == AUTHORIZATION:
            await file(data)(asked, wire)
        else:
            await wire.send(response(302, Location=page))

    origin.at(path, script)
    target = f"{path}?ns=origin.test"
    assert node.ask(target, headers=headers_of("a user")).body == data
    reply = node.ask(target)
    assert reply.status == 404
    assert origin.asked_for("/login")


def test_those_who_ask_at_the_same_time_ask_once(node: Node, origin: Origin) -> None:
    data = made.content("at the same time", 20_000)
    path = f"/v2/team/app/blobs/{made.digest_of(data)}"
    url = origin.at(path, file(data))
    target = f"{path}?ns=origin.test"
    assert node.ask(target, headers={"Authorization": "Bearer first"}).body == data
    before = len(origin.asked_for(path))

    def ask(_: int) -> bytes:
        return node.ask(target, headers={"Authorization": "Bearer second"}).body

    with ThreadPoolExecutor(20) as clients:
        assert set(clients.map(ask, range(100))) == {data}
    assert len(origin.asked_for(path)) - before == 1, url


def test_no_credential_is_written_anywhere(
    new_folder: NewFolder, options: list[str], private: PrivateRegistry, signed_store: SignedStore
) -> None:
    folder = new_folder()
    signed_store.put("unwritten", b"x" * 1000)
    url = signed_store.sign("unwritten", "not-for-logs")
    secret = AUTHORIZATION.removeprefix("Basic ").encode()
    with running_alone(folder, *options, "--log-level", "debug") as node:
        digest = private.registry.push_blob("team/app", made.content("unwritten", 1000))
        for client in ("a user", "nobody", "a user with a wrong password"):
            node.ask(f"/v2/team/app/blobs/{digest}?ns=private.test", headers=headers_of(client))
        assert node.ask(f"/blobs/{url}").status == 200
        seen = b"".join(node.ask(f"/api/v1/{what}").body for what in ("contents", "status", "transfers"))
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(path.name == "node-1.log" for path in files)
    for written in (*files.values(), seen):
        assert secret not in written
        assert b"not-for-logs" not in written
