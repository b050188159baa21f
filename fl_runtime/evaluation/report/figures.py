"""The report's drawings as SVG text: no library, no external address, colours from the page's style sheet.

Series are told apart by shape and by label, not by colour alone. Every drawing has a title and a description, and its
figures stand in a table of the page as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from fl_runtime.evaluation.report.words import NBSP

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 30, 16, 52
SHAPES = 6
LINE, TOGETHER = 15, 6  # pixels: the height of a label, and how near marks are that share one

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """A figure at `(x, y)`, with the ends of its intervals where there are any, `y` from 0 to 1 or more."""

    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    label: str = ""
    size: float = 5.0
    hollow: bool = False
    colour: int = 0


def ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Of an interval, or None where none can be stated."""
    return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Scale:
    """Values to pixels along one axis."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the axis."""
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(step * i, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def frontier(points: Sequence[Point], *, x_label: str, y_label: str, name: str) -> str:
    """Leakage against utility: one numbered mark for each point, its size the cost, equal colours for equals."""
    reach = [end for point in points for end in (point.x, *(point.x_ends or ()))]
    low, high = max(0.0, math.floor(20 * min(reach) - 0.5) / 20), min(1.0, math.ceil(20 * max(reach) + 0.5) / 20)
    x, y = Scale(low, max(high, low + 0.1), LEFT, WIDTH - 3 * RIGHT), Scale(0, 1, HEIGHT - BOTTOM - LINE, 3 * LINE)
    marks = []
    for point in sorted(points, key=lambda point: -point.size):
        at_x, at_y = x(point.x), y(point.y)
        marks.append(f'<g class="series s{point.colour % SHAPES}">')
        if point.y_ends:
            marks.append(_line(at_x, y(point.y_ends[0]), at_x, y(point.y_ends[1]), "whisker"))
        if point.x_ends:
            marks.append(_line(x(point.x_ends[0]), at_y, x(point.x_ends[1]), at_y, "whisker"))
        kind = "mark hollow" if point.hollow else "mark"
        marks.append(f'<circle class="{kind}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="{point.size:.1f}"/></g>')
    marks += _labels([(x(point.x), y(point.y), point.size, point.label) for point in points])
    summary = "; ".join(f"{p.label}: {x_label} {p.x:.2f}, {y_label} {p.y:.2f}" for p in points)
    return _drawing(name, f"{y_label} against {x_label}", summary, [*_axes(x, y, x_label, y_label), *marks])


def curves(
    series: Sequence[tuple[str, Sequence[Point]]], *, ticks: Sequence[str], x_label: str, y_label: str, name: str
) -> str:
    """Leakage along one axis of the setting: `Point.x` is the place of the value among `ticks`."""
    last = max(1, len(ticks) - 1)
    x = Scale(-0.15 * last, 1.15 * last, LEFT, WIDTH - RIGHT)
    y = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts = []
    for place, (_, line) in enumerate(series):
        nudge = (place - (len(series) - 1) / 2) * 7
        parts.append(f'<g class="series s{place % SHAPES}">')
        path = " ".join(f"{x(point.x) + nudge:.1f},{y(point.y):.1f}" for point in line)
        parts.append(f'<polyline class="line" points="{path}"/>')
        for point in line:
            at_x, at_y = x(point.x) + nudge, y(point.y)
            if point.y_ends:
                parts.append(_line(at_x, y(point.y_ends[0]), at_x, y(point.y_ends[1]), "whisker"))
            parts.append(_shape(place, at_x, at_y, hollow=point.hollow))
        parts.append("</g>")
    summary = "; ".join(
        f"{label}: " + ", ".join(f"{ticks[int(p.x)]} {p.y:.2f}" for p in points) for label, points in series
    )
    frame = _axes(x, y, x_label, y_label, x_ticks=[(x(i), tick) for i, tick in enumerate(ticks)])
    return _drawing(name, f"{y_label} by {x_label}", summary, [*frame, *parts])


def roc(series: Sequence[tuple[str, NDArray[np.float64]]], *, x_label: str, y_label: str, name: str) -> str:
    """Rates of true over rates of false positives, both on logarithmic axes: an array `(n, 2)` for each series.

    The dotted line is chance. Rates of zero are drawn at the lowest rate of the axes.
    """
    lowest = min(float(points[:, 0].min()) for _, points in series)
    decades = range(math.floor(math.log10(lowest)), 1)
    x, y = Scale(decades[0], 0, LEFT, WIDTH - RIGHT), Scale(decades[0], 0, HEIGHT - BOTTOM, TOP)
    parts = [_line(x(decades[0]), y(decades[0]), x(0), y(0), "chance")]
    summary = []
    for place, (label, points) in enumerate(series):
        rates = np.log10(np.maximum(points, 10.0 ** decades[0]))
        path = " ".join(f"{x(false):.1f},{y(true):.1f}" for false, true in rates)
        marks = [_shape(place, x(false), y(true), hollow=False) for false, true in rates[:: max(1, len(rates) // 4)]]
        parts.append(
            f'<g class="series s{place % SHAPES}"><polyline class="line" points="{path}"/>{"".join(marks)}</g>'
        )
        summary.append(f"{label}: " + ", ".join(f"{true:.3f} at {false:.4f}" for false, true in points[::5]))
    ticks = [(decade, f"{100 * 10.0**decade:g}{NBSP}%") for decade in decades]
    frame = _axes(x, y, x_label, y_label, x_ticks=[(x(at), text) for at, text in ticks], y_ticks=ticks)
    return _drawing(name, f"{y_label} by {x_label}", "; ".join(summary), [*frame, *parts])


def key_mark(place: int) -> str:
    """The mark of a series, for a legend beside the drawing."""
    shape = _shape(place, 8, 8, hollow=False)
    return (
        f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true"><g class="series s{place % SHAPES}">{shape}</g></svg>'
    )


def key_dot(colour: int) -> str:
    """The mark of a colour of the frontier, for the table below it."""
    return (
        f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true"><g class="series s{colour % SHAPES}">'
        f'<circle class="mark" cx="8" cy="8" r="5"/></g></svg>'
    )


def _shape(place: int, x: float, y: float, *, hollow: bool) -> str:
    kind = "mark hollow" if hollow else "mark"
    shapes: dict[int, list[tuple[float, float]]] = {
        1: [(-5, -5), (5, -5), (5, 5), (-5, 5)],
        2: [(0, -6.5), (6, 5), (-6, 5)],
        3: [(0, -7), (7, 0), (0, 7), (-7, 0)],
        4: [(-6, -5), (6, -5), (0, 6.5)],
        5: [(-2, -6), (2, -6), (2, -2), (6, -2), (6, 2), (2, 2), (2, 6), (-2, 6), (-2, 2), (-6, 2), (-6, -2), (-2, -2)],
    }
    corners = shapes.get(place % SHAPES)
    if corners is None:
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5.2"/>'
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="{kind}" points="{points}"/>'


def _labels(marks: Sequence[tuple[float, float, float, str]]) -> list[str]:
    """Labels near their marks, where they cover no mark and no other label; marks in one place share a label."""
    groups: list[tuple[float, float, float, list[str]]] = []
    for x, y, radius, label in marks:
        near = next((group for group in groups if math.hypot(group[0] - x, group[1] - y) < TOGETHER), None)
        if near is None:
            groups.append((x, y, radius, [label]))
        else:
            near[3].append(label)
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y, radius, _ in marks]
    parts = []
    for x, y, radius, labels in groups:
        text = ", ".join(labels)
        box = min(_places(x, y, radius, 7.5 * len(text)), key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(box)
        left, top, right, bottom = box
        end_x, end_y = min(max(x, left), right), min(max(y, top), bottom)
        if math.hypot(end_x - x, end_y - y) > radius + 8:
            parts.append(_line(x, y, end_x, end_y, "leader"))
        parts.append(f'<text class="point" x="{left:.1f}" y="{bottom - 3:.1f}">{escape(text)}</text>')
    return parts


def _places(x: float, y: float, radius: float, width: float) -> Iterable[Box]:
    """Boxes for a label of one line around a mark and inside the drawing, the nearest first."""
    for away in (radius + 4, radius + 18, radius + 34, radius + 52, radius + 72):
        for degrees in (0, 180, 45, 135, 315, 225, 90, 270):
            at_x, at_y = x + away * math.cos(math.radians(degrees)), y - away * math.sin(math.radians(degrees))
            left = at_x - width if degrees in (135, 180, 225) else at_x - width / 2 if degrees in (90, 270) else at_x
            if left > LEFT and left + width < WIDTH and LINE < at_y < HEIGHT - BOTTOM - LINE / 2:
                yield left, at_y - LINE / 2, left + width, at_y + LINE / 2


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    across, down = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)


def _axes(
    x: Scale,
    y: Scale,
    x_label: str,
    y_label: str,
    *,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    y_ticks: Sequence[tuple[float, str]] | None = None,
) -> list[str]:
    """Ticks stand at pixels across, and at values up; without any, at round shares."""
    base = HEIGHT - BOTTOM
    parts = []
    for value, text in y_ticks if y_ticks is not None else [(value, f"{value:.0%}") for value in y.ticks()]:
        parts.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>')
    for at, text in x_ticks if x_ticks is not None else [(x(value), f"{value:.0%}") for value in x.ticks()]:
        parts.append(f'<text class="tick" x="{at:.1f}" y="{base + 18}" text-anchor="middle">{escape(text)}</text>')
    parts.append(_line(LEFT, base, WIDTH - RIGHT, base, "axis"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="label" transform="translate(14 {(TOP + base) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _drawing(name: str, title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="drawing" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )
