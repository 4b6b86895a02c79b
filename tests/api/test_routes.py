"""Each request reaches its handler with what it said, and nothing else answers in the handler's place."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse

from app.api.models import MemberList, NodeCount, Preheat, PreheatRequest, Status

DIGEST = "sha256:c3229003e05185baa8b2ef8e9cca3c84f2827acc4dd50bcf888ea48a5a67aa90"
NOTHING_SAID = {"if_none_match": None, "if_match": None, "authorization": None}
NO_RANGE = {"range_": None, "if_range": None}


def client(application: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application)
    return httpx.AsyncClient(transport=transport, base_url="http://node", headers={"Accept": "text/html"})


def manifest(name: str, reference: str, ns: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "reference": reference,
        "ns": ns,
        "oci_namespace": None,
        "accept": "text/html",
        **NOTHING_SAID,
    }


def blob(name: str, digest: str, ns: str | None = None) -> dict[str, Any]:
    return {"name": name, "digest": digest, "ns": ns, "oci_namespace": None, **NO_RANGE, **NOTHING_SAID}


READS = [
    ("/v2", "mirror.get_version", {}),
    ("/v2/", "mirror.get_version", {}),
    ("/v2/app/manifests/v1", "mirror.get_manifest", manifest("app", "v1")),
    ("/v2/library/app/manifests/v1?ns=docker.io", "mirror.get_manifest", manifest("library/app", "v1", "docker.io")),
    (f"/v2/a/b/c/manifests/{DIGEST}", "mirror.get_manifest", manifest("a/b/c", DIGEST)),
    ("/v2/manifests/manifests/manifests/v1", "mirror.get_manifest", manifest("manifests/manifests", "v1")),
    ("/v2/library%2Fapp/manifests/v1", "mirror.get_manifest", manifest("library/app", "v1")),
    (f"/v2/library/app/blobs/{DIGEST}", "mirror.get_blob", blob("library/app", DIGEST)),
    (f"/v2/library/app/blobs/{DIGEST}?ns=", "mirror.get_blob", blob("library/app", DIGEST, "")),
    (f"/v2/app/blobs/{DIGEST}?ns=a&ns=b", "mirror.get_blob", blob("app", DIGEST, "b")),
    ("/v2/app/blobs/sha256:xyz", "mirror.get_blob", blob("app", "sha256:xyz")),
    ("/v2/app/blobs/%00", "mirror.get_blob", blob("app", "\0")),
    (f"/v2//blobs/{DIGEST}", "mirror.get_blob", blob("", DIGEST)),
    (f"/v2/blobs/{DIGEST}", "mirror.refuse_unknown", {}),
    ("/v2/_catalog", "mirror.refuse_unknown", {}),
    ("/v2/library/app/tags/list", "mirror.refuse_unknown", {}),
    ("/v2/app/blobs/", "mirror.refuse_unknown", {}),
    ("/v2/app/blobs/uploads/x", "mirror.refuse_unknown", {}),
    ("/blobs/https://host/a//b?c=d", "files.get_file", NO_RANGE | NOTHING_SAID),
    ("/blobs/https%3A%2F%2Fhost%2Fa", "files.get_file", NO_RANGE | NOTHING_SAID),
    ("/blobs/", "files.get_file", NO_RANGE | NOTHING_SAID),
    ("/healthz", "operations.get_health", {}),
    ("/readyz", "operations.get_readiness", {}),
]

GETS = [
    ("/", "page.get_page", {}),
    ("/page/page.css", "page.get_page_asset", {"file": "page.css"}),
    ("/metrics/prometheus", "operations.get_metrics", {"accept": "text/html"}),
    ("/api/v1/status", "operations.get_status", {}),
    ("/api/v1/members", "operations.list_members", {}),
    ("/api/v1/contents", "operations.list_contents", {"limit": 100, "after": None}),
    ("/api/v1/contents?limit=7&after=url:ff", "operations.list_contents", {"limit": 7, "after": "url:ff"}),
    ("/api/v1/transfers", "operations.list_transfers", {}),
    ("/api/v1/images", "operations.list_images", {}),
    ("/api/v1/events", "operations.stream_events", {}),
    ("/api/v1/preheat/01JW", "operations.get_preheat", {"id_": "01JW"}),
]

PURGES = [
    (f"/api/v1/contents/{DIGEST}", {"key": DIGEST, "all_nodes": False}),
    (f"/api/v1/contents/{DIGEST}@docker.io?all_nodes=true", {"key": f"{DIGEST}@docker.io", "all_nodes": True}),
    ("/api/v1/contents/docker.io%2Flibrary%2Fapp%3Av1", {"key": "docker.io/library/app:v1", "all_nodes": False}),
    ("/api/v1/contents/docker.io/library/app:v1", {"key": "docker.io/library/app:v1", "all_nodes": False}),
    (
        "/api/v1/contents/https%3A%2F%2Fhost%2Fa%252Fb%3Fc%3Dd%26e?all_nodes=true",
        {"key": "https://host/a%2Fb?c=d&e", "all_nodes": True},
    ),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("row", READS, ids=[row[0] for row in READS])
async def test_get_and_head_reach_one_handler(
    door: FastAPI, handlers: Any, method: str, row: tuple[str, str, Any]
) -> None:
    path, handler, arguments = row
    async with client(door) as node:
        assert (await node.request(method, path)).status_code == 200
    assert [(c.handler, c.request.method, c.arguments) for c in handlers.calls] == [(handler, method, arguments)]


@pytest.mark.parametrize(("path", "handler", "arguments"), GETS, ids=[row[0] for row in GETS])
async def test_get_reaches_its_handler(
    door: FastAPI, handlers: Any, path: str, handler: str, arguments: dict[str, Any]
) -> None:
    async with client(door) as node:
        assert (await node.get(path)).status_code == 200
    assert [(call.handler, call.arguments) for call in handlers.calls] == [(handler, arguments)]


@pytest.mark.parametrize(("path", "arguments"), PURGES, ids=[row[0] for row in PURGES])
async def test_a_purge_takes_whatever_names_content(
    door: FastAPI, handlers: Any, path: str, arguments: dict[str, Any]
) -> None:
    async with client(door) as node:
        assert (await node.delete(path)).status_code == 200
    assert (handlers.last.handler, handlers.last.arguments) == ("operations.purge_content", arguments)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    ["/v2", "/v2/", "/v2/app/blobs/uploads/", "/v2/library/app/manifests/v1", f"/v2/app/blobs/{DIGEST}", "/v2/_x"],
)
async def test_every_write_under_v2_is_refused_by_its_handler(
    door: FastAPI, handlers: Any, method: str, path: str
) -> None:
    async with client(door) as node:
        await node.request(method, path, content=b"{")
    assert [(call.handler, call.request.method) for call in handlers.calls] == [("mirror.refuse_write", method)]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/v2/app/manifests/v1", {"GET", "HEAD"}),
        ("TRACE", f"/v2/app/blobs/{DIGEST}", {"GET", "HEAD"}),
        ("POST", "/blobs/https://host/a", {"GET", "HEAD"}),
        ("PUT", "/healthz", {"GET", "HEAD"}),
        ("POST", "/api/v1/status", {"GET"}),
        ("GET", "/api/v1/preheat", {"POST"}),
        ("GET", f"/api/v1/contents/{DIGEST}", {"DELETE"}),
        ("POST", "/docs", {"GET"}),
    ],
)
async def test_another_method_is_405_and_all_that_there_are_are_allowed(
    door: FastAPI, handlers: Any, method: str, path: str, allowed: set[str]
) -> None:
    async with client(door) as node:
        answer = await node.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert handlers.calls == []


@pytest.mark.parametrize("path", ["/v1/", "/v2x", "/blobs", "/api/v1", "/api/v2/status", "/docs/", "/favicon.ico"])
async def test_an_unknown_route_is_404(door: FastAPI, handlers: Any, path: str) -> None:
    async with client(door) as node:
        assert (await node.get(path)).status_code == 404
    assert handlers.calls == []


@pytest.mark.parametrize("path", [f"/v2/app/blobs/{DIGEST}", "/blobs/https://host/a"])
async def test_headers_are_handed_over_as_they_are(door: FastAPI, handlers: Any, path: str) -> None:
    said = {
        "range_": "bytes=5-1,,x",
        "if_range": '"v1"',
        "if_none_match": '"v1", W/"v2"',
        "if_match": "*",
        "authorization": "Bearer t",
    }
    headers = {name.strip("_").replace("_", "-"): value for name, value in said.items()}
    async with client(door) as node:
        assert (await node.get(path, headers=headers)).status_code == 200
    assert said.items() <= handlers.last.arguments.items()


async def test_the_registry_may_be_named_by_a_header(door: FastAPI, handlers: Any) -> None:
    async with client(door) as node:
        await node.get(f"/v2/app/blobs/{DIGEST}", headers={"OCI-Namespace": "ghcr.io"})
    assert handlers.last.arguments["oci_namespace"] == "ghcr.io"


@pytest.mark.parametrize(
    "target",
    [
        b"/blobs/https://host//a/%2B%2f?se=2030&sig=a%2Fb+c=&x",
        b"/blobs/http://host/../a/./b?",
        b"/blobs/https%3A%2F%2Fhost%2Fa%3Fb%3Dc",
        b"/blobs/http:/host/a",
    ],
)
async def test_a_url_arrives_byte_for_byte_through_a_real_server(served: Any, handlers: Any, target: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 ")
    scope = handlers.last.request.scope
    path, _, query = target.partition(b"?")
    assert (scope["raw_path"], scope["query_string"]) == (path, query)


async def test_a_model_becomes_the_document_that_is_described(
    door: FastAPI, handlers: Any, document: dict[str, Any]
) -> None:
    response = document["paths"]["/api/v1/status"]["get"]["responses"]["200"]
    example = response["content"]["application/json"]["example"]
    handlers.answers["operations.get_status"] = Status.model_validate(example)
    async with client(door) as node:
        answer = await node.get("/api/v1/status")
    assert answer.json() == example


async def test_an_empty_list_is_a_document_too(door: FastAPI, handlers: Any) -> None:
    handlers.answers["operations.list_members"] = MemberList(members=[])
    async with client(door) as node:
        assert (await node.get("/api/v1/members")).json() == {"members": []}


async def test_a_preheat_that_has_begun_is_202(door: FastAPI, handlers: Any, document: dict[str, Any]) -> None:
    response = document["paths"]["/api/v1/preheat"]["post"]["responses"]["202"]
    example = response["content"]["application/json"]["example"]
    handlers.answers["operations.start_preheat"] = Preheat.model_validate(example)
    async with client(door) as node:
        answer = await node.post("/api/v1/preheat", json={"references": ["docker.io/library/app:v1"], "nodes": 3})
    assert (answer.status_code, answer.json()) == (202, example)
    wanted = PreheatRequest(references=["docker.io/library/app:v1"], nodes=NodeCount(3))
    assert handlers.last.arguments == {"body": wanted}


async def test_a_preheat_is_for_all_nodes_unless_it_says_how_many(door: FastAPI, handlers: Any) -> None:
    async with client(door) as node:
        await node.post("/api/v1/preheat", json={"references": ["docker.io/library/app:v1"]})
    assert handlers.last.arguments["body"].nodes == "all"


async def test_a_handler_may_answer_by_itself_where_a_model_is_described(door: FastAPI, handlers: Any) -> None:
    handlers.answers["operations.start_preheat"] = JSONResponse({}, 503, headers={"Retry-After": "5"})
    async with client(door) as node:
        answer = await node.post("/api/v1/preheat", json={"references": ["a"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/contents?limit=0", None),
        ("GET", "/api/v1/contents?limit=1001", None),
        ("GET", "/api/v1/contents?limit=many", None),
        ("DELETE", f"/api/v1/contents/{DIGEST}?all_nodes=perhaps", None),
        ("POST", "/api/v1/preheat", {}),
        ("POST", "/api/v1/preheat", {"references": []}),
        ("POST", "/api/v1/preheat", {"references": ["a"] * 101}),
        ("POST", "/api/v1/preheat", {"references": ["a"], "nodes": 0}),
        ("POST", "/api/v1/preheat", {"references": ["a"], "nodes": "some"}),
        ("POST", "/api/v1/preheat", {"references": ["a"], "node": 1}),
    ],
)
async def test_what_does_not_validate_reaches_no_handler(
    door: FastAPI, handlers: Any, method: str, path: str, body: Any
) -> None:
    async with client(door) as node:
        assert (await node.request(method, path, json=body)).status_code == 422
    assert handlers.calls == []


async def test_a_form_of_another_site_can_not_start_a_preheat(door: FastAPI, handlers: Any) -> None:
    """A browser sends such a body anywhere without asking; JSON it sends only where it is allowed to."""
    async with client(door) as node:
        answer = await node.post(
            "/api/v1/preheat", content=b'{"references": ["a"]}', headers={"Content-Type": "text/plain"}
        )
    assert answer.status_code == 422
    assert handlers.calls == []
