"""status, purge and preheat, with a node that says what the API's own examples say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import app.api

Peerd = Callable[..., Any]
API = json.loads((Path(app.api.__file__).parent / "openapi.json").read_text())
PREHEAT = {
    "id": "p1",
    "references": ["docker.io/library/app:v1"],
    "state": "running",
    "started_at": "2025-06-01T08:00:00Z",
    "finished_at": None,
    "nodes": [
        {"name": "node-a", "state": "running", "done_bytes": 1024, "total_bytes": 2048, "error": None},
        {"name": "node-b", "state": "waiting", "done_bytes": 0, "total_bytes": None, "error": None},
    ],
}


def example(path: str) -> dict[str, Any]:
    """What the API's description gives as the answer's example."""
    content = API["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    found: dict[str, Any] = content["example"]
    return found


@pytest.fixture
def node(api_node: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "140")  # no cell is broken over lines
    for name in ("status", "members", "transfers"):
        api_node.says(f"GET /api/v1/{name}", json.dumps(example(f"/api/v1/{name}")))
    return api_node


def test_status_tells_node_members_and_transfers(node: Any, peerd: Peerd) -> None:
    result = peerd("status", "--node", node.url)
    assert result.exit_code == 0, result.stderr
    for word in (
        "node-a (this node)",
        "westeurope-1",
        "128.0 MiB of 10.0 GiB",
        "serf: ",
        "node-b",
        "1.1 ms",
        "running",
    ):
        assert word in result.stdout
    transfers = result.stdout.partition("Transfers to clients")[2]
    assert "10.0 MiB of 64.0 MiB" in transfers
    assert "90.0 %" in transfers


def test_status_without_transfers_says_so(node: Any, peerd: Peerd) -> None:
    node.says("GET /api/v1/transfers", '{"transfers": []}')
    assert "No transfers" in peerd("status", "--node", node.url).stdout


def test_status_shows_what_runs_and_only_the_last_of_what_ended(node: Any, peerd: Peerd) -> None:
    (running,) = example("/api/v1/transfers")["transfers"]
    ended = [
        running
        | {"state": "finished", "key": f"sha256:{number:064x}"[::-1], "started_at": f"2025-06-01T09:00:{number:02}Z"}
        for number in range(20)
    ]
    node.says("GET /api/v1/transfers", json.dumps({"transfers": [*ended, running]}))
    transfers = peerd("status", "--node", node.url).stdout.partition("Transfers to clients")[2]
    assert (transfers.count("running"), transfers.count("finished")) == (1, 5)


def test_status_for_scripts_is_what_the_node_said(node: Any, peerd: Peerd) -> None:
    documents = json.loads(peerd("status", "--node", node.url, "--json").stdout)
    assert documents["status"]["saved_upstream_bytes"] == example("/api/v1/status")["saved_upstream_bytes"]
    assert documents["members"] == example("/api/v1/members")


def test_the_node_may_come_from_the_environment(node: Any, peerd: Peerd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERD_NODE", node.url)
    assert peerd("status", "--json").exit_code == 0


def test_something_else_behind_the_address_is_told(api_node: Any, peerd: Peerd) -> None:
    api_node.says("GET /api/v1/status", '{"hello": "world"}')
    result = peerd("status", "--node", api_node.url)
    assert result.exit_code == 1
    assert "is no peerd of this version" in result.stderr


def purge_answer(**changes: Any) -> str:
    nodes = [{"name": "node-a", "forgotten_bytes": 17, "forgotten_contents": 1, "error": None}]
    return json.dumps({"target": "x", "forgotten_bytes": 17, "forgotten_contents": 1, "nodes": nodes} | changes)


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("words", "request_line"),
    [
        pytest.param((DIGEST,), f"DELETE /api/v1/contents/{DIGEST}", id="a digest"),
        pytest.param(
            (f"{DIGEST}@example.local",), f"DELETE /api/v1/contents/{DIGEST}%40example.local", id="unproved parts"
        ),
        pytest.param(
            ("alpine",), "DELETE /api/v1/contents/docker.io%2Flibrary%2Falpine:latest", id="an image by its full name"
        ),
        pytest.param(
            ("--all-nodes", "https://h/f?a=b&c"),
            "DELETE /api/v1/contents/https:%2F%2Fh%2Ff%3Fa%3Db%26c?all_nodes=true",
            id="a URL, everywhere",
        ),
    ],
)
def test_purge_asks_for_what_was_meant(words: tuple[str, ...], request_line: str, api_node: Any, peerd: Peerd) -> None:
    api_node.says(request_line, purge_answer())
    result = peerd("purge", "--node", api_node.url, *words)
    assert result.exit_code == 0, result.stderr
    assert "node-a" in result.stdout
    assert api_node.asked == [(request_line, "")]


def test_purge_of_what_nobody_holds_ends_with_1(api_node: Any, peerd: Peerd) -> None:
    result = peerd("purge", "--node", api_node.url, DIGEST)
    assert result.exit_code == 1
    assert "no such thing" in result.stderr


def test_purge_of_a_node_that_could_not_be_asked_ends_with_1(api_node: Any, peerd: Peerd) -> None:
    silent = {"name": "node-b", "forgotten_bytes": 0, "forgotten_contents": 0, "error": "did not answer"}
    api_node.says(f"DELETE /api/v1/contents/{DIGEST}?all_nodes=true", purge_answer(nodes=[silent]))
    result = peerd("purge", "--node", api_node.url, "--all-nodes", DIGEST)
    assert result.exit_code == 1
    assert "node-b" in result.stderr


def test_preheat_waits_until_the_last_node_has_ended(api_node: Any, peerd: Peerd) -> None:
    done = [one | {"state": "finished", "done_bytes": 2048, "total_bytes": 2048} for one in PREHEAT["nodes"]]
    api_node.says("POST /api/v1/preheat", json.dumps(PREHEAT), status=202)
    api_node.says(
        "GET /api/v1/preheat/p1", json.dumps(PREHEAT), json.dumps(PREHEAT | {"state": "finished", "nodes": done})
    )
    result = peerd("preheat", "--node", api_node.url, "--nodes", "2", "app:v1", "http://h/f")
    assert result.exit_code == 0, result.stderr
    assert "node-a: finished, 2.0 KiB" in result.stderr
    method, body = api_node.asked[0]
    assert method == "POST /api/v1/preheat"
    assert json.loads(body) == {"references": ["docker.io/library/app:v1", "http://h/f"], "nodes": 2}
    assert len(api_node.asked) == 3


def test_preheat_of_a_node_that_failed_ends_with_1_and_its_reason(api_node: Any, peerd: Peerd) -> None:
    failed = [PREHEAT["nodes"][0] | {"state": "failed", "error": "disk is full"}]
    api_node.says("POST /api/v1/preheat", json.dumps(PREHEAT | {"state": "failed", "nodes": failed}), status=202)
    result = peerd("preheat", "--node", api_node.url, "app:v1")
    assert result.exit_code == 1
    assert "node-a failed: disk is full" in result.stderr


@pytest.mark.parametrize("nodes", ["0", "-1", "some", "1.5"])
def test_preheat_onto_no_number_of_nodes_ends_with_2(nodes: str, peerd: Peerd) -> None:
    result = peerd("preheat", f"--nodes={nodes}", "app:v1")
    assert result.exit_code == 2
    assert repr(nodes) in result.stderr
