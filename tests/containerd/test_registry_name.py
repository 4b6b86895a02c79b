"""Names of registries, and where containerd looks for their files."""

import pytest

from app.containerd.registry_name import BadRegistryName, RegistryName


@pytest.mark.parametrize(
    ("text", "folders", "new_folder", "server"),
    [
        ("ghcr.io", ("ghcr.io",), "ghcr.io", "https://ghcr.io"),
        ("docker.io", ("docker.io",), "docker.io", "https://registry-1.docker.io"),
        ("registry.example:5000", ("registry.example_5000_", "registry.example:5000"), "registry.example_5000_",
         "https://registry.example:5000"),
        ("10.0.0.1:5000", ("10.0.0.1_5000_", "10.0.0.1:5000"), "10.0.0.1_5000_", "https://10.0.0.1:5000"),
        ("[2001:db8::1]:5000", ("[2001:db8::1]_5000_", "[2001:db8::1]:5000"),
         "[2001:db8::1]_5000_", "https://[2001:db8::1]:5000"),
        pytest.param("[2001:db8::1]", ("[2001:db8:_1]_", "[2001:db8::1]"), "[2001:db8::1]", "https://[2001:db8::1]",
                     id="containerd takes the last colon of an address for the port's"),
        ("_default", ("_default",), "_default", None),
        pytest.param("localhost:5000", ("localhost_5000_", "localhost:5000"), "localhost_5000_", None,
                     id="on this machine containerd chooses the scheme itself"),
        ("127.0.0.1:5000", ("127.0.0.1_5000_", "127.0.0.1:5000"), "127.0.0.1_5000_", None),
        ("[::1]:5000", ("[::1]_5000_", "[::1]:5000"), "[::1]_5000_", None),
    ],
)  # fmt: skip
def test_where_containerd_looks_and_what_is_the_registry_itself(
    text: str, folders: tuple[str, ...], new_folder: str, server: str | None
) -> None:
    registry = RegistryName.parse(text)
    assert (registry.folders, registry.new_folder, registry.server) == (folders, new_folder, server)


@pytest.mark.parametrize("text", ["https://mcr.microsoft.com", "http://mcr.microsoft.com/"])
def test_a_url_without_a_path_names_its_host(text: str) -> None:
    assert RegistryName.parse(text) == RegistryName("mcr.microsoft.com")


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../etc", "a/b", "ghcr.io/org", "a b", "host:", "host:99999", "[::g]", "[]", "::1", "a..b",
     "https://", "ghcr.io\n", "-a", "user@host"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadRegistryName, match="names no registry"):
        RegistryName.parse(text)
