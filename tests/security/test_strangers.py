"""Who comes to a door with the wrong papers is turned away, and the log says why, once a minute."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from peerd_gossip.grpc_transport import GREET
from peerd_gossip.member import Member
from peerd_gossip.messages import Greeting, encode_greeting
from tests.security.papers import LATER, LONG_AGO, Cluster, authority, context, paper, running_cluster, said

pytestmark = [pytest.mark.xdist_group("strangers")]

TIMES = 12


@pytest.fixture(scope="module")
def cluster(new_folder: Callable[[], Path]) -> Iterator[Cluster]:
    with running_cluster(new_folder()) as cluster:
        yield cluster


@pytest.fixture
def member(cluster: Cluster, tmp_path: Path) -> Path:
    """node-2's papers of the CA that counts."""
    return paper(tmp_path / "member", cluster.new, "node-2")


@pytest.mark.parametrize("door", ["peer", "gossip"])
def test_a_member_is_spoken_to(cluster: Cluster, member: Path, door: str) -> None:
    assert said(cluster.port(door), context(member))


STRANGERS = {
    "without TLS": "http request",
    "without a certificate": "did not return a certificate",
    "of another CA": "signature|issuer|self-signed",
    "that has expired": "expired",
    "that is not valid yet": "not yet valid",
    "of the CA that was replaced": "signature|issuer|self-signed",
}
"""And what the peer door's log says of it, in OpenSSL's words. gRPC tells nobody of its handshakes."""


def papers_of(who: str, cluster: Cluster, folder: Path) -> Path | None:
    match who:
        case "of another CA":
            return paper(folder, authority(), "node-2")
        case "that has expired":
            return paper(folder, cluster.new, "node-2", days=1, now=LONG_AGO)
        case "that is not valid yet":
            return paper(folder, cluster.new, "node-2", now=LATER)
        case "of the CA that was replaced":
            return paper(folder, cluster.old, "node-2")
    return None


@pytest.mark.parametrize("door", ["peer", "gossip"])
@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_is_told_nothing(cluster: Cluster, tmp_path: Path, who: str, door: str) -> None:
    tls = None if who == "without TLS" else context(papers_of(who, cluster, tmp_path))
    for _ in range(TIMES):
        assert said(cluster.port(door), tls) == b""
    if door == "peer":
        found = lines(cluster, STRANGERS[who])
        assert found, cluster.nodes[0].program.tail()
        assert len(found) == len(set(found)), "each reason once a minute"


def lines(cluster: Cluster, words: str) -> list[str]:
    """What node-1's log says of strangers, without the time."""
    log = cluster.nodes[0].program.log.read_text()
    told = [line.partition("turned away at the peer door: ")[2] for line in log.splitlines() if "turned away" in line]
    return [line for line in told if re.search(words, line)]


@pytest.mark.parametrize("door", ["peer", "gossip"])
def test_who_was_let_in_before_the_ca_was_replaced_can_not_go_on_from_that(cluster: Cluster, door: str) -> None:
    """TLS resumes a session without looking at certificates again; a door must not offer that."""
    tls, session = cluster.sessions[door]
    assert said(cluster.port(door), tls, session) == b""


def test_tls_1_2_is_not_spoken_at_the_peer_door(cluster: Cluster, member: Path) -> None:
    for _ in range(TIMES):
        assert said(cluster.port("peer"), context(member, tls_1_2=True)) == b""
    assert len(lines(cluster, "unsupported protocol")) == 1


def test_a_certificate_of_the_cluster_that_is_no_members_gets_nothing_at_the_peer_door(
    cluster: Cluster, tmp_path: Path
) -> None:
    removed = context(paper(tmp_path, cluster.new, "removed"))
    for _ in range(3):
        answer = said(cluster.port("peer"), removed)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"cache" not in answer, "it does not learn the node's load"
    assert len(lines(cluster, "names no member")) == 1


def test_a_member_speaks_for_itself_only(cluster: Cluster, member: Path) -> None:
    tls = context(member)
    assert said(cluster.port("peer"), tls, headers="X-MS-Peerd-Node: node-2\r\n").startswith(b"HTTP/1.1 200 ")
    assert said(cluster.port("peer"), tls, headers="X-MS-Peerd-Node: node-1\r\n").startswith(b"HTTP/1.1 403 ")
    assert lines(cluster, "not that of the member")


@pytest.mark.parametrize("name", ["node-1", "node-2", "node-3"])
def test_a_greeting_in_anothers_name_is_refused_at_the_gossip_door(cluster: Cluster, tmp_path: Path, name: str) -> None:
    shown = paper(tmp_path, cluster.new, "removed")
    host, port = cluster.port("gossip")
    credentials = grpc.ssl_channel_credentials(
        cluster.new.certificate.public_bytes(Encoding.PEM),
        shown.with_suffix(".key").read_bytes(),
        shown.with_suffix(".crt").read_bytes(),
    )
    me = Member(name, 1, "127.0.0.9:1", "127.0.0.9:2")
    with (
        grpc.secure_channel(
            f"{host}:{port}", credentials, options=[("grpc.ssl_target_name_override", "node-1.peerd")]
        ) as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        channel.unary_unary(GREET)(encode_greeting(Greeting(me)), timeout=20)
    assert "not that of" in refusal.value.details()
