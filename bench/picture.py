"""Line charts as plain SVG, which a browser and a code host show as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL_HEIGHT = 860, 230
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 40
GRID, INK, PAPER = "#d7dce3", "#30363d", "#ffffff"


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


def draw(panels: Sequence[Panel], *, title: str, x_label: str, y_label: str) -> str:
    """The panels below each other, with the same axes, so that they can be compared."""
    points = [point for panel in panels for line in panel.lines for point in line.points]
    x_max, y_max = (_round_up(max(value)) for value in zip(*points, strict=True))
    height = len(panels) * PANEL_HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f'<g font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * PANEL_HEIGHT, x_max, y_max, y_label)
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{height - 10}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(panel: Panel, top: float, x_max: float, y_max: float, y_label: str) -> list[str]:
    floor, ceiling = top + PANEL_HEIGHT - BOTTOM + 16, top + TOP

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / x_max * (WIDTH - LEFT - RIGHT), floor - y / y_max * (floor - ceiling)

    parts = [f'<text x="{LEFT}" y="{top + 24:.0f}" font-size="14" font-weight="bold">{escape(panel.title)}</text>']
    for step in range(5):
        x, y = place(x_max * step / 4, y_max * step / 4)
        parts += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{y_max * step / 4:g}</text>',
            f'<text x="{x:.1f}" y="{floor + 16:.1f}" text-anchor="middle">{x_max * step / 4:g}</text>',
        ]
    middle = (floor + ceiling) / 2
    parts.append(
        f'<text x="16" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 16 {middle:.0f})">{escape(y_label)}</text>'
    )
    for line in panel.lines:
        points = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line.points)
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
