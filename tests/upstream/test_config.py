import pytest

from app.errors import BadRequest, UpstreamForbidden
from app.upstream.config import RegistryNames, UpstreamConfig, normal_repository, policy


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        pytest.param("ghcr.io", "https://ghcr.io/", id="https by default"),
        pytest.param("host:5000", "https://host:5000/", id="with its port"),
        pytest.param("docker.io", "https://registry-1.docker.io/", id="Docker Hub"),
        pytest.param("index.docker.io", "https://registry-1.docker.io/", id="Docker Hub by another name"),
        pytest.param("Example.Local", "http://127.0.0.1:5500/", id="where an option says, in any case"),
        pytest.param("below.example", "https://a.example/mirror", id="below a path"),
    ],
)
def test_where_registries_are_reached(registry: str, url: str) -> None:
    names = RegistryNames(
        UpstreamConfig(
            registries={"example.local": "http://127.0.0.1:5500", "below.example": "https://a.example/mirror"}
        )
    )
    assert str(names.base(registry)) == url


def test_docker_hub_can_be_reached_elsewhere() -> None:
    names = RegistryNames(UpstreamConfig(registries={"docker.io": "http://127.0.0.1:5500"}))
    assert str(names.base("docker.io")) == str(names.base("index.docker.io")) == "http://127.0.0.1:5500/"


@pytest.mark.parametrize("registry", ["", "a/b", "a b", "a?x", "a#x", "host:port", "https://ghcr.io"])
def test_no_name(registry: str) -> None:
    with pytest.raises(BadRequest):
        RegistryNames(UpstreamConfig()).base(registry)


@pytest.mark.parametrize(
    ("config", "asked", "refused"),
    [
        pytest.param(
            UpstreamConfig(hosts=("ghcr.io",)), ["ghcr.io"], ["quay.io", "docker.io"], id="those of --hosts only"
        ),
        pytest.param(UpstreamConfig(hosts=("https://ghcr.io/",)), ["ghcr.io"], ["quay.io"], id="written as a URL"),
        pytest.param(UpstreamConfig(hosts=("_default",)), ["ghcr.io", "quay.io"], [], id="_default: all"),
        pytest.param(UpstreamConfig(hosts=("ghcr.io", "_default")), ["quay.io"], [], id="_default beside others"),
        pytest.param(
            UpstreamConfig(hosts=("ghcr.io",), registries={"example.local": "http://127.0.0.1:1"}),
            ["example.local"],
            ["quay.io"],
            id="those of --registry too",
        ),
        pytest.param(
            UpstreamConfig(hosts=("ghcr.io",), default_registry="docker.io"),
            ["docker.io", "index.docker.io"],
            ["quay.io"],
            id="the default too",
        ),
        pytest.param(
            UpstreamConfig(hosts=("index.docker.io",)), ["docker.io"], ["quay.io"], id="Docker Hub by any name"
        ),
    ],
)
def test_hosts_shut_others_out(config: UpstreamConfig, asked: list[str], refused: list[str]) -> None:
    names = RegistryNames(config)
    for registry in asked:
        names.base(registry)
    for registry in refused:
        with pytest.raises(UpstreamForbidden) as refusal:
            names.base(registry)
        assert refusal.value.reason == "host"


def test_who_is_allowed_by_being_named() -> None:
    config = UpstreamConfig(
        registries={"example.local": "http://10.0.0.1:5500"},
        hosts=("ghcr.io", "http://insecure.corp", "host:5000", "docker.io"),
        allow=("*.corp:80",),
        deny_unlisted=True,
    )
    rules = policy(config, RegistryNames(config))
    for host, port in [
        ("10.0.0.1", 5500),
        ("ghcr.io", 443),
        ("insecure.corp", 80),
        ("host", 5000),
        ("docker.io", 443),
        ("registry-1.docker.io", 443),
        ("a.corp", 80),
    ]:
        rules.standing(host, port)
    for host, port in [("10.0.0.1", 5501), ("ghcr.io", 80), ("host", 443), ("a.corp", 443), ("quay.io", 443)]:
        with pytest.raises(UpstreamForbidden):
            rules.standing(host, port)


def test_hosts_of_registries_as_they_stand_in_urls() -> None:
    names = RegistryNames(UpstreamConfig(registries={"a": "http://Example.local:5500", "b": "https://b.example"}))
    assert names.netlocs() == {"example.local:5500", "b.example"}


@pytest.mark.parametrize(
    "config",
    [
        UpstreamConfig(registries={"a": "127.0.0.1:5500"}),
        UpstreamConfig(registries={"a": "ftp://127.0.0.1"}),
        UpstreamConfig(registries={"a": "http://user:password@127.0.0.1"}),
        UpstreamConfig(hosts=("a b",)),
    ],
    ids=repr,
)
def test_options_that_can_not_be_meant(config: UpstreamConfig) -> None:
    with pytest.raises(ValueError, match=r"--registry a|--hosts"):
        RegistryNames(config)


@pytest.mark.parametrize(
    ("registry", "repository", "want"),
    [
        ("docker.io", "alpine", "library/alpine"),
        ("index.docker.io", "alpine", "library/alpine"),
        ("docker.io", "grafana/grafana", "grafana/grafana"),
        ("ghcr.io", "alpine", "alpine"),
    ],
)
def test_official_images(registry: str, repository: str, want: str) -> None:
    assert normal_repository(registry, repository) == want
