"""Where options come from, which of them wins, and what is said of wrong ones."""

from pathlib import Path

import pytest

from app.settings import Address, JoinTarget, SettingsError, load_settings

LOOPBACK = {"peer_addr": "127.0.0.1:0", "gossip_addr": "127.0.0.1:0", "membership": "static"}


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "some.pem"
    path.write_text("not read by settings")
    return str(path)


def fault(command_line: dict[str, object], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(command_line, environ or {})
    return str(caught.value)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    config.write_text("tag-ttl: 1s\nconsent-ttl: 1s\ndrain-timeout: 1s\nmirror_timeout: 9\n")
    environ = {"PEERD_TAG_TTL": "2s", "PEERD_CONSENT_TTL": "2s", "PEERD_CONFIG": str(config)}
    settings = load_settings({"tag_ttl": "3s"}, environ)
    assert (settings.tag_ttl, settings.consent_ttl, settings.drain_timeout, settings.mirror_timeout) == (3, 2, 1, 9)


def test_lists_repeat_are_separated_by_blanks_or_are_lists_of_the_file(tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    expected = (JoinTarget("a", 1), JoinTarget("b", None))
    insecure: dict[str, object] = {**LOOPBACK, "insecure_peers": True}
    assert load_settings({**insecure, "join": ("a:1", "b")}, {}).join == expected
    assert load_settings(insecure, {"PEERD_JOIN": " a:1  b "}).join == expected
    for text in ("join: [a:1, b]", "join: a:1 b", "join:\n- a:1\n- b\n"):
        config.write_text(text)
        assert load_settings({**insecure, "config": config}, {}).join == expected


def test_a_flag_can_be_turned_off_again_by_what_wins(tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    config.write_text("prefetch: no\npull-through: on\n")
    settings = load_settings({"config": config, "pull_through": False}, {"PEERD_PREFETCH": "true"})
    assert settings.prefetch
    assert not settings.pull_through


def test_what_is_empty_was_not_given(tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    config.write_text("zone:\ncache-size: ~\nupload-limit: null\n")
    settings = load_settings({"config": config, "join": (), "tag_ttl": None}, {"PEERD_ZONE": "", "PEERD_CONFIG": ""})
    assert (settings.zone, settings.cache_size, settings.upload_limit) == (None, 10 * 2**30, None)


def test_a_name_in_the_file_is_text_whatever_yaml_would_make_of_it(tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    config.write_text("zone: no\nnode-name: 0017\n")
    settings = load_settings({"config": config}, {})
    assert (settings.zone, settings.node_name) == ("no", "0017")


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("cache_size", "10 parrots", "as 64MiB or 10GiB"),
        ("tag_ttl", "soon", "as 30s"),
        ("http_addr", "5000", "127.0.0.1:5000"),
        ("membership", "sref", "serf, static or dns"),
        ("max_uploads", "0", "greater than or equal to 1"),
        ("prefetch", "maybe", "true or false"),
        ("share_filter", "(", "a regular expression"),
        ("registry", "example.local", "NAME=URL"),
        ("tls_ca", "/nowhere/ca.crt", "file that exists"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_would_be_right(
    name: str, value: str, right: str, tmp_path: Path
) -> None:
    option, variable = "--" + name.replace("_", "-"), f"PEERD_{name.upper()}"
    config = tmp_path / "peerd.yaml"
    config.write_text(f"{option[2:]}: '{value}'\n")
    places: list[tuple[str, dict[str, object], dict[str, str]]] = [
        ("on the command line", {name: value}, {}),
        (f"environment variable {variable}", {}, {variable: value}),
        (f"key {option[2:]} in {config}", {"config": config}, {}),
    ]
    for place, command_line, environ in places:
        told = fault(command_line, environ)
        assert told.startswith(f"{option}: '")
        assert place in told
        assert right in told


def test_every_wrong_value_has_a_line() -> None:
    told = fault({"cache_size": "x", "peer_addr": "y"}, {"PEERD_TAG_TTL": "z"}).splitlines()
    assert sorted(line.partition(":")[0] for line in told) == ["--cache-size", "--peer-addr", "--tag-ttl"]


def test_a_key_that_is_no_option_is_told_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    config.write_text("cache-sise: 10GiB\nxyzzy: 1\n")
    near, unknown = fault({"config": config}).splitlines()
    assert "cache-sise" in near
    assert "cache-size is" in near
    assert "xyzzy" in unknown


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [", "a: 'b"])
def test_a_file_that_holds_no_options_is_named(text: str, tmp_path: Path) -> None:
    config = tmp_path / "peerd.yaml"
    config.write_text(text)
    assert str(config) in fault({"config": config})
    assert "can not be read" in fault({"config": tmp_path / "absent.yaml"})


class TestPeersWithoutTls:
    def test_are_accepted_when_every_listener_is_on_loopback(self) -> None:
        settings = load_settings({**LOOPBACK, "insecure_peers": True}, {})
        assert not settings.alone
        assert settings.tls is None

    @pytest.mark.parametrize("name", ["http_addr", "metrics_addr", "peer_addr", "gossip_addr", "serf_bind"])
    def test_are_refused_for_any_listener_that_is_not(self, name: str) -> None:
        told = fault({**LOOPBACK, "insecure_peers": True, name: "0.0.0.0:1234"})
        assert told.startswith("--insecure-peers is for loopback alone")
        assert f"--{name.replace('_', '-')} is 0.0.0.0:1234" in told

    def test_count_the_place_where_serf_gossips_by_default(self) -> None:
        assert "--serf-bind is 0.0.0.0:7946" in fault({**LOOPBACK, "membership": "serf", "insecure_peers": True})
        load_settings({**LOOPBACK, "membership": "serf", "insecure_peers": True, "serf_bind": "127.0.0.1:7946"}, {})

    def test_and_peers_with_tls_exclude_each_other(self, pem: str) -> None:
        assert "exclude" in fault({**LOOPBACK, "insecure_peers": True, "tls_ca": pem, "tls_cert": pem, "tls_key": pem})


class TestTrust:
    def test_three_files_make_a_member(self, pem: str) -> None:
        settings = load_settings({"tls_ca": pem, "tls_cert": pem, "tls_key": pem, "join": ("b",)}, {})
        assert settings.tls is not None
        assert not settings.alone

    @pytest.mark.parametrize("given", [["tls_ca"], ["tls_cert", "tls_key"], ["tls_ca", "tls_key"]])
    def test_some_of_the_three_are_a_mistake(self, given: list[str], pem: str) -> None:
        missing = {"tls_ca", "tls_cert", "tls_key"} - set(given)
        told = fault(dict.fromkeys(given, pem))
        assert all(f"--{name.replace('_', '-')}" in told.partition(":")[2] for name in missing)

    def test_without_any_the_node_is_alone(self) -> None:
        assert load_settings({}, {}).alone

    def test_a_node_that_is_alone_can_not_join(self) -> None:
        assert fault({"join": ("node-b:7946",)}).startswith("--join node-b:7946 needs peers")


def test_membership_by_dns_needs_a_name() -> None:
    assert "--join NAME" in fault({**LOOPBACK, "membership": "dns", "insecure_peers": True})


def test_joining_means_the_port_of_its_kind_of_membership(pem: str) -> None:
    tls: dict[str, object] = {"tls_ca": pem, "tls_cert": pem, "tls_key": pem, "join": ("b", "c:1")}
    serf = load_settings({**tls, "membership": "serf"}, {}).join_addresses
    static = load_settings({**tls, "membership": "static"}, {}).join_addresses
    assert serf == (Address("b", 7946), Address("c", 1))
    assert static == (Address("b", 5002), Address("c", 1))


def test_one_address_for_two_doors_is_a_mistake() -> None:
    assert "--http-addr and --metrics-addr are both" in fault({"metrics_addr": "127.0.0.1:5000"})


def test_a_registry_named_twice_is_a_mistake() -> None:
    assert "example.local twice" in fault({"registry": ("example.local=http://a", "example.local=http://b")})


def test_a_cache_that_holds_no_chunk_is_a_mistake() -> None:
    assert fault({"cache_size": "512KiB"}).startswith("--cache-size 512KiB holds not one chunk")


def test_peers_are_told_the_peer_doors_own_address_unless_it_is_every_address() -> None:
    assert load_settings({"peer_addr": "127.0.0.3:5001"}, {}).advertise_host == "127.0.0.3"
    assert load_settings({}, {}).advertise_host != "0.0.0.0"
