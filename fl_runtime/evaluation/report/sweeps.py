"""How leakage changes along one axis, everything else equal: series of rows, and their curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.matrix.families import FAMILIES, Family
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.figures import Point, curves, ends, roc
from fl_runtime.evaluation.report.protections import Group, by_protection, cohort
from fl_runtime.evaluation.rows import Row

STAGES = ("untrained", "half", "trained")
MOST_SERIES = 6
Fixed = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Axis:
    """What is varied: its title, the place of a row on it, and the axes of a setting that go with it."""

    name: str
    title: str
    place: Callable[[Row], int]
    varied: tuple[str, ...]


STAGE = Axis("stage", "Stage of training", lambda row: STAGES.index(row.cell.setting.stage), ("stage",))
BATCH = Axis("batch", "Images of one client", lambda row: row.cell.setting.batch, ("batch",))
COHORT = Axis("cohort", "Updates in the sum that is seen", cohort, ("clients", "adversary"))
LOCAL = Axis("local", "Passes of local training", lambda row: row.cell.setting.local_epochs, ("local_epochs",))


@dataclass(frozen=True)
class Series:
    """Rows of one protection and one attack of one party, by their places on an axis; two or more."""

    label: str
    fixed: Fixed
    rows: dict[int, Row]


@dataclass(frozen=True)
class Curve:
    """One drawing: its title, its SVG, and for the legend the names of its series."""

    title: str
    svg: str
    series: list[str]


def sweep(rows: Sequence[Row], axis: Axis) -> list[Series]:
    """The series along an axis, the longest first."""
    groups = by_protection(
        (row for row in rows if not row.collusion and _figures(row) and (axis is not COHORT or cohort(row))),
        lambda row: row.cell.attack.label,
        lambda row: _fixed(row, axis),
    )
    found = []
    for group in groups:
        places: dict[int, list[Row]] = {}
        for row in group.rows:
            places.setdefault(axis.place(row), []).append(row)
        if len(places) > 1:
            clearest = {place: Group(places[place]).clearest for place in sorted(places)}
            label = f"{group.name}, {group.cell.attack.label}"
            found.append(Series(label, _fixed(group.rows[0], axis), clearest))
    return sorted(found, key=lambda series: -len(series.rows))


def all_curves(finished: Finished) -> list[Curve]:
    """A drawing for each axis and each family of attacks whose rows vary in it."""
    found = (
        _curve([row for row in finished.rows if row.cell.family == family], axis, family)
        for axis in (STAGE, BATCH, COHORT, LOCAL)
        for family in FAMILIES
    )
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


def _figures(row: Row) -> bool:
    return row.cell.traits.success in words.shown(row)


def _fixed(row: Row, axis: Axis) -> Fixed:
    return tuple((name, value) for name, value in row.cell.setting.model_dump().items() if name not in axis.varied)


def _told_apart(series: Sequence[Series]) -> list[str]:
    """Labels; those that occur twice with the axes in which they differ."""
    labels = []
    for one in series:
        twins = [dict(other.fixed) for other in series if other.label == one.label]
        differ = [f"{axis} {value}" for axis, value in one.fixed if any(twin[axis] != value for twin in twins)]
        labels.append(", ".join([one.label, *differ]))
    return labels


def _curve(rows: Sequence[Row], axis: Axis, family: Family) -> Curve | None:
    chosen = sweep(rows, axis)[:MOST_SERIES]
    if not chosen:
        return None
    values = sorted({value for one in chosen for value in one.rows})
    ticks = [STAGES[value] if axis is STAGE else str(value) for value in values]
    labels = _told_apart(chosen)
    series = [
        (label, [_point(values.index(value), row, label) for value, row in one.rows.items()])
        for label, one in zip(labels, chosen, strict=True)
    ]
    counted = f"share {FAMILIES[family].recovered}"
    drawing = curves(series, ticks=ticks, x_label=axis.title, y_label=counted, name=f"curve-{axis.name}-{family}")
    return Curve(f"{axis.title}: {counted}", drawing, labels)


def _point(place: int, row: Row, label: str) -> Point:
    success = words.shown(row)[row.cell.traits.success]
    return Point(place, success.value, y_ends=ends(success.low, success.high), hollow=row.inconclusive, label=label)
