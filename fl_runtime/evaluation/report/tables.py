"""The report's overviews: heat map and frontier, as values for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.matrix.cells import key
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.figures import Point, ends, frontier
from fl_runtime.evaluation.report.protections import Group, by_protection, cohort
from fl_runtime.evaluation.rows import Figure, Row

Place = tuple[str, str, str]


@dataclass(frozen=True)
class HeatCell:
    """The clearest of the rows behind one field: `share` from 0 to 1, or None where nothing follows."""

    text: str
    note: str
    share: float | None


@dataclass(frozen=True)
class Heat:
    """Protections and adversaries down; attacks across, each with what it counts."""

    columns: list[tuple[str, str]]
    lines: list[tuple[str, str, list[HeatCell | None]]]


@dataclass(frozen=True)
class Mark:
    """One point of the frontier: a protection, what one party reads under it, and what leaks, is of use, is sent.

    Marks of sums of one size have one colour.
    """

    number: int
    protection: str
    view: str
    colour: int
    leak: Figure
    utility: Figure
    upload_bytes: float
    inconclusive: bool


@dataclass(frozen=True)
class Frontier:
    """The marks of equal views side by side, and the names of protections that have none."""

    marks: list[Mark]
    left_out: list[str]


def heat_map(finished: Finished) -> Heat:
    """The largest share of victims that each attack recovers, over all settings that were tried."""
    columns = {_column(row): row.cell for row in finished.rows}
    lines: list[tuple[str, str, list[HeatCell | None]]] = []
    for line in by_protection(finished.rows, lambda row: row.cell.setting.adversary):
        fields: dict[Place, list[Row]] = {column: [] for column in columns}
        for row in line.rows:
            fields[_column(row)].append(row)
        cells = [_heat_cell(Group(rows).clearest) if rows else None for rows in fields.values()]
        lines.append((line.name, line.cell.setting.adversary, cells))
    heads = [
        (f"{cell.attack.label}, {cell.setting.model}, {cell.setting.stage}", cell.traits.recovered)
        for cell in columns.values()
    ]
    return Heat(heads, lines)


def _column(row: Row) -> Place:
    return key(row.cell.attack), row.cell.setting.model, row.cell.setting.stage


def _heat_cell(row: Row) -> HeatCell:
    success = words.shown(row).get(row.cell.traits.success)
    if row.verdict == "nothing":
        return HeatCell(words.NO_UPDATE, "", 0.0)
    if row.inconclusive or success is None:
        return HeatCell(words.VERDICTS[row.verdict], "", None)
    value, _, interval = words.figure(success, share=True).partition(" (")
    view = f", {words.view(row)}" if cohort(row) > 1 else ""
    return HeatCell(value, interval.rstrip(")") + view, success.value)


def frontier_points(finished: Finished) -> Frontier:
    """Leakage and utility of each protection of the first model, for each view that one party has alone."""
    model = next(iter(finished.evaluation.models))
    tried = [
        row
        for row in finished.rows
        if row.cell.family == "inversion" and row.cell.setting.model == model and not row.collusion
    ]
    marks: list[Mark] = []
    colours: dict[int, int] = {}
    for group in sorted(by_protection(tried, _view), key=lambda group: _order(group.rows[0])):
        row = group.clearest
        colours.setdefault(cohort(row), len(colours))
        read = words.shown(row) or row.verdict == "nothing"
        if read and row.success is not None and row.utility is not None and row.upload_bytes is not None:
            mark = Mark(len(marks) + 1, group.name, _view(row), colours[cohort(row)], row.success, row.utility,
                        row.upload_bytes, row.inconclusive)  # fmt: skip
            marks.append(mark)
    drawn = {mark.protection for mark in marks}
    return Frontier(marks, [group.name for group in by_protection(tried) if group.name not in drawn])


def frontier_drawing(finished: Finished, marks: Sequence[Mark]) -> str:
    """The marks as SVG, by their numbers."""
    least = min(mark.upload_bytes for mark in marks)
    points = [
        Point(
            mark.utility.value,
            mark.leak.value,
            ends(mark.utility.low, mark.utility.high),
            ends(mark.leak.low, mark.leak.high),
            str(mark.number),
            5 + 2 * math.log2(mark.upload_bytes / least),
            hollow=mark.inconclusive,
            colour=mark.colour,
        )
        for mark in marks
    ]
    terms = finished.evaluation.evaluation
    return frontier(
        points, x_label=f"{terms.utility} of the trained model", y_label="share of images identified", name="frontier"
    )


def _view(row: Row) -> str:
    noise = ", with noise" if any("noise" in text for text in row.first.sees) else ""
    return words.view(row) + noise


def _order(row: Row) -> tuple[float, bool]:
    return cohort(row) or math.inf, "noise" in _view(row)
