"""What a real node exposes after traffic is what dashboards and scripts may rely on: these names, these labels, no other."""

import ast
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from app.observability.metrics import FILTER_REFUSALS, UPSTREAM_REFUSALS
from tests.conftest import Cluster
from tests.metrics.prometheus import ROOT, promtool
from tests.support import made
from tests.support.blob_store import BlobStore
from tests.support.nodes import Node, wait_until_agreed
from tests.support.registry import AUTHORIZATION, Registry

pytestmark = [pytest.mark.xdist_group("exposition")]

SIZE = 3_000_000
SOURCES = {"cache", "containerd", "peer", "upstream"}
BOTH_WAYS = {"sent", "received"}

# Name, type, and the values that each label may have; None: any that is a word.
PROMISED: dict[str, tuple[str, dict[str, set[str] | None]]] = {
    "peerd_request_duration_seconds": (
        "histogram",
        {"method": {"GET", "HEAD"}, "handler": {"oci", "files", "operations"}, "code": None},
    ),
    "peerd_peer_discovery_duration_seconds": ("histogram", {"self": {"node-1", "node-2"}}),
    "peerd_peer_response_speed_mib_per_second": ("histogram", {"self": {"node-1", "node-2"}, "op": {"pread"}}),
    "peerd_upstream_response_speed_mib_per_second": ("histogram", {"self": {"node-1", "node-2"}, "op": {"pread"}}),
    "peerd_served_bytes": ("counter", {"source": SOURCES}),
    "peerd_received_bytes": ("counter", {"source": {"peer", "upstream"}}),
    "peerd_uploaded_bytes": ("counter", {}),
    "peerd_cache_bytes": ("gauge", {}),
    "peerd_cache_evicted_bytes": ("counter", {}),
    "peerd_corrupt_chunks": ("counter", {"source": SOURCES}),
    "peerd_chunks_not_kept": ("counter", {}),
    "peerd_members": ("gauge", {"state": {"alive", "failed", "left"}}),
    "peerd_index_keys": ("gauge", {}),
    "peerd_filter_false_positives": ("counter", {}),
    "peerd_gossip_bytes": ("counter", {"direction": BOTH_WAYS}),
    "peerd_gossip_deltas": ("counter", {"direction": BOTH_WAYS}),
    "peerd_filters_refused": ("counter", {"reason": set(FILTER_REFUSALS)}),
    "peerd_cross_zone_bytes": ("counter", {"direction": BOTH_WAYS}),
    "peerd_hedged_requests": ("counter", {}),
    "peerd_upstream_refused": ("counter", {"reason": set(UPSTREAM_REFUSALS)}),
    "peerd_consents": (
        "counter",
        {"answer": {"given", "refused", "unknown"}, "source": {"memory", "upstream"}},
    ),
    "peerd_certificate_expiry_timestamp_seconds": ("gauge", {}),
    "peerd_tasks": ("gauge", {}),
    "peerd_node_door_exposed": ("gauge", {}),
}


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, htpasswd_registry: Registry, blob_store: BlobStore) -> list[Node]:
    """Two that have asked for a layer and a file, one after the other, with a credential and a signature; and for a file of their own."""
    nodes = cluster(2, "--registry", f"reg.test={htpasswd_registry.url}", "--consent", "upstream")
    data = made.content("layer", SIZE)
    layer = f"/v2/team/app/blobs/{htpasswd_registry.push_blob('team/app', data)}?ns=reg.test"
    made.write(blob_store.files / "file", "file", SIZE)
    for node in nodes:
        wait_until_agreed(nodes)
        assert node.ask(layer).status == 404, "no credential"
        assert node.ask(layer, headers={"Authorization": AUTHORIZATION}).body == data
        made.write(blob_store.files / node.name, node.name, SIZE)
        for file in ("file", node.name):
            assert node.ask(f"/blobs/{blob_store.url}/{file}?sig=of-somebody").correct
        assert node.ask("/blobs/http://10.0.0.1/file").status == 403
    return nodes


@pytest.fixture(scope="module", params=[text_format, open_metrics], ids=["text", "OpenMetrics"])
def families(nodes: list[Node], request: pytest.FixtureRequest) -> dict[str, Metric]:
    """Of the second node, by name. The client's own times of creation are left out."""
    accept = "application/openmetrics-text" if request.param is open_metrics else "*/*"
    text = nodes[1].ask("/metrics/prometheus", headers={"Accept": accept}).body.decode()
    found: Iterator[Metric] = request.param(text)
    return {
        family.name: family
        for family in found
        if family.name.startswith("peerd_") and not family.name.endswith("_created")
    }


def test_names_and_types_are_those_that_are_promised(families: dict[str, Metric]) -> None:
    assert {name: family.type for name, family in families.items()} == {
        name: kind for name, (kind, _) in PROMISED.items()
    }


def test_every_metric_has_samples_and_says_what_it_is(families: dict[str, Metric]) -> None:
    for family in families.values():
        assert family.samples, family.name
        assert family.documentation.endswith("."), family.name


def test_labels_are_those_that_are_promised(families: dict[str, Metric]) -> None:
    for name, (_, labels) in PROMISED.items():
        for sample in families[name].samples:
            values = {key: value for key, value in sample.labels.items() if key != "le"}
            assert values.keys() == labels.keys(), name
            for key, value in values.items():
                allowed = labels[key]
                assert value.isalnum() if allowed is None else value in allowed, (name, key, value)


def test_what_is_counted_by_a_known_label_is_there_from_the_start(families: dict[str, Metric]) -> None:
    """Prometheus sees no increase in a series that begins at 1."""
    known = {
        name: labels
        for name, (kind, labels) in PROMISED.items()
        if kind != "histogram" and len(labels) == 1  # Consents come in pairs of which not each is known to a node.
    }
    for name, labels in known.items():
        ((key, values),) = labels.items()
        assert {sample.labels[key] for sample in families[name].samples} == values, name


def test_no_label_holds_what_was_asked_for(nodes: list[Node]) -> None:
    for node in nodes:
        text = node.ask("/metrics/prometheus").body.decode()
        assert "node-" in text
        for secret in ("://", "sha256", "of-somebody", "team/app", "10.0.0.1", "127.0.0.1", AUTHORIZATION.split()[1]):
            assert secret not in text


def test_promtool_has_nothing_to_say_of_them(nodes: list[Node]) -> None:
    assert promtool("check", "metrics", given=nodes[1].ask("/metrics/prometheus").body) == ""


def literals(room: str, wanted: Callable[[ast.Call], ast.expr | None]) -> set[str]:
    """Words in calls of a room's code."""
    calls = [
        node
        for path in ROOT.glob(f"{room}/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    return {str(word.value) for call in calls if isinstance(word := wanted(call), ast.Constant)}


def named(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def test_reasons_are_those_of_the_code() -> None:
    upstream = literals(
        "app",
        lambda call: (
            next((word.value for word in call.keywords if word.arg == "reason"), None)
            if named(call) == "UpstreamForbidden"
            else None
        ),
    )
    assert sorted(upstream) == sorted(UPSTREAM_REFUSALS)
    gossip = literals("peerd_gossip", lambda call: call.args[0] if named(call) == "MessageRefused" else None)
    # Of whole filters (peerd_gossip/index.py) and of members (peerd_gossip/roster.py).
    assert sorted(gossip | {"claims_everything", "index_full", "member"}) == sorted(FILTER_REFUSALS)
