"""containerd 1.6 reads what was written, and goes on by itself where peerd does not help."""

import socket
from pathlib import Path

import pytest

from app.containerd.hosts_dir import HostsDir
from app.containerd.hosts_toml import door_url
from app.containerd.registry_name import RegistryName
from tests.containerd.daemon import Containerd
from tests.containerd.oci import build_image
from tests.containerd.registry import tiny_registry


def pull(containerd: Containerd, hosts_dir: Path, name: str) -> str:
    """Fetch an image as containerd's clients do; what was said meanwhile."""
    run = containerd.ctr("--debug", "content", "fetch", "--hosts-dir", hosts_dir, name)
    assert "failed to decode" not in run.stderr, run.stderr
    return run.stderr


def install(hosts_dir: Path, name: str, url: str, server: str | None = None) -> None:
    HostsDir(hosts_dir).install(RegistryName.parse(name), url, server=server)


@pytest.mark.parametrize(
    ("registry", "image_name", "installed"),
    [
        ("example.local", "example.local/test/app:v1", "example.local"),
        ("docker.io", "docker.io/library/app:v1", "docker.io"),
        ("registry.example:5000", "registry.example:5000/test/app:v1", "registry.example:5000"),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000/test/app:v1", "[2001:db8::1]:5000"),
        pytest.param("any.example", "any.example/test/app:v1", "_default", id="_default"),
    ],
)
def test_a_pull_goes_through_peerd(
    containerd: Containerd, tmp_path: Path, registry: str, image_name: str, installed: str
) -> None:
    image = build_image()
    with tiny_registry(image) as peerd:
        install(tmp_path, installed, peerd.url)
        pull(containerd, tmp_path, image_name)
    assert peerd.namespaces == {registry}
    assert any(line.startswith("HEAD /v2/") and line.endswith("/manifests/v1") for line in peerd.asked)
    listed = containerd.ctr("content", "ls", "-q").stdout.split()
    assert set(listed) == {str(digest) for digest in image.digests}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_node_door_may_be_on_either_loopback(containerd: Containerd, tmp_path: Path, address: str) -> None:
    reachable = {info[4][0] for info in socket.getaddrinfo("localhost", None)} | {"127.0.0.1"}
    if address not in reachable:
        pytest.skip(f"localhost is not {address} on this machine, and containerd 1.6 can not be told of it otherwise")
    with tiny_registry(build_image(), address=address) as peerd:
        install(tmp_path, "example.local", door_url(address, peerd.port))
        pull(containerd, tmp_path, "example.local/test/app:v1")
    assert peerd.asked


EXISTING = {
    "a cache": '[host."{cache}"]\n  capabilities = ["pull", "resolve"]\n',
    "a cache under a comment": '# Ours.\n\n# The cache.\n[host."{cache}"]\n',
    "a bare header": '[host]\n\n[host."{cache}"]\n',
    "keys before it": 'skip_verify = true\nca = []\n\n[host."{cache}"]\n',
    "CRLF": '# Ours.\r\nskip_verify = true\r\n[host."{cache}"]\r\ncapabilities = ["pull", "resolve"]\r\n',
    "a header of its own": '[host."{cache}"]\n[host."{cache}".header]\n  x-team = "platform"\n',
    "no newline at the end": '[host."{cache}"]\ncapabilities = ["pull", "resolve"]',
}


@pytest.mark.parametrize("existing", EXISTING.values(), ids=EXISTING.keys())
def test_peerd_is_asked_first_then_what_was_there_then_the_registry(
    containerd: Containerd, tmp_path: Path, existing: str
) -> None:
    order: list[str] = []
    with (
        tiny_registry(None, order) as peerd,
        tiny_registry(None, order) as cache,
        tiny_registry(build_image(), order) as registry,
    ):
        (tmp_path / "example.local").mkdir()
        (tmp_path / "example.local" / "hosts.toml").write_bytes(existing.format(cache=cache.url).encode())
        install(tmp_path, "example.local", peerd.url, registry.url)
        pull(containerd, tmp_path, "example.local/test/app:v1")
    assert list(dict.fromkeys(order)) == [peerd.url, cache.url, registry.url]


def test_a_server_that_was_there_stays(containerd: Containerd, tmp_path: Path) -> None:
    with tiny_registry(None) as peerd, tiny_registry(build_image()) as proxy:
        (tmp_path / "example.local").mkdir()
        (tmp_path / "example.local" / "hosts.toml").write_text(f'server = "{proxy.url}"\n')
        install(tmp_path, "example.local", peerd.url)
        pull(containerd, tmp_path, "example.local/test/app:v1")
    assert peerd.asked
    assert proxy.asked


def test_a_default_that_was_there_goes_on_behind_peerd(containerd: Containerd, tmp_path: Path) -> None:
    with tiny_registry(None) as peerd, tiny_registry(build_image()) as cache:
        (tmp_path / "_default").mkdir()
        (tmp_path / "_default" / "hosts.toml").write_text(f'[host."{cache.url}"]\n')
        install(tmp_path, "example.local", peerd.url)
        pull(containerd, tmp_path, "example.local/test/app:v1")
    assert peerd.asked
    assert cache.asked


def test_a_door_that_nobody_listens_at_costs_nothing(containerd: Containerd, tmp_path: Path) -> None:
    with socket.socket() as reserved, tiny_registry(build_image()) as registry:
        reserved.bind(("127.0.0.1", 0))
        install(tmp_path, "example.local", f"http://127.0.0.1:{reserved.getsockname()[1]}", registry.url)
        pull(containerd, tmp_path, "example.local/test/app:v1")
    assert registry.asked


def test_restored_files_send_containerd_straight_to_the_registry(containerd: Containerd, tmp_path: Path) -> None:
    with tiny_registry(build_image()) as peerd, tiny_registry(build_image()) as registry:
        (tmp_path / "example.local").mkdir()
        (tmp_path / "example.local" / "hosts.toml").write_text(f'[host."{registry.url}"]\n')
        install(tmp_path, "example.local", peerd.url)
        HostsDir(tmp_path).restore(RegistryName.parse("example.local"))
        pull(containerd, tmp_path, "example.local/test/app:v1")
    assert peerd.asked == []
    assert registry.asked
