"""The report's overviews: heat map, frontier and curves, as values for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fl_runtime.evaluation import words
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.figures import Point, curves, frontier, roc
from fl_runtime.evaluation.findings import worst_of
from fl_runtime.evaluation.rows import Figure, Row

STAGES = ("untrained", "half", "trained")
Fixed = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class HeatCell:
    """The worst of the rows behind one field: `share` from 0 to 1, or None where nothing follows."""

    text: str
    note: str
    share: float | None


@dataclass(frozen=True)
class Heat:
    """Protections and adversaries down, attacks across."""

    columns: list[str]
    lines: list[tuple[str, str, list[HeatCell | None]]]


@dataclass(frozen=True)
class Mark:
    """One point of the frontier: a protection, what one party reads under it, and what leaks, is of use, is sent."""

    number: int
    protection: str
    view: str
    leak: Figure
    utility: Figure
    upload_bytes: float
    inconclusive: bool


@dataclass(frozen=True)
class Curve:
    """One drawing: its title, its SVG, and for the legend the names of its series."""

    title: str
    svg: str
    series: list[str]


def heat_map(finished: Finished) -> Heat:
    """The worst share of victims that each attack recovers, over all settings that were tried."""
    columns: dict[str, None] = {}
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in finished.rows:
        column = f"{row.cell.attack.label}, {row.cell.setting.model}, {row.cell.setting.stage}"
        columns.setdefault(column)
        line = groups.setdefault((words.protection(row.cell), row.cell.setting.adversary), {})
        line.setdefault(column, []).append(row)
    lines = []
    order = list(dict.fromkeys(protection for protection, _ in groups))
    for (protection, adversary), found in sorted(groups.items(), key=lambda group: order.index(group[0][0])):
        cells = [_heat_cell(found[column]) if column in found else None for column in columns]
        lines.append((protection, adversary, cells))
    return Heat(list(columns), lines)


def _heat_cell(rows: Sequence[Row]) -> HeatCell:
    worst = worst_of(rows)
    if worst.inconclusive or worst.success is None:
        return HeatCell(words.VERDICTS[worst.verdict], "", None)
    interval = words.figure(worst.success, share=True)
    value, _, ends = interval.partition(" (")
    return HeatCell(value, ends.rstrip(")"), worst.success.value)


def frontier_points(finished: Finished) -> list[Mark]:
    """Leakage and utility of each protection of the first model, for each kind of view that one party has alone."""
    model = next(iter(finished.evaluation.models))
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in finished.rows:
        if row.cell.family == "inversion" and row.cell.setting.model == model and not row.collusion:
            groups.setdefault((words.protection(row.cell), _kind_of_view(row)), []).append(row)
    marks: list[Mark] = []
    for (protection, view), rows in groups.items():
        worst = worst_of(rows)
        if worst.success is not None and worst.utility is not None and worst.upload_bytes is not None:
            mark = Mark(len(marks) + 1, protection, view, worst.success, worst.utility, worst.upload_bytes,
                        worst.inconclusive)  # fmt: skip
            marks.append(mark)
    return marks


def frontier_drawing(finished: Finished, marks: Sequence[Mark]) -> str:
    """The marks as SVG, by their numbers."""
    least = min(mark.upload_bytes for mark in marks)
    points = [
        Point(
            mark.utility.value,
            mark.leak.value,
            _ends(mark.utility.low, mark.utility.high),
            _ends(mark.leak.low, mark.leak.high),
            str(mark.number),
            5 + 2 * math.log2(mark.upload_bytes / least),
            hollow=mark.inconclusive,
        )
        for mark in marks
    ]
    terms = finished.evaluation.evaluation
    return frontier(
        points, x_label=f"{terms.utility} of the trained model", y_label="worst share identified", name="frontier"
    )


def _kind_of_view(row: Row) -> str:
    if all(found.kind == "nothing" for found in row.measured):
        return "nothing"
    noise = ", with noise" if any("noise" in view for view in row.first.sees) else ""
    return ("single updates" if row.first.cohort == 1 else "sums") + noise


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def all_curves(finished: Finished) -> list[Curve]:
    """Leakage over stage of training, batch, size of the sum, and local work, where the rows vary in it."""

    def stage(row: Row) -> int:
        return STAGES.index(row.cell.setting.stage)

    axes: list[tuple[str, str, Callable[[Row], int], tuple[str, ...]]] = [
        ("Stage of training", "stage", stage, ("stage",)),
        ("Images of one client", "batch", lambda row: row.cell.setting.batch, ("batch",)),
        ("Updates in the sum that is seen", "cohort", lambda row: row.first.cohort, ("clients", "adversary")),
        ("Passes of local training", "local", lambda row: row.cell.setting.local_epochs, ("local_epochs",)),
    ]
    found = [_curve(finished.rows, *axis) for axis in axes]
    return [curve for curve in found if curve is not None]


def roc_curve(finished: Finished) -> Curve | None:
    """The membership attacks of all protections on logarithmic axes, each the mean of its repeats."""
    series = []
    for row in finished.rows:
        curves_of_repeats = [found for m in row.measured if (found := m.curves.get("roc")) is not None and len(found)]
        if curves_of_repeats and row.problem is None:
            series.append(
                (f"{words.protection(row.cell)}, {row.cell.attack.label}", np.mean(curves_of_repeats, axis=0))
            )
    if not series:
        return None
    drawing = roc(series, x_label="non-members accused", y_label="members found", name="roc")
    return Curve("Members found, at every rate of false alarms", drawing, [label for label, _ in series])


def _told_apart(names: Sequence[tuple[str, Fixed]]) -> list[str]:
    """Labels; those that occur twice with the axes in which they differ."""
    labels = []
    for label, fixed in names:
        twins = [dict(other) for name, other in names if name == label]
        differ = [f"{axis} {value}" for axis, value in fixed if any(twin[axis] != value for twin in twins)]
        labels.append(", ".join([label, *differ]))
    return labels


def _curve(
    rows: Sequence[Row], title: str, name: str, place: Callable[[Row], int], varied: tuple[str, ...]
) -> Curve | None:
    groups: dict[tuple[str, Fixed], dict[int, tuple[Row, Figure]]] = {}
    for row in rows:
        if row.success is None or (name == "cohort" and not row.first.cohort):
            continue
        fixed = row.cell.setting.model_dump()
        for axis in varied:
            fixed.pop(axis)
        protection = words.protection(row.cell) if name != "cohort" else f"defence {row.cell.defence.label}"
        group = groups.setdefault((f"{protection}, {row.cell.attack.label}", tuple(fixed.items())), {})
        group.setdefault(place(row), (row, row.success))
    groups = {label: found for label, found in groups.items() if len(found) > 1}
    if not groups:
        return None
    chosen = sorted(groups.items(), key=lambda group: -len(group[1]))[:6]
    longest = list(zip(_told_apart([names for names, _ in chosen]), [found for _, found in chosen], strict=True))
    values = sorted({value for _, found in longest for value in found})
    ticks = [STAGES[value] if name == "stage" else str(value) for value in values]
    series = []
    for label, found in longest:
        points = []
        for value in sorted(found):
            row, success = found[value]
            ends = _ends(success.low, success.high)
            points.append(Point(values.index(value), success.value, y_ends=ends, hollow=row.inconclusive, label=label))
        series.append((label, points))
    drawing = curves(series, ticks=ticks, x_label=title, y_label="share recovered", name=f"curve-{name}")
    return Curve(title, drawing, [label for label, _ in series])
