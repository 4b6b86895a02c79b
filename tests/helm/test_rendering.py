"""What the chart makes of values: objects that Kubernetes takes, and options that peerd takes."""

import re
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml

from app import __version__
from app.cli import main
from app.settings import Settings, load_settings
from tests.helm import snapshot
from tests.helm.chart import CHART, Document, environment, helm, peerd_of, render, serve_of, volumes
from tests.helm.conftest import Rendered
from tests.helm.kubelet import Node
from tests.helm.values import GIVEN_CONFIG_MAPS, GIVEN_SECRETS, MATRIX, NOTHING_SAID

EVERY = pytest.mark.parametrize("values", MATRIX)
OF_OPERATORS = {"PodMonitor", "PrometheusRule", "ServiceMonitor"}
"""Kinds that Kubernetes itself does not know."""
KUBERNETES = (
    re.findall(r"[\d.]+\d", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])[0],
    kubernetes_validate.latest_version(),
)
"""The oldest that the chart is for, and the newest that is known."""
OPTIONS = {f"PEERD_{name.upper()}" for name in Settings.model_fields}


def settings_of(documents: list[Document], tmp_path: Path) -> Settings:
    """Of a node with that environment, its files being there."""
    node = Node(
        "node-1",
        "10.0.0.7",
        tmp_path,
        documents,
        secrets={name: dict.fromkeys(keys, b"x") for name, keys in GIVEN_SECRETS.items()},
        config_maps={name: dict.fromkeys(keys, b"x") for name, keys in GIVEN_CONFIG_MAPS.items()},
    )
    process = node.process(peerd_of(documents), "peerd")
    for name in ("PEERD_TLS_CA", "PEERD_TLS_CERT", "PEERD_TLS_KEY"):
        Path(process.environment[name]).touch()  # what is issued, or made elsewhere
    context = click.Context(main)
    serve = main.get_command(context, "serve")
    assert serve is not None
    assert process.command[:2] == ("peerd", "serve")
    given = serve.make_parser(click.Context(serve)).parse_args(list(process.command[2:]))[0]
    return load_settings(given, process.environment)


@EVERY
def test_kubernetes_takes_every_object(values: str, rendered: Rendered) -> None:
    documents = rendered(values)
    checked = [one for one in documents if one["kind"] not in OF_OPERATORS]
    assert checked
    for document in checked:
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


def test_what_kubernetes_does_not_take_is_noticed() -> None:
    document = peerd_of(render())
    document["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePulPolicy"):
        kubernetes_validate.validate(document, KUBERNETES[1], strict=True)


def test_null_takes_a_default_away() -> None:
    documents = render(NOTHING_SAID)
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES[1], strict=True)
    assert "PEERD_HOSTS" not in environment(documents)
    assert "tolerations" not in peerd_of(documents)["spec"]["template"]["spec"]


def test_helm_has_nothing_to_complain_of() -> None:
    run = helm("lint", CHART, "--strict")
    assert run.returncode == 0, run.stdout
    assert set(re.findall(r"\[(\w+)\]", run.stdout)) <= {"INFO"}


def test_the_defaults_make_what_was_looked_at_last() -> None:
    """When the change is meant: `python -m tests.helm.snapshot` writes default.yaml anew."""
    assert snapshot.rendered() == snapshot.FILE.read_text()


@EVERY
def test_peerd_takes_every_option(values: str, rendered: Rendered, tmp_path: Path) -> None:
    documents = rendered(values)
    named = {one["name"] for one in serve_of(documents)["env"] if one["name"].startswith("PEERD_")}
    assert named - OPTIONS == {"PEERD_NODE"}
    settings = settings_of(documents, tmp_path)
    assert settings.tls is not None
    assert (settings.node_name, settings.advertise_host) == ("node-1", "10.0.0.7")


def test_every_option_can_be_given(rendered: Rendered) -> None:
    """But for the one that turns TLS off."""
    given = {one["name"] for values in MATRIX for one in serve_of(rendered(values))["env"]}
    assert OPTIONS - given == {"PEERD_INSECURE_PEERS"}


