"""Rows by what protects them: the one place where a report groups its rows and says which of them leaked most.

A protection is a backend and a defence with all their parameters, not what the file calls them. Rows are only held
against each other where the same thing was recovered, and, where order matters, out of the same view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fl_runtime.evaluation.matrix.cells import Cell, key
from fl_runtime.evaluation.matrix.settings import NONE, PLAIN
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.rows import Figure, Row

RANK = ("leaks", "partly", "not shown", "nothing", "inconclusive", "unsupported")

Key = Callable[[Row], object]


@dataclass(frozen=True)
class Group:
    """Rows under one protection, one or more."""

    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """Backend and defence in a few words."""
        return words.protection(self.cell)

    @property
    def cell(self) -> Cell:
        """One of the group's cells, for what all of them share."""
        return self.rows[0].cell

    @property
    def clearest(self) -> Row:
        """The row that shows the most: a conclusive one if there is any."""
        return min(self.rows, key=lambda row: (RANK.index(row.verdict), -share(row)))

    @property
    def shown(self) -> Row:
        """The row that stands for the protection: the clearest of one party alone, where any tried alone."""
        return (self.alone or self).clearest

    @property
    def recovered(self) -> Figure | None:
        """The share that the clearest row recovered, or None where nothing was read."""
        return words.shown(self.clearest).get(self.cell.traits.success)

    def most(self, metric: str) -> Row | None:
        """The row with the largest value of a metric, of those in which something was read, or None."""
        with_it = [row for row in self.rows if metric in words.shown(row)]
        return max(with_it, key=lambda row: row.figures[metric].value, default=None)

    def largest(self, metric: str) -> Figure | None:
        """The largest value of a metric, of the rows in which something was read, or None."""
        row = self.most(metric)
        return None if row is None else row.figures[metric]

    def count(self, verdict: str) -> int:
        """How many rows have this verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    def where(self, chosen: Callable[[Row], bool]) -> Group | None:
        """The rows that are so, or None."""
        rows = [row for row in self.rows if chosen(row)]
        return Group(rows) if rows else None

    @property
    def alone(self) -> Group | None:
        """Rows of a single party."""
        return self.where(lambda row: not row.collusion)

    @property
    def together(self) -> Group | None:
        """Rows of several parties that pool what they see."""
        return self.where(lambda row: row.collusion)


def by_protection(rows: Iterable[Row], *also: Key) -> list[Group]:
    """A group for each protection in the order of the rows, and within it one for each value of `also`."""
    groups: dict[tuple[str, str], dict[tuple[object, ...], list[Row]]] = {}
    for row in rows:
        within = groups.setdefault(_protection(row), {})
        within.setdefault(tuple(of(row) for of in also), []).append(row)
    return [Group(found) for within in groups.values() for found in within.values()]


def _protection(row: Row) -> tuple[str, str]:
    """Equal for rows under the same backend and defence with the same parameters only."""
    return key(row.cell.backend), key(row.cell.defence)


def cohort(row: Row) -> int:
    """How many updates are in what is read: 1 for single updates, 0 where no update is read."""
    return 0 if row.verdict == "nothing" else max(measured.cohort for measured in row.measured)


def has_backend(row: Row) -> bool:
    """Whether something else than plain sums is around the update."""
    return row.cell.backend.kind != PLAIN


def has_defence(row: Row) -> bool:
    """Whether the client itself changes its update."""
    return row.cell.defence.kind != NONE


def share(row: Row) -> float:
    """What the row recovered, from 0 to 1; -1 where it recovered nothing that counts."""
    found = words.shown(row).get(row.cell.traits.success)
    return -1.0 if found is None else found.value
