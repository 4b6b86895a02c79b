"""What a Grafana dashboard asks Prometheus."""

import json
from pathlib import Path

DASHBOARD = Path(__file__).parents[2] / "deploy/compose/grafana/dashboards/peerd.json"


def queries(dashboard: Path) -> list[str]:
    """The expressions of all panels, in their order."""
    panels = json.loads(dashboard.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]
