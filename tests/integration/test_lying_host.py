"""Two hosts that claim the same digest, one of them lying: what the liar says reaches no reader of the honest one."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.conftest import Cluster
from tests.support import made
from tests.support.nodes import Node
from tests.support.origin import Origin, file
from tests.support.wire import End, Reply

pytestmark = [pytest.mark.xdist_group("lying host")]

SIZE = (7 << 19) + 123
"""Bytes: three chunks and a half."""

RANGES = [(1_500_000, 2_600_000), (0, 0), (SIZE - 70_000, SIZE - 1)]


@dataclass(frozen=True)
class Claim:
    """Content that both hosts have under one digest. `honest` and `liar` are where it is asked for at a node."""

    digest: str
    true: bytes
    honest: str
    liar: str


class Hosts:
    """The two hosts, each a registry that options name: by its URLs' paths, and by `ns`."""

    def __init__(self, honest: Origin, liar: Origin) -> None:
        self._honest = honest
        self._liar = liar

    @property
    def options(self) -> list[str]:
        return ["--registry", f"honest.test={self._honest.url}", "--registry", f"liar.test={self._liar.url}"]

    def claim(self, name: str, doors: tuple[str, str], size: int = SIZE) -> Claim:
        """A digest that nobody asked for yet; `doors` are those at which the honest one and the liar are asked for it."""
        true, lie = made.content(f"true {name}", size), made.content(f"lie {name}", size)
        hexadecimal = hashlib.sha256(true).hexdigest()
        for host, data in ((self._honest, true), (self._liar, lie)):
            host.at(_storage_path(hexadecimal), file(data, ETag='"1"'))
            host.at(f"/v2/team/app/blobs/sha256:{hexadecimal}", file(data))
        honest, liar = (
            f"/blobs/{host.url}{_storage_path(hexadecimal)}"
            if door == "/blobs"
            else f"/v2/team/app/blobs/sha256:{hexadecimal}?ns={name}"
            for host, name, door in zip((self._honest, self._liar), ("honest.test", "liar.test"), doors, strict=True)
        )
        return Claim(f"sha256:{hexadecimal}", true, honest, liar)

    def lies_told(self, claim: Claim) -> int:
        """How often the liar was asked for it by URL."""
        return len(self._liar.asked_for(_storage_path(claim.digest.removeprefix("sha256:"))))

    def claim_manifest(self, true: bytes, lie: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(true).hexdigest()}"
        for host, data in ((self._honest, true), (self._liar, lie)):
            host.at(
                f"/v2/team/app/manifests/{digest}",
                file(data, Content_Type="application/vnd.oci.image.manifest.v1+json"),
            )
        return f"/v2/team/app/manifests/{digest}"


def _storage_path(hexadecimal: str) -> str:
    return f"/docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Origin.running() as honest, Origin.running() as liar:
        yield Hosts(honest, liar)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, hosts: Hosts) -> list[Node]:
    return cluster(3, *hosts.options)


def ask_range(node: Node, target: str, first: int, last: int) -> Reply:
    return node.ask(target, headers={"Range": f"bytes={first}-{last}"})


def read_liar(node: Node, claim: Claim, how: Sequence[str]) -> None:
    """Read as a client of the liar does, whatever comes of it."""
    for one in how:
        if one == "whole":
            assert_not_taken_for_true(node.ask(claim.liar), claim)
        else:
            for first, last in RANGES:
                ask_range(node, claim.liar, first, last)


def assert_not_taken_for_true(reply: Reply, claim: Claim) -> None:
    """A whole answer is right, or it ends in order before its end, or there is none."""
    assert reply.end is not End.RESET
    if reply.correct:
        assert reply.body == claim.true


def assert_all_true(node: Node, claim: Claim) -> None:
    for first, last in RANGES:
        part = ask_range(node, claim.honest, first, last)
        assert (part.status, part.headers["content-range"]) == (206, f"bytes {first}-{last}/{SIZE}")
        assert part.body == claim.true[first : last + 1]
    whole = node.ask(claim.honest)
    assert whole.correct
    assert whole.body == claim.true
    first, last = RANGES[0]
    assert ask_range(node, claim.honest, first, last).body == claim.true[first : last + 1]


DOORS = pytest.mark.parametrize(
    "doors",
    [
        pytest.param(("/blobs", "/blobs"), id="both by URL"),
        pytest.param(("/v2", "/v2"), id="both by ns"),
        pytest.param(("/v2", "/blobs"), id="the honest by ns, the liar by URL"),
    ],
)


@DOORS
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(["whole"], id="whole"),
        pytest.param(["ranges"], id="ranges"),
        pytest.param(["ranges", "whole", "ranges"], id="ranges, whole and ranges again"),
    ],
)
def test_readers_of_the_honest_host_get_its_bytes_on_every_node_whatever_was_read_of_the_liar(
    nodes: list[Node], hosts: Hosts, doors: tuple[str, str], before: list[str]
) -> None:
    claim = hosts.claim(f"{before} {doors}", doors)
    for node in nodes:
        read_liar(node, claim, before)
    for node in nodes:
        assert_all_true(node, claim)


@DOORS
def test_both_are_read_at_once(nodes: list[Node], hosts: Hosts, doors: tuple[str, str]) -> None:
    claim = hosts.claim(f"at once {doors}", doors)
    with ThreadPoolExecutor(2 * len(nodes)) as clients:
        liars = [clients.submit(read_liar, node, claim, ["ranges", "whole"]) for node in nodes]
        honest = [clients.submit(assert_all_true, node, claim) for node in nodes]
        for one in (*liars, *honest):
            one.result()


@DOORS
def test_a_whole_read_of_the_liar_is_broken_off_each_time(
    nodes: list[Node], hosts: Hosts, doors: tuple[str, str]
) -> None:
    claim = hosts.claim(f"broken off {doors}", doors)
    for node in (*nodes, *nodes):
        reply = node.ask(claim.liar)
        assert not reply.correct
        assert reply.end is (End.EARLY if reply.status == 200 else End.WHOLE)
        assert reply.status < 500 or doors[1] == "/blobs"


def test_a_small_lie_is_no_success_at_all(nodes: list[Node], hosts: Hosts) -> None:
    by_ns, by_url = (hosts.claim(f"small {door}", (door, door), size=500) for door in ("/v2", "/blobs"))
    for node in nodes:
        assert node.ask(by_ns.liar).status == 404
        assert node.ask(by_url.liar).status == 502
    assert hosts.lies_told(by_url) <= 4 * len(nodes), "a lie is not fetched again and again"
    for node in nodes:
        assert node.ask(by_ns.honest).body == by_ns.true
        assert node.ask(by_url.honest).body == by_url.true


def test_once_it_is_proved_the_digest_is_the_same_bytes_whoever_claims_it(nodes: list[Node], hosts: Hosts) -> None:
    claim = hosts.claim("proved", ("/blobs", "/blobs"))
    assert nodes[0].ask(claim.honest).body == claim.true
    reply = nodes[0].ask(claim.liar)
    assert reply.correct
    assert reply.body == claim.true
    assert reply.headers["cache-status"] == "peerd; hit"


def test_a_manifest_is_what_its_digest_says_or_404(nodes: list[Node], hosts: Hosts) -> None:
    target = hosts.claim_manifest(b'{"schemaVersion": 2, "true": 1}', b'{"schemaVersion": 2, "true": 0}')
    for node in nodes:
        if node is nodes[0]:
            assert node.ask(f"{target}?ns=liar.test").status == 404
        assert node.ask(f"{target}?ns=honest.test").body == b'{"schemaVersion": 2, "true": 1}'
