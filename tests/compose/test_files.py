"""What can be said of the files without a daemon."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.metrics.dashboard import DASHBOARD

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_ports_are_published_on_loopback_alone_and_each_once() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_image_that_is_not_ours_has_a_tag() -> None:
    images = {service["image"] for service in SERVICES.values()}
    ours = "${PEERD_IMAGE:-peerd:local}"
    assert ours in images
    assert all(re.fullmatch(r"[a-z./-]+:[\w.]+", image) and not image.endswith(":latest") for image in images - {ours})


def test_what_is_mounted_is_there() -> None:
    mounted = {
        volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", []) if "./" in volume
    }
    assert mounted
    assert [path for path in sorted(mounted) if not (ROOT / path).exists()] == []


def test_every_panel_has_a_place_of_its_own_and_the_same_data_source() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert {source["uid"] for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"]))} == {
            "${datasource}"
        }
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
