"""The text of a mirror file: peerd first, everything else as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.containerd.hosts_toml import HostsTomlRefused, Mirror, door_url, hosts, install, is_installed, rebase, remove
from tests.containerd.hosts_texts import hosts_texts

URL = "http://127.0.0.1:5000"
MIRRORS = st.builds(
    Mirror,
    st.sampled_from([URL, "http://localhost:30000", "http://10.1.2.3:1"]),
    st.sampled_from([None, "https://ghcr.io", "https://registry-1.docker.io"]),
    st.lists(st.sampled_from(["ca.crt", 'we"ird.crt', "../_default/b.crt"]), max_size=2),
    st.lists(st.tuples(st.just("a.cert"), st.sampled_from(["a.key", "a.cert"])), max_size=2),
)
MIRROR = Mirror(URL, "https://ghcr.io")


def test_a_new_file() -> None:
    assert install("", MIRROR) == (
        '# peerd begins: written by "peerd hosts install", taken out by "peerd hosts restore"; changes in here are lost.\n'
        'server = "https://ghcr.io"\n'
        "\n"
        '[host."http://127.0.0.1:5000"]\n'
        'capabilities = ["pull", "resolve"]\n'
        'dial_timeout = "1s"\n'
        "\n"
        "# peerd ends.\n"
    )


def test_all_that_an_administrator_wrote_stays_where_it_is() -> None:
    written = (
        "# Managed by the platform team.\n"
        'server = "https://proxy.example" # not the registry itself\n'
        "\n"
        "# Our cache,\n"
        "# in each zone.\n"
        '[host."https://cache.example"]\n'
        '  capabilities = ["pull"] # no tags\n'
        '  ca = "/etc/ssl/corp.pem"\n'
        '  [host."https://cache.example".header]\n'
        '    authorization = "Basic eDp5"\n'
    )
    before, comment, after = written.partition("# Our cache,\n")
    installed = install(written, MIRROR)
    assert installed.startswith(before + "# peerd begins")
    assert installed.endswith("# peerd ends.\n" + comment + after)
    assert hosts(installed) == [URL, "https://cache.example", "https://proxy.example"]


@given(hosts_texts(), MIRRORS)
def test_install_then_remove_is_the_identity(text: str, mirror: Mirror) -> None:
    assert remove(install(text, mirror)) == text


@given(hosts_texts(), MIRRORS)
def test_install_twice_is_install_once(text: str, mirror: Mirror) -> None:
    once = install(text, mirror)
    assert install(once, mirror) == once


@given(hosts_texts(), MIRRORS, MIRRORS)
def test_another_door_replaces_the_first(text: str, first: Mirror, second: Mirror) -> None:
    assert install(install(text, first), second) == install(text, second)


@given(hosts_texts(), MIRRORS)
def test_peerd_comes_first_and_the_rest_means_what_it_meant(text: str, mirror: Mirror) -> None:
    before, after = tomllib.loads(text), tomllib.loads(install(text, mirror))
    added = after["host"].pop(mirror.url)
    assert added["capabilities"] == ["pull", "resolve"]
    assert hosts(install(text, mirror))[0] == mirror.url
    if "server" not in before:
        assert after.pop("server", None) == mirror.server
    for key, value in (("ca", list(mirror.ca)), ("client", [list(pair) for pair in mirror.client])):
        if key not in before and value:
            assert after.pop(key) == value
    if "host" not in before:
        assert after.pop("host") == {}
    assert after == before


BEGIN, END = install("", MIRROR).splitlines(keepends=True)[0], "# peerd ends.\n"


@given(st.lists(st.sampled_from([BEGIN, END, "# other\n", "ca = 1\n"]).map(str), max_size=5).map("".join))
def test_stray_marks_of_a_block_do_not_swallow_what_is_around(text: str) -> None:
    if text.count("ca = 1") > 1:
        text = text.replace("ca = 1\n", "", text.count("ca = 1") - 1)
    rest = remove(text)
    assert not is_installed(rest)
    assert remove(install(rest, MIRROR)) == rest


def test_a_mark_inside_a_line_is_no_mark() -> None:
    text = f'x = "1" {BEGIN}y = 1 {END}'
    assert remove(text) == text


def test_a_host_of_the_same_url_that_was_written_by_hand_stays() -> None:
    text = f'[host."{URL}"]\ncapabilities = ["pull"]\n'
    assert install(text, MIRROR) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("server = \n", "not TOML", id="no TOML at all"),
        pytest.param("host = {}\n", r'\[host\."https://…"\]', id="hosts in one line can not be added to"),
        pytest.param('host."https://a".skip_verify = true\n', r'\[host\."https://…"\]', id="a host before any table"),
        pytest.param('host = "https://a"\n', "no table", id="hosts that are no table"),
    ],
)
def test_what_peerd_can_not_be_put_into_is_refused_with_advice(text: str, why: str) -> None:
    with pytest.raises(HostsTomlRefused, match=why):
        install(text, MIRROR)


def test_a_file_for_the_folder_beside_finds_its_certificates() -> None:
    text = (
        "# Kept.\n"
        'ca = "corp.pem" # kept as well\n'
        'client = [["a.cert", "/etc/a.key"]]\n'
        '[host."https://cache.example"]\n'
        'ca = ["one.pem", "/etc/two.pem"]\n'
    )
    assert rebase(text, "../_default/") == (
        "# Kept.\n"
        'ca = "../_default/corp.pem" # kept as well\n'
        'client = [["../_default/a.cert", "/etc/a.key"]]\n'
        '[host."https://cache.example"]\n'
        'ca = ["../_default/one.pem", "/etc/two.pem"]\n'
    )


def test_a_file_without_relative_paths_is_the_same_in_every_folder() -> None:
    text = 'server="https://a"   # odd   spacing\n[host."https://b"]\nca="/x"\n'
    assert rebase(text, "../_default/") == text


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:5000"),
        pytest.param("0.0.0.0", "http://127.0.0.1:5000", id="all addresses"),
        pytest.param("::1", "http://localhost:5000", id="containerd 1.6 reads no address in brackets"),
        pytest.param("::", "http://localhost:5000", id="all addresses of IPv6"),
        ("10.1.2.3", "http://10.1.2.3:5000"),
        ("node.example", "http://node.example:5000"),
    ],
)
def test_where_containerd_reaches_the_door(host: str, url: str) -> None:
    assert door_url(host, 5000) == url
    assert hosts(install("", Mirror(url, None))) == [url]


def test_a_door_that_containerd_can_not_be_told_of_is_refused() -> None:
    with pytest.raises(HostsTomlRefused, match="IPv4"):
        install("", Mirror(door_url("fd00::1", 5000), None))