def test_values_arrive_as_they_are_meant(rendered: Rendered, tmp_path: Path) -> None:
    settings = settings_of(rendered("every option"), tmp_path)
    assert settings.zone == "zone-1"
    assert settings.filter_fp_rate == 0.001
    assert (settings.cache_size, settings.chunk_size, settings.prefetch) == (20 * 2**30, 4 * 2**20, False)
    assert [str(one) for one in settings.registry] == [
        "example.local=http://10.0.0.7:5000",
        "other.local:5000=https://10.0.0.8",
    ]
    assert settings.upstream_allow == ("*.example.local", "10.0.0.9:9000")
    assert (settings.pull_through, settings.upstream_deny_unlisted) == (False, True)
    assert (settings.tag_ttl, settings.mirror_timeout, settings.consent_ttl) == (60.0, 2.0, 90.0)
    assert settings.share_filter is not None
    assert settings.share_filter.pattern == r"^ghcr\.io/"
    assert (settings.upload_limit, settings.max_uploads, settings.drain_timeout) == (50 * 2**20, 8, 90.0)


def test_a_large_number_is_not_written_as_a_fraction(rendered: Rendered, tmp_path: Path) -> None:
    documents = rendered("a cache that ends with the pod")
    assert environment(documents)["PEERD_CACHE_SIZE"] == "10737418240"
    assert "emptyDir" in volumes(peerd_of(documents)["spec"]["template"]["spec"])["cache"]


def test_arguments_win_over_values(rendered: Rendered, tmp_path: Path) -> None:
    settings = settings_of(rendered("pods as one wants them"), tmp_path)
    assert (settings.prefetch, settings.max_uploads) == (False, 4)


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        pytest.param(["docker.io", "https://ghcr.io/"], ["docker.io", "ghcr.io"], id="a list"),
        pytest.param(" docker.io\n  ghcr.io ", ["docker.io", "ghcr.io"], id="one text"),
        pytest.param("http://example.local:5000", ["http://example.local:5000"], id="with a scheme"),
        pytest.param("_default", ["_default"], id="all"),
        pytest.param("", [], id="none"),
    ],
)
def test_hosts_are_written_in_several_ways(hosts: str | list[str], names: list[str], tmp_path: Path) -> None:
    settings = settings_of(render({"peerd": {"hosts": hosts}}), tmp_path)
    assert [str(one) for one in settings.hosts] == names


def test_hosts_on_the_command_line_of_helm() -> None:
    for word, hosts in (
        ("a.example b.example", "a.example b.example"),
        ("{a.example,b.example}", "a.example b.example"),
    ):
        assert environment(render(None, "--set", f"peerd.hosts={word}"))["PEERD_HOSTS"] == hosts


def test_azures_names_of_log_levels_are_understood() -> None:
    assert environment(render({"peerd": {"logLevel": "warn"}}))["PEERD_LOG_LEVEL"] == "warning"
    assert environment(render({"peerd": {"logLevel": "panic"}}))["PEERD_LOG_LEVEL"] == "error"


def test_containerd_left_alone_still_means_the_same_registries(rendered: Rendered, tmp_path: Path) -> None:
    documents = rendered("containerd left alone")
    settings = settings_of(documents, tmp_path)
    assert settings.hosts == ()
    assert settings.upstream_allow == ("docker.io", "example.local:5000")
    assert settings.share_filter is not None
    shared = ["docker.io/library/a:1", "example.local:5000/a:1", "docker.io.evil.example/a:1", "ghcr.io/a/b:1"]
    assert [name for name in shared if settings.share_filter.search(name)] == shared[:2]
    mount = {one["name"]: one for one in serve_of(documents)["volumeMounts"]}["mirror-files"]
    assert mount["readOnly"] is True


def test_the_chart_is_of_this_version() -> None:
    chart: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
