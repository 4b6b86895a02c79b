"""`/api/v1/events` of a real node: whole documents, at once and then as they change."""

from tests.support.events import MODELS, events_of
from tests.support.nodes import Node


def test_all_come_at_once_and_others_are_asked_how_loaded_they_are(nodes: list[Node]) -> None:
    assert all(member["load"] is None for name, member in nodes[0].members().items() if name != "node-1")
    with events_of(nodes[0]) as events:
        assert {next(events)[0] for _ in range(4)} == set(MODELS)
        for name, document in events:
            if name == "members" and all(member["load"] for member in document["members"]):
                break
        quotas = {member["name"]: member["load"]["cache_quota_bytes"] for member in document["members"]}
        assert quotas == dict.fromkeys(("node-1", "node-2", "node-3"), 10 << 30)


def test_a_node_that_ends_ends_its_events(nodes: list[Node]) -> None:
    with events_of(nodes[2]) as events:
        assert next(events)
        with nodes[2].program.away():
            assert all(name in MODELS for name, _ in events)
