"""What went wrong for a client is told to whoever looks after the node: once, with the reason, without secrets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import Node, running_alone
from tests.support.origin import Origin, always
from tests.support.ports import free_port
from tests.upstream.conversation import response

pytestmark = [pytest.mark.xdist_group("conversations")]

ABSENT = f"sha256:{'0' * 64}"


@pytest.fixture
def node(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Node]:
    registries = (f"origin.test={origin.url}", f"away.test=http://127.0.0.1:{free_port()}")
    options = [word for one in registries for word in ("--registry", one)]
    with running_alone(new_folder(), *options) as node:
        yield node


def told(node: Node) -> list[dict[str, Any]]:
    """The errors that the page shows: those about answers."""
    recent = json.loads(node.ask("/api/v1/status").body)["recent_errors"]
    return [one for one in recent if "is answered" in one["message"]]


def test_a_mirror_s_404_for_want_of_the_registry(node: Node) -> None:
    assert node.ask(f"/v2/team/app/blobs/{ABSENT}?ns=away.test").status == 404
    (one,) = told(node)
    assert one["count"] == 1
    assert one["message"].startswith(f"GET /v2/team/app/blobs/{ABSENT}?ns=away.test is answered 404: ")
    assert one["message"].endswith("can not be asked: Connection refused")


def test_a_mirror_s_404_for_what_upstream_does_not_give(node: Node, origin: Origin) -> None:
    path = f"/v2/private/app/blobs/{ABSENT}"
    origin.at(path, always(response(403)))
    assert node.ask(f"{path}?ns=origin.test").status == 404
    (one,) = told(node)
    assert "403" in one["message"]


def test_a_5xx_without_what_signs_its_url(node: Node) -> None:
    url = f"http://127.0.0.1:{free_port()}/file"
    reply = node.ask(
        f"/blobs/{url}?sv=1&sig=of-somebody&X-Other=hidden", headers={"X-MS-Peerd-CorrelationId": "pull-42"}
    )
    assert reply.status == 502
    (one,) = told(node)
    assert one["message"].startswith(f"GET /blobs/{url} is answered 502: ")
    log = node.program.log.read_text()
    assert "of-somebody" not in log
    assert "hidden" not in log


def test_nothing_is_told_of_what_nobody_has_and_what_a_client_did_wrong(node: Node, origin: Origin) -> None:
    for target, status in (
        (f"/v2/team/app/blobs/{ABSENT}?ns=origin.test", 404),
        ("/v2/team/app/manifests/v1?ns=origin.test", 404),
        ("/v2/team/app/blobs/sha256:xyz?ns=origin.test", 400),
        (f"/blobs/{origin.url}/nothing", 404),
        ("/blobs/http://10.0.0.1/file", 403),
    ):
        assert node.ask(target).status == status, target
    assert told(node) == []
