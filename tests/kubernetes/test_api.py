"""Conversations with an API server: the stand-in, and a real one where there is one."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.kubernetes.api import ApiServer, NoAccount
from app.kubernetes.ledger import Changed, Exists, Gone, Invalid, Post, Refused, Told, Unavailable
from app.kubernetes.lifecycle import Occurrence, Reason
from app.kubernetes.pod import Pod, pod_of
from tests.kubernetes.kube_apiserver import KubeApiserver
from tests.kubernetes.stand_in import NAMESPACE, TOKEN, StandIn

Server = StandIn | KubeApiserver
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


@pytest.fixture
def pod(server: Server) -> Pod:
    """One that the server knows, on a node that it knows."""
    number = next(_numbers)
    name, node = f"peerd-{number}", f"node-{number}"
    server.add_node(node, {"topology.kubernetes.io/zone": "west-1", "kubernetes.io/os": "linux"})
    return Pod(name, NAMESPACE, server.add_pod(name), node)


@pytest.fixture
def opened(server: Server, tmp_path: Path) -> Callable[..., ApiServer]:
    def open_server(pod: Pod, token: str = TOKEN) -> ApiServer:
        account = server.account(tmp_path / "account", token)
        return ApiServer(account.environ, pod, account=account.folder)

    return open_server


@pytest.fixture
def api(opened: Callable[..., ApiServer], pod: Pod) -> ApiServer:
    return opened(pod)


def connected(pod: Pod, count: int = 1, **more) -> Post:
    occurrence = Occurrence(Reason.CONNECTED, "Normal", f"number {count}")
    return Post(f"{hash(pod) & 0xFFFF:x}", occurrence, count, MONDAY, MONDAY + timedelta(seconds=count), **more)


def test_an_event_on_the_pod(server: Server, api: ApiServer, pod: Pod) -> None:
    post = connected(pod)
    assert isinstance(api.send(post), Told)
    (event,) = server.events_of(pod.name)
    assert event["metadata"]["name"] == f"{pod.name}.{post.name}"
    about = {"kind": "Pod", "name": pod.name, "namespace": NAMESPACE, "uid": pod.uid, "apiVersion": "v1"}
    assert event["involvedObject"] == about
    assert (event["reason"], event["type"], event["count"]) == ("P2PConnected", "Normal", 1)
    assert event["message"] == f"P2P proxy is connected to cluster on instance {pod.name}: number 1"
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z")
    assert event["source"] == {"component": "peerd", "host": pod.node}


def test_one_that_recurs_is_patched(server: Server, api: ApiServer, pod: Pod) -> None:
    told = api.send(connected(pod))
    assert isinstance(told, Told)
    again = api.send(connected(pod, 2, exists=True, version=told.version))
    assert isinstance(again, Told)
    assert again.version != told.version
    (event,) = server.events_of(pod.name)
    assert (event["count"], event["lastTimestamp"]) == (2, "2024-01-01T00:00:02Z")
    assert event["message"].endswith("number 2")
    assert event["firstTimestamp"] == "2024-01-01T00:00:00Z"


def test_one_that_was_created_already_is_not_created_again(server: Server, api: ApiServer, pod: Pod) -> None:
    assert isinstance(api.send(connected(pod)), Told)
    assert api.send(connected(pod)) == Exists()
    assert len(server.events_of(pod.name)) == 1


def test_a_patch_of_an_older_version_is_refused_and_one_of_any_is_not(server: Server, api: ApiServer, pod: Pod) -> None:
    told = api.send(connected(pod))
    assert isinstance(told, Told)
    (event,) = server.events_of(pod.name)
    server.touch_event(event["metadata"]["name"])
    assert api.send(connected(pod, 2, exists=True, version=told.version)) == Changed()
    assert isinstance(api.send(connected(pod, 2, exists=True)), Told)
    (event,) = server.events_of(pod.name)
    assert (event["count"], event["metadata"]["labels"]) == (2, {"seen": "yes"})


def test_one_that_is_kept_no_longer(server: Server, api: ApiServer, pod: Pod) -> None:
    told = api.send(connected(pod))
    assert isinstance(told, Told)
    (event,) = server.events_of(pod.name)
    server.forget_event(event["metadata"]["name"])
    assert api.send(connected(pod, 2, exists=True, version=told.version)) == Gone()
    assert isinstance(api.send(connected(pod, 2)), Told)


def test_a_pod_that_was_not_told_its_uid_asks_for_it(
    server: Server, opened: Callable[..., ApiServer], pod: Pod
) -> None:
    assert isinstance(opened(replace(pod, uid=None)).send(connected(pod)), Told)
    (event,) = server.events_of(pod.name)
    assert event["involvedObject"]["uid"] == pod.uid


def test_one_whose_pod_is_not_there_does_without(server: Server, opened: Callable[..., ApiServer], pod: Pod) -> None:
    other = replace(pod, name=f"{pod.name}-x", uid=None)
    assert isinstance(opened(other).send(connected(other)), Told)
    (event,) = server.events_of(other.name)
    assert "uid" not in event["involvedObject"]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_taken_with_a_message_of_any_length(
    server: Server, api: ApiServer, pod: Pod, reason: Reason
) -> None:
    post = Post(f"{reason.lower()}", Occurrence(reason, "Warning", "é" * 5000), 1, MONDAY, MONDAY)
    assert isinstance(api.send(post), Told)
    (event,) = server.events_of(pod.name)
    assert (event["reason"], len(event["message"]), event["message"][-1]) == (reason, 1024, "…")


def test_the_longest_name_of_a_pod(server: Server, opened: Callable[..., ApiServer], pod: Pod) -> None:
    long = replace(pod, name=f"{'a' * 235}.{'b' * 17}", uid="u")
    assert isinstance(opened(long).send(replace(connected(long), name="0123456789abcdef")), Told)
    (event,) = server.events_of(long.name)
    assert event["metadata"]["name"] == f"{'a' * 235}.0123456789abcdef"


def test_the_zone_is_the_label_of_the_node(
    server: Server, opened: Callable[..., ApiServer], api: ApiServer, pod: Pod
) -> None:
    assert api.zone_of_node() == "west-1"
    server.add_node(f"{pod.node}-bare", {})
    assert opened(replace(pod, node=f"{pod.node}-bare")).zone_of_node() is None
    with pytest.raises(PermissionError, match="404"):
        opened(replace(pod, node=f"{pod.node}-unknown")).zone_of_node()


def test_another_namespace_is_refused(opened: Callable[..., ApiServer], pod: Pod) -> None:
    assert isinstance(opened(replace(pod, namespace="nowhere")).send(connected(pod)), Refused)


def test_a_token_that_is_not_believed_is_tried_again_later(opened: Callable[..., ApiServer], pod: Pod) -> None:
    assert opened(pod, token="wrong").send(connected(pod)) == Unavailable("401 Unauthorized")


class TestTrouble:
    """What only a stand-in does on order."""

    @pytest.fixture
    def server(self, stand_in: StandIn) -> StandIn:
        return stand_in

    def test_forbidden(self, server: StandIn, api: ApiServer, pod: Pod) -> None:
        server.orders.forbidden = {("create", "events"), ("get", "nodes")}
        answer = api.send(connected(pod))
        assert isinstance(answer, Refused)
        assert answer.why.startswith("403 events is forbidden")
        with pytest.raises(PermissionError, match="403 nodes is forbidden"):
            api.zone_of_node()

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_overloaded(self, server: StandIn, api: ApiServer, pod: Pod, status: int) -> None:
        server.orders.status, server.orders.retry_after = status, 7
        assert api.send(connected(pod)) == Unavailable(f"{status} the test wants it", after=7.0)
        assert len(server.asked) == 1, "the client repeats nothing by itself"

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_never_taken(self, server: StandIn, api: ApiServer, pod: Pod, status: int) -> None:
        server.orders.status = status
        assert isinstance(api.send(connected(pod)), Invalid)

    def test_a_redirect_is_not_followed(self, server: StandIn, api: ApiServer, pod: Pod) -> None:
        server.orders.status = 307
        assert isinstance(api.send(connected(pod)), Refused)
        assert len(server.asked) == 1

    def test_away_and_back(self, server: StandIn, api: ApiServer, pod: Pod) -> None:
        server.stop()
        assert isinstance(api.send(connected(pod)), Unavailable)
        with pytest.raises(LookupError):
            api.zone_of_node()
        server.start()
        assert isinstance(api.send(connected(pod)), Told)

    def test_carried_out_and_not_answered(self, server: StandIn, api: ApiServer, pod: Pod) -> None:
        server.orders.lose_answers = True
        assert isinstance(api.send(connected(pod)), Unavailable)
        server.orders.lose_answers = False
        assert api.send(connected(pod)) == Exists()
        assert [write.verb for write in server.writes] == ["create"]

    def test_a_question_that_is_not_answered_is_not_repeated_at_once(self, server: StandIn, api: ApiServer) -> None:
        server.orders.lose_answers = True
        with pytest.raises(LookupError):
            api.zone_of_node()
        assert len(server.asked) == 1

    def test_too_slow(self, server: StandIn, api: ApiServer, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.kubernetes.api.READ_SECONDS", 0.2)
        server.orders.delay_seconds = 1.0
        assert isinstance(api.send(connected(pod)), Unavailable)

    def test_a_server_with_the_certificate_of_another_authority(
        self, server: StandIn, pod: Pod, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        account = server.account(tmp_path / "account")
        (account.folder / "ca.crt").write_bytes(StandIn(tmp_path / "other").ca)
        answer = ApiServer(account.environ, pod, account=account.folder).send(connected(pod))
        assert isinstance(answer, Unavailable)
        assert server.asked == []

    def test_a_token_that_was_written_anew(
        self, server: StandIn, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = server.account(tmp_path / "account")
        api = ApiServer(account.environ, pod, account=account.folder)
        server.tokens = {"a-new-token"}
        (account.folder / "token").write_text("a-new-token")
        assert isinstance(api.send(connected(pod)), Unavailable)
        later = datetime.now() + timedelta(seconds=61)  # noqa: DTZ005 -- as the client's own clock is

        class Later(datetime):
            @classmethod
            def now(cls, tz=None) -> datetime:
                return later

        monkeypatch.setattr("kubernetes.config.incluster_config.datetime.datetime", Later)
        assert isinstance(api.send(connected(pod)), Told)

    def test_proxies_are_not_asked(
        self, server: StandIn, opened: Callable[..., ApiServer], pod: Pod, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        assert isinstance(opened(pod).send(connected(pod)), Told)


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_without_its_files_a_pod_has_no_account(stand_in: StandIn, tmp_path: Path, missing: str) -> None:
    account = stand_in.account(tmp_path / "account")
    (account.folder / missing).unlink()
    with pytest.raises(NoAccount):
        ApiServer(account.environ, Pod("p", NAMESPACE, "u", "n"), account=account.folder)


def test_which_pod_it_is(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("from-the-account\n")
    found = pod_of({}, node_name="node", host_name="host", account=tmp_path)
    assert found == Pod("host", "from-the-account", None, "node")
    told = {"POD_NAME": "p", "POD_NAMESPACE": "ns", "POD_UID": "u", "NODE_NAME": "n"}
    assert pod_of(told, node_name="node", host_name="host", account=tmp_path) == Pod("p", "ns", "u", "n")
