import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from app.errors import BadRequest, UpstreamForbidden, UpstreamUnavailable
from app.upstream.guard import Guard, HostPattern, Policy, Standing, resolve
from app.upstream.proxies import Proxies, Proxy
from app.upstream.url import Address, UpstreamUrl


def patterns(*texts: str) -> tuple[HostPattern, ...]:
    return tuple(HostPattern.parse(text) for text in texts)


class Dns:
    """Answers in the order given, then the last again; remembers what it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(address) for address in answer]


def guard(policy: Policy, dns: Dns | None = None, proxies: Proxies | None = None) -> tuple[Guard, list[str]]:
    refused: list[str] = []
    return (
        Guard(policy, proxies or Proxies(), on_refused=refused.append, resolve=dns or Dns(["1.1.1.1"])),
        refused,
    )


@pytest.mark.parametrize(
    ("pattern", "host", "port", "matches"),
    [
        pytest.param("a.example", "a.example", 443, True, id="a name"),
        pytest.param("A.Example.", "a.example", 443, True, id="in any case, with the root dot"),
        pytest.param("a.example", "b.a.example", 443, False, id="not what is below it"),
        pytest.param("*.example", "b.a.example", 443, True, id="all below"),
        pytest.param("*.example", "example", 443, False, id="not itself"),
        pytest.param("*.example", "evilexample", 443, False, id="not what merely ends alike"),
        pytest.param("a.example:5000", "a.example", 5000, True, id="with the port"),
        pytest.param("a.example:5000", "a.example", 443, False, id="not at another port"),
        pytest.param("a.example:*", "a.example", 443, True, id="any port"),
        pytest.param("a?.example:50?0", "ab.example", 5010, True, id="question marks"),
        pytest.param("a.b", "axb", 443, False, id="a dot is a dot"),
        pytest.param("127.0.0.1:*", "127.0.0.1", 1, True, id="an address"),
        pytest.param("10.1.*", "10.1.2.3", 1, True, id="addresses"),
        pytest.param("10.1.*", "10.1.evil.example", 1, False, id="a glob of addresses means no name"),
        pytest.param("10*", "10.evil.example", 1, False, id="a short glob of addresses neither"),
        pytest.param("*", "a.example", 1, True, id="everything"),
        pytest.param("*", "127.0.0.1", 1, True, id="everything, addresses too"),
        pytest.param("[::1]:5000", "::1", 5000, True, id="IPv6"),
        pytest.param("[fd00:*]", "fd00:1::2", 5000, True, id="IPv6 glob without port"),
        pytest.param("[fd00:*]", "fd00.example", 5000, False, id="an IPv6 glob means no name"),
    ],
)
def test_host_globs(pattern: str, host: str, port: int, matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host, port) is matches


@pytest.mark.parametrize("text", ["", ":80", "a:b", "https://a.example", "user@a", "a b", "[::1", "[::1]x", "a:"])
def test_no_host_glob(text: str) -> None:
    with pytest.raises(ValueError, match="no host glob"):
        HostPattern.parse(text)


@pytest.mark.parametrize(
    ("policy", "host", "port", "standing"),
    [
        pytest.param(Policy(), "a.example", 443, Standing.PUBLIC_ONLY, id="any name, if its address is public"),
        pytest.param(Policy(), "1.1.1.1", 443, Standing.PUBLIC_ONLY, id="a public address"),
        pytest.param(Policy(allow=patterns("*.corp")), "a.corp", 80, Standing.LISTED, id="an allowed name"),
        pytest.param(Policy(allow=patterns("10.0.0.1:80")), "10.0.0.1", 80, Standing.LISTED, id="an allowed address"),
        pytest.param(
            Policy(named=frozenset({("10.0.0.1", 80)})), "10.0.0.1", 80, Standing.LISTED, id="a named registry"
        ),
        pytest.param(
            Policy(named=frozenset({("a.example", 443)}), deny_unlisted=True),
            "a.example",
            443,
            Standing.LISTED,
            id="named",
        ),
    ],
)
def test_what_a_policy_says_before_dns(policy: Policy, host: str, port: int, standing: Standing) -> None:
    assert policy.standing(host, port) is standing


@pytest.mark.parametrize(
    ("policy", "host", "port", "reason"),
    [
        pytest.param(Policy(), "127.0.0.1", 80, "address", id="loopback"),
        pytest.param(Policy(), "::1", 80, "address", id="loopback, IPv6"),
        pytest.param(Policy(), "::ffff:7f00:1", 80, "address", id="loopback, IPv4 in IPv6"),
        pytest.param(Policy(), "169.254.169.254", 80, "address", id="metadata"),
        pytest.param(Policy(allow=patterns("10.0.0.1:80")), "10.0.0.1", 81, "address", id="another port than allowed"),
        pytest.param(
            Policy(named=frozenset({("10.0.0.1", 80)})), "10.0.0.1", 81, "address", id="another port than named"
        ),
        pytest.param(Policy(deny_unlisted=True), "a.example", 443, "host", id="unlisted"),
        pytest.param(Policy(deny_unlisted=True), "1.1.1.1", 443, "host", id="unlisted address"),
    ],
)
def test_what_a_policy_refuses_before_dns(policy: Policy, host: str, port: int, reason: str) -> None:
    with pytest.raises(UpstreamForbidden) as refusal:
        policy.standing(host, port)
    assert refusal.value.reason == reason


async def test_only_the_public_addresses_of_a_name_are_handed_out() -> None:
    checked, _ = guard(Policy(), Dns(["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]))
    assert await checked.addresses("a.example", 443) == (ip_address("1.1.1.1"), ip_address("2606:4700::1111"))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:127.0.0.1"]
)
async def test_a_name_that_leads_inside_is_refused_and_counted(address: str) -> None:
    checked, refused = guard(Policy(), Dns([address]))
    with pytest.raises(UpstreamForbidden, match=r"--upstream-allow a\.example:443"):
        await checked.addresses("a.example", 443)
    assert refused == ["address"]


async def test_a_listed_name_may_lead_to_a_private_address_but_not_to_metadata() -> None:
    checked, refused = guard(
        Policy(allow=patterns("*.corp")), Dns(["10.0.0.1", "169.254.169.254"], ["169.254.169.254"])
    )
    assert await checked.addresses("a.corp", 443) == (ip_address("10.0.0.1"),)
    with pytest.raises(UpstreamForbidden):
        await checked.addresses("a.corp", 443)
    assert refused == ["address"]


async def test_a_listed_metadata_address_is_asked_as_it_stands() -> None:
    checked, _ = guard(Policy(allow=patterns("169.254.169.254")))
    assert await checked.addresses("169.254.169.254", 80) == (ip_address("169.254.169.254"),)


async def test_an_answer_that_changes_does_not_matter_since_addresses_are_handed_out_with_the_judgement() -> None:
    dns = Dns(["1.1.1.1"], ["127.0.0.1"])
    checked, _ = guard(Policy(), dns)
    assert await checked.addresses("rebind.example", 80) == (ip_address("1.1.1.1"),)
    with pytest.raises(UpstreamForbidden):
        await checked.addresses("rebind.example", 80)
    assert dns.asked == ["rebind.example"] * 2


async def test_dns_is_not_asked_for_what_is_refused_anyway() -> None:
    dns = Dns(["1.1.1.1"])
    checked, refused = guard(Policy(deny_unlisted=True), dns)
    with pytest.raises(UpstreamForbidden):
        checked.url("https://a.example/")
    with pytest.raises(UpstreamForbidden):
        await checked.addresses("a.example", 443)
    assert dns.asked == []
    assert refused == ["host", "host"]


async def test_at_most_four_addresses_are_tried() -> None:
    checked, _ = guard(Policy(), Dns([f"1.1.1.{last}" for last in range(1, 100)]))
    assert len(await checked.addresses("a.example", 443)) == 4


@pytest.mark.parametrize(
    ("location", "error", "counted"),
    [
        ("http://169.254.169.254/latest/meta-data/", UpstreamForbidden, ["address"]),
        ("//127.0.0.1/", UpstreamForbidden, ["address"]),
        ("http://[::ffff:127.0.0.1]/", UpstreamForbidden, ["address"]),
        ("http://2130706433/", UpstreamForbidden, ["address"]),
        ("file:///etc/passwd", UpstreamForbidden, ["scheme"]),
        ("http://a@b/", UpstreamForbidden, ["userinfo"]),
        ("http://a b/", UpstreamUnavailable, []),
    ],
)
def test_redirects_are_judged(location: str, error: type[Exception], counted: list[str]) -> None:
    checked, refused = guard(Policy())
    with pytest.raises(error):
        checked.redirected(UpstreamUrl.parse("https://a.example/"), location)
    assert refused == counted


def test_nonsense_from_a_client_is_a_bad_request_and_no_refusal() -> None:
    checked, refused = guard(Policy())
    with pytest.raises(BadRequest):
        checked.url("nonsense")
    assert refused == []


async def test_dns_that_fails_or_knows_nothing() -> None:
    async def fails(host: str, port: int) -> Sequence[Address]:
        raise OSError(-2, "Name or service not known")

    async def knows_nothing(host: str, port: int) -> Sequence[Address]:
        return []

    async def never_answers(host: str, port: int) -> Sequence[Address]:
        await asyncio.Event().wait()
        return []

    for dns in (fails, knows_nothing, never_answers):
        checked = Guard(Policy(), Proxies(), on_refused=lambda _: None, resolve=dns, timeout_seconds=0.05)
        with pytest.raises(UpstreamUnavailable, match=r"a\.example"):
            await checked.addresses("a.example", 443)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a.localhost/", "host"),
        ("http://metadata.google.internal/", "host"),
        ("http://kubernetes/", "host"),
        ("http://printer.local/", "host"),
        ("http://10.0.0.1/", "address"),
    ],
)
def test_behind_a_proxy_names_and_literals_are_judged(url: str, reason: str) -> None:
    proxy = Proxy.parse("http://proxy.example:3128")
    checked, refused = guard(Policy(), proxies=Proxies(http=proxy, https=proxy))
    with pytest.raises(UpstreamForbidden):
        checked.url(url)
    assert refused == [reason]


def test_behind_a_proxy_a_listed_name_is_asked() -> None:
    proxy = Proxy.parse("http://proxy.example:3128")
    checked, _ = guard(Policy(allow=patterns("*.internal")), proxies=Proxies(http=proxy))
    assert checked.proxy_for(checked.url("http://a.internal/")) == proxy


async def test_the_systems_resolver() -> None:
    assert ip_address("127.0.0.1") in await resolve("localhost", 80)
