"""However a URL is spelled, wherever servers redirect and whatever DNS answers: what is inside is not reached.

Node, DNS, servers and the listener that must not be reached are on a host of their own, which also has an address that is public.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.containerd.fleet import HostedNode
from tests.containerd.network import Host, network
from tests.security.inside import DNS_ADDRESS, FILE, Dns, Listener, answering, listening, redirecting
from tests.support import made
from tests.support.nodes import end_node, is_ready
from tests.support.program import Program
from tests.support.wire import Wire

pytestmark = [pytest.mark.xdist_group("forbidden upstreams")]

PORT, ORIGIN_PORT, NODE_PORT = 8080, 8081, 5000
PUBLIC = "93.184.216.34"
"""On this host's loopback only."""

INSIDE = ("127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "198.18.0.1", "169.254.169.254", "fd00:ec2::254")

DNS = {
    "public.test": [[PUBLIC]],
    "private.test": [["127.0.0.1"]],
    "private6.test": [["::1"]],
    "both.test": [["127.0.0.1", "::1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "compatible.test": [["::127.0.0.1"]],
    "nat64.test": [["64:ff9b::7f00:1"]],
    "6to4.test": [["2002:7f00:1::"]],
    "zero.test": [["0.0.0.0"]],
    "zero6.test": [["::"]],
    "network.test": [["198.18.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "metadata6.test": [["fd00:ec2::254"]],
    "127.0.0.1.nip.test": [["127.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
}
CHANGING = {
    "to-loopback.test": [[PUBLIC], ["127.0.0.1"]],
    "to-loopback6.test": [[PUBLIC], ["::1"]],
    "back-and-forth.test": [[PUBLIC], ["127.0.0.1"], [PUBLIC], ["169.254.169.254"]],
    "late.test": [[PUBLIC], [PUBLIC], [PUBLIC], ["127.0.0.1"]],
}
MIXED = {"mixed.test": [["127.0.0.1", PUBLIC, "::1"]]}

HOSTS = [
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "198.18.0.1", "169.254.169.254", "0.0.0.0"),
    *("127.1", "127.0.1", "0", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.0x0.0x0.0x1", "0x7f.1", "017700000001"),
    *(
        "0177.0.0.1",
        "0177.1",
        "127.000.000.001",
        "00000127.0.0.1",
        "127.0.0.0x1",
        "6425673729",
        "0xa9fea9fe",
        "2852039166",
    ),
    *(
        "127.0.0.1.",
        "127.0.0.1..",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ip6-localhost",
        "ip6-loopback",
        "a.localhost",
    ),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]", "[fd00:ec2::254]"),
    *("[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[::ffff:169.254.169.254]"),
    *("1.1.1.1@127.0.0.1", "1.1.1.1:80@127.0.0.1", "public.test%40127.0.0.1", "127.0.0.1%00.public.test"),
    *("%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0.1%2f@public.test", "127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"),
    *("127.0.0.1\\@public.test", "public.test\\@127.0.0.1", "localhost%09", "127.0.0.1%20", "127.0.0.1;public.test"),
    *DNS,
]
ODD = [
    *("http:127.0.0.1:{port}/x", "http:///127.0.0.1:{port}/x", "http:\\\\127.0.0.1:{port}/x", "//127.0.0.1:{port}/x"),
    *("HTTP://LOCALHOST:{port}/x", "https://127.0.0.1:{port}/x", "ftp://127.0.0.1:{port}/x", "file:///etc/passwd"),
    *("gopher://127.0.0.1:{port}/x", "unix:///run/containerd/containerd.sock", "http://127.0.0.1:{port}:80/x"),
    *("http://public.test:80#@127.0.0.1:{port}/x", "http://127.0.0.1:{port}#@public.test/", "http://[::1:{port}/x"),
    *("http://public.test:{port}@127.0.0.1:{port}/x", "http://127.0.0.1:0{port}/x", "http://127.0.0.1:+{port}/x"),
]
TARGETS = [
    *(f"http://{host}:{PORT}/x" for host in HOSTS if host != "public.test"),
    *(odd.format(port=PORT) for odd in ODD),
]


@dataclass(frozen=True)
class Place:
    """All of it."""

    host: Host
    node: HostedNode
    listener: Listener
    dns: Dns

    def ask(self, target: str) -> int:
        """The status of the node's answer."""
        return self.node.ask(target).status


@contextmanager
def running_node(folder: Path, host: Host, *options: str, port: int = NODE_PORT) -> Iterator[HostedNode]:
    """A node on `host` that asks the test's DNS, within this block."""
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {DNS_ADDRESS}\noptions timeout:1 attempts:1\n")
    # What it mounts is gone with it.
    mounted = ["unshare", "--mount", "--", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolv)]
    command = host.command(
        *mounted,
        str(Path(sys.executable).with_name("peerd")),
        "serve",
        *("--cache-dir", str(folder / "cache"), "--membership", "static", "--log-format", "text"),
        *("--http-addr", f"127.0.0.1:{port}", "--drain-timeout", "2s"),
        *("--registry", f"origin.test=http://127.0.0.1:{ORIGIN_PORT}"),
        *options,
    )
    ready = lambda: host.inside(lambda: is_ready("127.0.0.1", port))  # noqa: E731 -- as the others are written
    program = Program("peerd", command, folder / "peerd.log", ready=ready)
    node = HostedNode("node", "127.0.0.1", port, 5001, 5002, 7946, program, host)
    try:
        program.wait_until_ready()
        yield node
    finally:
        end_node(node)


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[Host, Dns, Listener]]:
    with ExitStack() as stack:
        host = stack.enter_context(network()).host(1)
        for address in (f"{PUBLIC}/32", "169.254.169.254/32", "fd00:ec2::254/128"):
            add = host.command("ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
            subprocess.run(add, check=True, timeout=10)
        dns = stack.enter_context(answering(host, {**DNS, **CHANGING, **MIXED}))
        listener = stack.enter_context(listening(host, INSIDE, PORT))
        stack.enter_context(redirecting(host, "127.0.0.1", ORIGIN_PORT, TARGETS))
        stack.enter_context(redirecting(host, PUBLIC, PORT, TARGETS))
        yield host, dns, listener


@pytest.fixture(scope="module")
def place(host: tuple[Host, Dns, Listener], new_folder: Callable[[], Path]) -> Iterator[Place]:
    where, dns, listener = host
    with running_node(new_folder(), where) as node:
        yield Place(where, node, listener, dns)


@pytest.fixture(autouse=True)
def untouched(place: Place) -> Iterator[None]:
    """After each test nobody has reached the listener."""
    place.listener.reached.clear()
    yield
    assert place.listener.reached == []


def test_there_are_enough_of_them() -> None:
    assert len(set(TARGETS)) >= 60


def as_sent(url: str) -> str:
    """The URL as a request line can carry it: what has no place there is escaped."""
    return quote(url, safe="%:/?#[]@!$&'()*+,;=\\")


@pytest.mark.parametrize("target", TARGETS)
def test_a_url_that_leads_inside_is_refused(place: Place, target: str) -> None:
    for sent in (as_sent(target), quote(target, safe="")):
        assert place.ask(f"/blobs/{sent}") in (400, 403, 502)


@pytest.mark.parametrize(
    ("start", "hops"),
    [
        pytest.param(f"http://127.0.0.1:{ORIGIN_PORT}", 0, id="from a named host"),
        pytest.param(f"http://127.0.0.1:{ORIGIN_PORT}", 3, id="from a named host, by three more"),
        pytest.param(f"http://public.test:{PORT}", 1, id="from a public host, by one more"),
    ],
)
def test_a_redirect_that_leads_inside_is_not_followed(place: Place, start: str, hops: int) -> None:
    statuses = {target: place.ask(f"/blobs/{start}/hop/{hops}/{number}") for number, target in enumerate(TARGETS)}
    # A location without a scheme leads to another file of the same server: that is no way in.
    inside = {target: status for target, status in statuses.items() if target.startswith("http://")}
    assert not {target: status for target, status in inside.items() if status not in (403, 502)}
    assert list(inside.values()).count(403) > 60


def test_a_registry_that_wants_a_token_of_inside_gets_none(place: Place) -> None:
    digest = made.digest_of(b"x")
    for number in range(len(TARGETS)):
        what = "manifests/latest" if number % 2 else f"blobs/{digest}"
        assert place.ask(f"/v2/realm{number}/app/{what}?ns=origin.test") == 404


@pytest.mark.parametrize(
    "host_name", [name for name in HOSTS if name.isascii() and "%" not in name and "@" not in name]
)
def test_a_registry_of_that_name_is_not_asked(place: Place, host_name: str) -> None:
    for what in (f"blobs/{made.digest_of(b'x')}", "manifests/latest"):
        answer = place.ask(f"/v2/team/app/{what}?ns={quote(f'{host_name}:{PORT}', safe='')}")
        if host_name != "public.test":
            assert answer in (400, 404)


@pytest.mark.parametrize("name", CHANGING)
def test_an_answer_of_dns_that_changes_leads_nowhere(place: Place, name: str) -> None:
    """The public address answers, so there is something to go on from; then the name leads inside."""
    statuses = [place.ask(f"/blobs/http://{name}:{PORT}/file-{number}") for number in range(6)]
    assert set(statuses) <= {200, 403, 502}
    assert 403 in statuses
    assert place.dns.asked[name] > len(CHANGING[name]), "the last answer was given"


def test_of_a_name_with_both_kinds_the_public_address_is_asked(place: Place) -> None:
    for number in range(5):
        reply = place.node.ask(f"/blobs/http://mixed.test:{PORT}/file-{number}")
        assert (reply.status, reply.body) == (200, FILE)


def test_what_was_refused_is_counted(place: Place) -> None:
    place.ask(f"/blobs/http://127.0.0.1:{PORT}/x")
    for reason in ("address", "host", "scheme", "userinfo"):
        assert place.node.metric("peerd_upstream_refused_total", reason=reason) > 0


class TestThatTheListenerCanBeReached:
    """The same host, and a node that may ask everybody: the tests above are not true for another reason."""

    @pytest.fixture(autouse=True)
    def untouched(self) -> None:
        """Here it is."""

    def test_by_a_client_of_its_own(self, place: Place) -> None:
        for address in INSIDE:
            place.listener.reached.clear()
            place.host.inside(lambda a=address: Wire(a, PORT)).__exit__()
            place.node.program.wait_until(lambda a=address: (a, PORT) in place.listener.reached, "reached")

    def test_by_a_node_that_may(self, place: Place, new_folder: Callable[[], Path]) -> None:
        with running_node(new_folder(), place.host, "--upstream-allow", "*", port=NODE_PORT + 1) as node:
            for target in ("127.0.0.1", "[::1]", "private.test", "to-loopback.test"):
                place.listener.reached.clear()
                node.ask(f"/blobs/http://{target}:{PORT}/x")
                assert place.listener.reached
