"""How options are written: sizes, durations, addresses, registries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings.values import (
    Address,
    JoinTarget,
    MirroredRegistry,
    RegistryLocation,
    format_size,
    parse_duration,
    parse_host_pattern,
    parse_node_name,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("4096", 4096, id="a bare number is bytes"),
        pytest.param("64MiB", 64 * 2**20, id="binary units"),
        pytest.param("64Mi", 64 * 2**20, id="as Kubernetes writes them"),
        pytest.param("64MB", 64 * 10**6, id="decimal units"),
        pytest.param("1.5GiB", 3 * 2**29, id="a fraction"),
        pytest.param("10 GiB", 10 * 2**30, id="a blank before the unit"),
    ],
)
def test_a_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "64MIB", "64 parrots", "1e6", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_that_is_shown_reads_as_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_a_rate_may_say_that_it_is_by_the_second() -> None:
    assert parse_rate("50MiB/s") == parse_rate("50MiB") == 50 * 2**20


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("30", 30, id="a bare number is seconds"),
        pytest.param("500ms", 0.5, id="milliseconds"),
        pytest.param("5m", 300, id="minutes"),
        pytest.param("1h30m", 5400, id="parts that add up"),
        pytest.param("0.5h", 1800, id="a fraction"),
    ],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "5 minutes", "1m30", "30s!"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        pytest.param("127.0.0.1:5000", Address("127.0.0.1", 5000), True, id="IPv4"),
        pytest.param("127.8.9.1:0", Address("127.8.9.1", 0), True, id="all of 127.0.0.0/8 is loopback"),
        pytest.param("[::1]:5000", Address("::1", 5000), True, id="IPv6 in brackets"),
        pytest.param("0.0.0.0:5000", Address("0.0.0.0", 5000), False, id="every address is not loopback"),
        pytest.param("localhost:5000", Address("localhost", 5000), True, id="localhost"),
        pytest.param("node-a.example:5000", Address("node-a.example", 5000), False, id="a name"),
    ],
)
def test_an_address(text: str, address: Address, loopback: bool) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert address.is_loopback is loopback


@pytest.mark.parametrize(
    "text", ["5000", ":5000", "127.0.0.1", "::1:5000", "[::1]", "[a]:1", "1.2.3.999:1", "a:70000", "a b:1", ""]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"has |is not "):
        Address.parse(text)


def test_where_to_join_may_leave_out_the_port() -> None:
    assert JoinTarget.parse("peerd.example").at(7946) == Address("peerd.example", 7946)
    assert JoinTarget.parse("[fd00::7]:5002").at(7946) == Address("fd00::7", 5002)


def test_a_registry_is_a_name_and_a_url() -> None:
    assert RegistryLocation.parse("Example.local:5000=http://[::1]:5500/") == RegistryLocation(
        "example.local:5000", "http://[::1]:5500"
    )


@pytest.mark.parametrize(
    "text", ["example.local", "=http://a", "a=b", "a=ftp://b", "a=http://user:secret@b", "a=http://b?c", "a=http://b:x"]
)
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(ValueError, match=r"has |is not "):
        RegistryLocation.parse(text)


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("ghcr.io", MirroredRegistry("ghcr.io", "https")),
        ("https://ghcr.io/", MirroredRegistry("ghcr.io", "https")),
        ("http://example.local:5000", MirroredRegistry("example.local:5000", "http")),
        ("_default", MirroredRegistry("_default", "https")),
    ],
)
def test_a_mirrored_registry_with_or_without_scheme(text: str, registry: MirroredRegistry) -> None:
    assert MirroredRegistry.parse(text) == registry


def test_a_pattern_for_hosts_is_no_url() -> None:
    assert parse_host_pattern("*.Example.local:9000") == "*.example.local:9000"
    with pytest.raises(ValueError, match="is not a pattern"):
        parse_host_pattern("http://example.local/x")


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "ä", "a" * 101])
def test_what_is_no_node_name(name: str) -> None:
    with pytest.raises(ValueError, match="can not be"):
        parse_node_name(name)
