"""Cells of all repeats pooled into rows: figures with intervals, and whether they say anything at all.

A row is conclusive only if the same attack succeeded on the control, which has no protection and no defence, or on the
row itself; and if its interval is narrow enough to tell. Otherwise it is inconclusive, whatever its figures are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fl_runtime.evaluation.attempts.measured import Measured
from fl_runtime.evaluation.matrix.cells import Cell, expand, key, repeats
from fl_runtime.evaluation.matrix.families import Traits
from fl_runtime.evaluation.matrix.settings import Evaluation
from secagg.leakage import Interval, mean_interval, share_interval

Results = Mapping[str, dict[str, Any]]
Verdict = Literal["leaks", "partly", "not shown", "nothing", "inconclusive", "unsupported"]
QUANTILES = {"psnr_db": {"median": 0.5, "p90": 0.9, "worst": 1.0}, "ssim": {"p90": 0.9, "worst": 1.0}}
"""Of the leak: the "worst" is the best reconstruction."""
WHOLE, ABOVE_ZERO, EVERYTHING = (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)
LIMITS = {
    "auc": WHOLE, "expected_hit": WHOLE, "label_existence": WHOLE, "labels_found": WHOLE, "tpr_at_1_percent": WHOLE,
    "tpr_at_0.1_percent": WHOLE, "lpips": ABOVE_ZERO, "matching_loss": ABOVE_ZERO, "mse": ABOVE_ZERO,
    "psnr_db": ABOVE_ZERO, "ssim": (-1.0, 1.0),
}  # fmt: skip
"""What a mean can be at all: its interval ends there."""


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
        by_chance: what the success comes to without the update.
        control_succeeded: whether this attack succeeded without any protection, in the same setting.
        utility: of the model trained under this backend and defence.
    """

    cell: Cell
    measured: tuple[Measured, ...]
    figures: Mapping[str, Figure]
    by_chance: float
    control_succeeded: bool
    verdict: Verdict
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
        return self.figures.get(self.cell.traits.success)

    @property
    def inconclusive(self) -> bool:
        """Whether nothing follows from the figures."""
        return self.verdict in ("inconclusive", "unsupported")

    @property
    def collusion(self) -> bool:
        """Whether several parties pool what they see."""
        return " and " in self.cell.setting.adversary

    @property
    def is_control(self) -> bool:
        return key(self.cell) == key(self.cell.control())


def pool(evaluation: Evaluation, results: Results) -> list[Row]:
    """All rows, in the order of the file."""
    terms, rows = evaluation.evaluation, expand(evaluation)
    found: dict[str, _Evidence] = {}
    for row in rows:
        cells = tuple(Measured.from_record(results[key(cell)]) for cell in repeats(row, evaluation))
        found[key(row)] = _Evidence(row.traits, cells, _figures(cells))
    pooled = []
    for row in rows:
        evidence, control = found[key(row)], found[key(row.control())].works(terms.control)
        pooled.append(
            Row(
                cell=row,
                measured=evidence.cells,
                figures=evidence.figures,
                by_chance=evidence.by_chance,
                control_succeeded=control,
                verdict=judge(
                    evidence.success,
                    by_chance=evidence.by_chance,
                    cells=evidence.cells,
                    attack_works=control or evidence.works(terms.control),
                    threshold=evidence.threshold(terms.control),
                ),
                utility=_utility(row, evaluation, results),
                upload_bytes=next((m.upload_bytes for m in evidence.cells if m.upload_bytes is not None), None),
                seconds=sum(m.seconds for m in evidence.cells),
            )
        )
    return pooled


@dataclass(frozen=True)
class _Evidence:
    """The repeats of a row, pooled."""

    traits: Traits
    cells: tuple[Measured, ...]
    figures: Mapping[str, Figure]

    @property
    def success(self) -> Figure | None:
        return self.figures.get(self.traits.success)

    @property
    def by_chance(self) -> float:
        """What the success comes to by chance; where false alarms were counted, surely no more than this."""
        wrong, least = self.figures.get("false_alarms"), float(np.mean([cell.by_chance for cell in self.cells]))
        return least if wrong is None or wrong.high is None else max(least, wrong.high)

    def threshold(self, control: float) -> float:
        """The share from which on the attack succeeds."""
        return control if self.traits.enough is None else self.traits.enough

    def works(self, control: float) -> bool:
        """Whether the attack recovers the share that is asked for, and surely more than chance would."""
        if self.success is None or self.success.low is None or any(m.problem for m in self.cells):
            return False
        return self.success.value >= self.threshold(control) and self.success.low > self.by_chance


def judge(
    success: Figure | None,
    *,
    by_chance: float,
    cells: Sequence[Measured],
    attack_works: bool,
    threshold: float,
) -> Verdict:
    """What follows from the figures of a row.

    What comes out more often than by chance leaks, whatever became of the control. A failure is one only where the same
    attack succeeds without protection, where two repeats or more were tried, and where the share is surely under
    `threshold`.

    Args:
        success: the share recovered.
        by_chance: what that share comes to without the update.
        cells: the repeats.
        attack_works: whether the attack succeeded without protection, or here.
        threshold: the share from which on it succeeds.
    """
    kinds = {m.kind for m in cells}
    if any(m.problem for m in cells):
        return "unsupported"
    if success is None or success.low is None or success.high is None:
        return "inconclusive"
    if kinds == {"nothing"}:
        return "nothing" if attack_works else "inconclusive"
    if success.low > by_chance:
        return "leaks" if success.value >= threshold else "partly"
    # Updates of which only zeros were seen may still draw the image by where the zeros are.
    surely = attack_works and success.high < threshold and len(cells) > 1 and "blank" not in kinds
    return "not shown" if surely else "inconclusive"


def _figures(cells: Sequence[Measured]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name in dict.fromkeys(name for m in cells for name in m.means):
        runs = [values[np.isfinite(values)] for m in cells if (values := m.means.get(name)) is not None]
        runs = [run for run in runs if len(run)]
        if not runs:
            continue
        values = np.concatenate(runs)
        interval = mean_interval(values, np.repeat(range(len(runs)), [*map(len, runs)]))
        figures[name] = _figure(interval, len(values), LIMITS.get(name, EVERYTHING))
        for label, share in QUANTILES.get(name, {}).items():
            figures[f"{name}_{label}"] = Figure(float(np.quantile(values, share)), None, None, len(values))
    for name in dict.fromkeys(name for m in cells for name in m.shares):
        hits = [run for m in cells if (run := m.shares.get(name)) is not None and len(run)]
        tried = [len(run) for run in hits]
        figures[name] = _figure(share_interval([int(run.sum()) for run in hits], tried), sum(tried))
    return figures


def _figure(interval: Interval, count: int, limits: tuple[float, float] = EVERYTHING) -> Figure:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return Figure(interval.value, None, None, count)
    return Figure(interval.value, max(interval.low, limits[0]), min(interval.high, limits[1]), count)


def _utility(row: Cell, evaluation: Evaluation, results: Results) -> Figure | None:
    scores = [results[key(cell.training())][row.world.utility] for cell in repeats(row, evaluation)]
    if any(score is None for score in scores):
        return None
    return _figure(mean_interval(scores, range(len(scores))), len(scores), WHOLE)
