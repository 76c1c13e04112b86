"""Plots as SVG text: no script, no font, no remote part; colours are the page's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 720, 190, 90
ROW = 22


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: a value with its interval, and what stands behind it."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    label: str = ""


def bars(title: str, rows: Sequence[Bar], *, is_signed: bool = False) -> str:
    """Return horizontal bars with intervals; all values in one unit."""
    if not rows:
        return ""
    edges = [edge for row in rows for edge in (row.value, row.low, row.high) if edge is not None]
    least, most = min(0.0, *edges), max(0.0, *edges)
    if not is_signed:
        least = 0.0
    scale = (WIDTH - LEFT - RIGHT) / ((most - least) or 1.0)

    def at(value: float) -> float:
        return LEFT + (min(max(value, least), most) - least) * scale

    parts = []
    for place, row in enumerate(rows):
        top = place * ROW + 4
        start, end = sorted((at(0.0), at(row.value)))
        parts.append(_text(LEFT - 8, top + 12, row.name, "end"))
        parts.append(
            f'<rect class="bar" x="{start:.1f}" y="{top}" width="{max(1, end - start):.1f}" '
            f'height="{ROW - 8}"/>'
        )
        if row.low is not None and row.high is not None:
            middle = top + (ROW - 8) / 2
            parts.append(
                f'<line class="ci" x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" '
                f'y1="{middle}" y2="{middle}"/>'
            )
        parts.append(_text(WIDTH - RIGHT + 6, top + 12, row.label, "start"))
    height = len(rows) * ROW + 8
    zero = f'<line class="axis" x1="{at(0):.1f}" x2="{at(0):.1f}" y1="0" y2="{height}"/>'
    return _svg(title, height, [zero, *parts])


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a scatter plot."""

    name: str
    x: float
    y: float
    is_marked: bool = False


def scatter(title: str, dots: Sequence[Dot], x_name: str, y_name: str) -> str:
    """Return points with their names; marked ones are joined by a line."""
    if not dots:
        return ""
    height, bottom, top = 320, 280, 20
    most_x = max(dot.x for dot in dots) * 1.1 or 1.0
    low_y, high_y = min(dot.y for dot in dots), max(dot.y for dot in dots)
    room = (high_y - low_y) * 0.15 or 0.05
    low_y, high_y = low_y - room, high_y + room
    left, right = 60, WIDTH - 150

    def place(dot: Dot) -> tuple[float, float]:
        x = left + dot.x / most_x * (right - left)
        return x, bottom - (dot.y - low_y) / (high_y - low_y) * (bottom - top)

    marked = sorted((dot for dot in dots if dot.is_marked), key=lambda dot: dot.x)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, marked))
    parts = [
        f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
        f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{bottom}"/>',
        f'<polyline class="frontier" points="{line}"/>',
        _text((left + right) / 2, height - 8, x_name, "middle"),
        _text(left, top - 6, y_name, "middle"),
        _text(left - 6, bottom, f"{low_y * 100:.0f}", "end"),
        _text(left - 6, top + 8, f"{high_y * 100:.0f}", "end"),
        _text(right, bottom + 16, f"{most_x:.3g}", "middle"),
    ]
    for dot in dots:
        x, y = place(dot)
        kind = "dot marked" if dot.is_marked else "dot"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(_text(x + 8, y + 4, dot.name, "start"))
    return _svg(title, height, parts)


@dataclass(frozen=True, slots=True)
class Stack:
    """A row of parts that sum to a whole."""

    name: str
    parts: Sequence[tuple[str, float]]


def stacks(title: str, rows: Sequence[Stack], unit: str) -> str:
    """Return stacked bars with a legend."""
    rows = [row for row in rows if row.parts]
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.parts))
    most = max(sum(value for _, value in row.parts) for row in rows) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / most
    drawn = []
    for place, row in enumerate(rows):
        x, top = float(LEFT), place * ROW + 4
        drawn.append(_text(LEFT - 8, top + 12, row.name, "end"))
        for name, value in row.parts:
            kind = f"s{names.index(name) % 8}"
            tip = f"<title>{escape(name)}: {value:.3g} {escape(unit)}</title>"
            drawn.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{top}" width="{value * scale:.1f}" '
                f'height="{ROW - 8}">{tip}</rect>'
            )
            x += value * scale
        total = sum(value for _, value in row.parts)
        drawn.append(_text(WIDTH - RIGHT + 6, top + 12, f"{total:.3g} {unit}", "start"))
    base = len(rows) * ROW + 20
    for place, name in enumerate(names):
        x, y = LEFT + (place % 4) * 130, base + (place // 4) * 18
        drawn.append(f'<rect class="s{place % 8}" x="{x}" y="{y - 10}" width="12" height="12"/>')
        drawn.append(_text(x + 18, y, name, "start"))
    return _svg(title, base + (len(names) // 4 + 1) * 18, drawn)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points (x, y), y from 0 to 1."""

    name: str
    points: Sequence[tuple[float, float]]


def curves(title: str, lines: Sequence[Curve], x_name: str) -> str:
    """Return curves over whole numbers, with their names at their ends."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    height, bottom, top, left, right = 260, 220, 16, 60, WIDTH - 190
    most = max(x for line in lines for x, _ in line.points) or 1.0
    parts = [
        f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
        f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{bottom}"/>',
        _text((left + right) / 2, height - 8, x_name, "middle"),
        _text(left - 6, bottom, "0", "end"),
        _text(left - 6, top + 8, "100 %", "end"),
    ]
    for place, line in enumerate(lines):
        spots = [
            (left + x / most * (right - left), bottom - y * (bottom - top)) for x, y in line.points
        ]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline class="line l{place % 8}" points="{joined}"/>')
        x, y = spots[-1]
        parts.append(_text(x + 8, y + 4 + 13 * (place % 2), line.name, "start"))
    return _svg(title, height, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
