"""Line charts as plain SVG, which a browser and a code host show as they are."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL_HEIGHT = 860, 230
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 40
GRID, INK, PAPER = "#d7dce3", "#30363d", "#ffffff"
BLUE, RED, GREY = "#2563eb", "#dc2626", "#6b7280"
STEPS = 4


@dataclass(frozen=True)
class Line:
    """One. `points` are x and y; lines of one `name` share a colour and a place in the legend."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    width: float = 1.5


@dataclass(frozen=True)
class Panel:
    """One chart: a title and what is drawn."""

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Axis:
    """What is told along it; by factors of ten where `log`."""

    label: str
    log: bool = False

    def over(self, values: Iterable[float]) -> "Scale":
        """One on which these have a place."""
        values = list(values)
        if not self.log:
            return Scale(self.label, 0.0, _round_up(max(values)), log=False)
        decades = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return Scale(self.label, float(decades[0]), float(max(decades[1], decades[0] + 1)), log=True)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, which are powers of ten where `log`."""

    label: str
    low: float
    high: float
    log: bool

    def at(self, value: float) -> float:
        """Its place, 0 to 1."""
        return ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Values to be named."""
        if self.log:
            return [10.0**power for power in range(int(self.low), int(self.high) + 1)]
        return [self.high * step / STEPS for step in range(STEPS + 1)]


def draw(panels: Sequence[Panel], *, title: str, x: Axis, y: Axis) -> str:
    """The panels below each other, with the same axes, so that they can be compared."""
    points = [point for panel in panels for line in panel.lines for point in line.points]
    across, up = x.over(point[0] for point in points), y.over(point[1] for point in points)
    height = len(panels) * PANEL_HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f'<g font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * PANEL_HEIGHT, across, up)
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{height - 10}" text-anchor="middle">{escape(x.label)}</text>'
    )
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(panel: Panel, top: float, across: Scale, up: Scale) -> list[str]:
    floor, ceiling = top + PANEL_HEIGHT - BOTTOM + 16, top + TOP

    def place_x(value: float) -> float:
        return LEFT + across.at(value) * (WIDTH - LEFT - RIGHT)

    def place_y(value: float) -> float:
        return floor - up.at(value) * (floor - ceiling)

    parts = [f'<text x="{LEFT}" y="{top + 24:.0f}" font-size="14" font-weight="bold">{escape(panel.title)}</text>']
    for value in up.ticks():
        y = place_y(value)
        parts += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    parts += [
        f'<text x="{place_x(value):.1f}" y="{floor + 16:.1f}" text-anchor="middle">{value:g}</text>'
        for value in across.ticks()
    ]
    middle = (floor + ceiling) / 2
    parts.append(
        f'<text x="16" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 16 {middle:.0f})">{escape(up.label)}</text>'
    )
    for line in panel.lines:
        points = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in line.points)
        parts.append(
            f'<polyline fill="none" stroke="{line.colour}" stroke-width="{line.width}" stroke-opacity="0.75" points="{points}"/>'
        )
    x = float(WIDTH - RIGHT)
    for name, colour in reversed({line.name: line.colour for line in panel.lines}.items()):
        parts.append(f'<text x="{x:.0f}" y="{top + 24:.0f}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
        x -= 8 * len(name) + 16
    return parts


def _round_up(value: float) -> float:
    """To what an axis can be divided at: 1, 2, 4, 5 or 8 times a power of ten."""
    scale = 1.0
    while scale * 10 < value:
        scale *= 10
    return next(scale * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10) if scale * step >= value)
