"""Cells of all repeats pooled into rows: figures with intervals, and whether they say anything at all.

A row is conclusive only if the same attack succeeded on the control, which has no protection and no defence; or if
it succeeded on the row itself. Otherwise it is inconclusive, whatever its figures are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_runtime.evaluation.cells import Cell, expand, key, repeats
from fl_runtime.evaluation.measured import Measured
from fl_runtime.evaluation.settings import Evaluation
from secagg.leakage import Interval, mean_interval, share_interval

Results = Mapping[str, dict[str, Any]]
QUANTILES = {"psnr_db": {"median": 0.5, "p90": 0.9, "worst": 1.0}, "ssim": {"worst": 1.0}}
"""Of the leak: the "worst" is the best reconstruction."""


@dataclass(frozen=True)
class Figure:
    """A metric's value over `n` victims; the ends of its interval are None where none can be stated."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One combination of backend, defence, attack and setting.

    Attributes:
        figures: metric to figure; empty where the attack could not be run (see `problem`).
        control_succeeded: whether this attack succeeded without any protection, in the same setting.
        inconclusive: whether nothing follows from the figures.
        utility: of the model trained under this backend and defence.
    """

    cell: Cell
    measured: tuple[Measured, ...]
    figures: Mapping[str, Figure]
    control_succeeded: bool
    inconclusive: bool
    utility: Figure | None
    upload_bytes: float | None
    seconds: float

    @property
    def first(self) -> Measured:
        return self.measured[0]

    @property
    def problem(self) -> str | None:
        """Why there are no figures, or None."""
        return next((m.problem for m in self.measured if m.problem is not None), None)

    @property
    def success(self) -> Figure | None:
        """The share that tells whether the attack works."""
        return self.figures.get(self.first.success)

    @property
    def blind(self) -> float:
        """What `success` comes to by chance."""
        return self.first.blind.get(self.first.success, 0.0)

    @property
    def collusion(self) -> bool:
        """Whether several parties pool what they see."""
        return " and " in self.cell.setting.adversary

    @property
    def is_control(self) -> bool:
        return key(self.cell) == key(self.cell.control())


def pool(evaluation: Evaluation, results: Results) -> list[Row]:
    """All rows, in the order of the file."""
    measured = {
        key(row): tuple(Measured.from_record(results[key(cell)]) for cell in repeats(row, evaluation))
        for row in expand(evaluation)
    }
    works = {name: _works(cells, evaluation.evaluation.control) for name, cells in measured.items()}
    rows = []
    for row in expand(evaluation):
        cells = measured[key(row)]
        control = works[key(row.control())]
        rows.append(
            Row(
                cell=row,
                measured=cells,
                figures=_figures(cells),
                control_succeeded=control,
                inconclusive=not (control or works[key(row)]) or any(m.problem for m in cells) or _blank(cells),
                utility=_utility(row, evaluation, results),
                upload_bytes=next((m.upload_bytes for m in cells if m.upload_bytes is not None), None),
                seconds=sum(m.seconds for m in cells),
            )
        )
    return rows


def _blank(cells: Sequence[Measured]) -> bool:
    """Whether updates were seen, and no attack had anything to work on."""
    kinds = {m.kind for m in cells}
    return "blank" in kinds and "measured" not in kinds


def _works(cells: Sequence[Measured], threshold: float) -> bool:
    """Whether the attack recovers the share that was asked for, and surely more than chance would."""
    hits = [hit for m in cells for hit in m.shares.get(m.success, ())]
    if not hits or any(m.problem for m in cells):
        return False
    share = share_interval(sum(hits), len(hits))
    enough = threshold if cells[0].enough is None else cells[0].enough
    return share.value >= enough and share.low > cells[0].blind.get(cells[0].success, 0.0)


def _figures(cells: Sequence[Measured]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name in dict.fromkeys(name for m in cells for name in m.means):
        values = np.array([value for m in cells for value in m.means.get(name, ())])
        clusters = np.array([place for place, m in enumerate(cells) for _ in m.means.get(name, ())])
        defined = np.isfinite(values)
        if not defined.any():
            continue
        values, clusters = values[defined], clusters[defined]
        figures[name] = _figure(mean_interval(values, clusters), len(values))
        for label, share in QUANTILES.get(name, {}).items():
            figures[f"{name}_{label}"] = Figure(float(np.quantile(values, share)), None, None, len(values))
    for name in dict.fromkeys(name for m in cells for name in m.shares):
        hits = [hit for m in cells for hit in m.shares.get(name, ())]
        figures[name] = _figure(share_interval(sum(hits), len(hits)), len(hits))
    return figures


def _figure(interval: Interval, count: int) -> Figure:
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return Figure(interval.value, interval.low if known else None, interval.high if known else None, count)


def _utility(row: Cell, evaluation: Evaluation, results: Results) -> Figure | None:
    scores = [results[key(cell.training())][row.world.utility] for cell in repeats(row, evaluation)]
    if any(score is None for score in scores):
        return None
    return _figure(mean_interval(scores, range(len(scores))), len(scores))
