"""Values that the chart does not take, and what Helm says of them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, refusal

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("peerd.imag.ref=x", "Additional property imag is not allowed"),
        ("peerd.image.tag=x", "Additional property tag is not allowed"),
        ("image.ref=x", "Additional property image is not allowed"),
        ("peerd.image.ref=", "peerd.image.ref: Does not match pattern"),
        ("peerd.image.pullPolicy=Sometimes", '"Always", "IfNotPresent", "Never"'),
        ("peerd.logLevel=loud", '"debug", "info", "warn", "warning", "error"'),
        ("peerd.configureMirrors=yes", "peerd.configureMirrors: Invalid type. Expected: boolean, given: string"),
        ("peerd.hosts=https://ghcr.io/path", "peerd.hosts: Does not match pattern"),
        ("peerd.hosts[0]=ftp://ghcr.io", "peerd.hosts.0: Does not match pattern"),
        ("peerd.addresses.http=30000", "peerd.addresses.http: Invalid type. Expected: string, given: integer"),
        ("peerd.addresses.metrics=:5004", "peerd.addresses.metrics: Does not match pattern"),
        ("peerd.membership=gossip", '"serf", "dns", "static"'),
        ("peerd.cache.size=much", "peerd.cache.size: Does not match pattern"),
        ("peerd.cache.hostPath=var/lib", "peerd.cache.hostPath: Does not match pattern"),
        ("peerd.upstream.registries.a=10.0.0.7:5000", "peerd.upstream.registries.a: Does not match pattern"),
        (
            "peerd.upstream.registries.a=http://me:secret@10.0.0.7",
            "peerd.upstream.registries.a: Does not match pattern",
        ),
        ("peerd.upstream.mirrorTimeout=soon", "peerd.upstream.mirrorTimeout: Does not match pattern"),
        ("peerd.containerd.socket=run/containerd.sock", "peerd.containerd.socket: Does not match pattern"),
        ("peerd.filterFalsePositiveRate=2", "peerd.filterFalsePositiveRate: Must be less than 1"),
        ("peerd.uploads.max=0", "peerd.uploads.max: Must be greater than or equal to 1"),
        ("peerd.drainSeconds=30s", "peerd.drainSeconds: Invalid type. Expected: integer, given: string"),
        ("peerd.maxUnavailable=0", "peerd.maxUnavailable: Must be greater than or equal to 1"),
        ("peerd.maxUnavailable=110%", "peerd.maxUnavailable: Does not match pattern"),
        ("peerd.tls.days=0", "peerd.tls.days: Must be greater than or equal to 1"),
        ("peerd.podLabels.app=mine", "peerd.podLabels"),
        ("peerd.extraEnv[0].value=x", "name is required"),
        ("peerd.metrics.podMonitor.interval=15", "peerd.metrics.podMonitor.interval: Invalid type"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(given: str, said: str) -> None:
    assert said in refusal(None, "--set", given)


def leaves(values: Any, schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    """Each value of the chart, and whether the schema has a place for it."""
    for name, value in values.items():
        known = schema.get("properties", {}).get(name)
        open_ended = known is not None and "properties" not in known
        if isinstance(value, dict) and value and not open_ended:
            yield from leaves(value, known or {}, f"{path}{name}.")
        else:
            yield f"{path}{name}", known is not None


def test_the_schema_knows_every_value_and_no_other() -> None:
    assert [path for path, known in leaves(VALUES, SCHEMA) if not known] == []

    def places(schema: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, inner in schema["properties"].items():
            if "properties" in inner:
                yield from places(inner, f"{path}{name}.")
            else:
                yield f"{path}{name}"

    written = {path for path, _ in leaves(VALUES, SCHEMA)}
    left_out = {"global", *(f"peerd.resources.{name}" for name in ("claims",))}
    assert {place for place in places(SCHEMA) if not any(path.startswith(place) for path in written)} == left_out
