"""What an evaluation found, in sentences: computed from the rows, and no stronger than they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fl_runtime.evaluation import words
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.rows import Figure, Row
from fl_runtime.evaluation.settings import NONE, PLAIN

RANK = ("leaks", "partly", "not shown", "nothing", "inconclusive", "unsupported")


@dataclass(frozen=True)
class Verdict:
    """One protection under its worst conclusive row: what got out, what it costs.

    `worst` is of a single party, `colluding` of several that pool what they see; either may be missing.
    """

    protection: str
    threshold: float
    worst: Row
    colluding: Row | None
    rows: int
    inconclusive: int

    @property
    def verdict(self) -> str:
        """A key of `words.VERDICTS`."""
        return words.verdict(self.worst, threshold=self.threshold)

    @property
    def verdict_colluding(self) -> str | None:
        return None if self.colluding is None else words.verdict(self.colluding, threshold=self.threshold)

    @property
    def leak(self) -> Figure | None:
        return self.worst.success


def verdicts(finished: Finished) -> list[Verdict]:
    """One for each combination of backend and defence, in the order of the file."""
    threshold = finished.evaluation.evaluation.control
    groups: dict[str, list[Row]] = {}
    for row in finished.rows:
        groups.setdefault(words.protection(row.cell), []).append(row)
    found = []
    for name, rows in groups.items():
        kinds = [words.verdict(row, threshold=threshold) for row in rows]
        alone = [row for row in rows if not row.collusion]
        together = [row for row in rows if row.collusion]
        found.append(
            Verdict(
                name,
                threshold,
                worst_of(alone or together, threshold),
                worst_of(together, threshold) if together else None,
                len(rows),
                kinds.count("inconclusive"),
            )
        )
    return found


def worst_of(rows: Iterable[Row], threshold: float) -> Row:
    """The row that shows the most: a conclusive one if there is any."""
    return min(
        rows,
        key=lambda row: (
            RANK.index(words.verdict(row, threshold=threshold)),
            -(row.success.value if row.success else 0.0),
        ),
    )


@dataclass(frozen=True)
class Finding:
    """One point of the summary: what was attacked, and what came out."""

    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.title}. {self.text}"


def sentences(finished: Finished) -> list[Finding]:
    """The report's summary, most important first."""
    threshold = finished.evaluation.evaluation.control
    inversions = [row for row in finished.rows if row.cell.family == "inversion"]
    alone = [row for row in inversions if not row.collusion]
    lines = [
        _group("Nothing protects the update", [row for row in alone if _is_bare(row)], threshold, named=False),
        _group("Backends, against one curious party", [row for row in alone if _is_backend(row)], threshold),
        _group(
            "Backends, once several parties pool what they see",
            [row for row in inversions if row.collusion and _is_backend(row)],
            threshold,
        ),
        _group("Defences without a backend", [row for row in alone if _is_defence(row)], threshold),
        _group("Defences with a backend", [row for row in alone if _is_both(row)], threshold),
    ]
    for family, title in OTHER_FAMILIES.items():
        lines.append(_group(title, [row for row in finished.rows if row.cell.family == family], threshold))
    lines.append(_unclear(finished.rows, threshold))
    return [line for line in lines if line.text]


RECOVERED = {
    "inversion": "of images identified",
    "labels": "of labels read",
    "imprint": "of images recovered",
    "inconsistency": "of updates isolated",
    "membership": "of members recognised",
}
OTHER_FAMILIES = {
    "labels": "Labels read off an update",
    "imprint": "Images brought out by a model that the server made for it",
    "inconsistency": "Single updates isolated by showing two models",
    "membership": "Training examples recognised in the finished model at one false alarm in a hundred",
}


def _is_bare(row: Row) -> bool:
    return row.cell.defence.label == NONE and row.cell.backend.kind == PLAIN


def _is_backend(row: Row) -> bool:
    return row.cell.defence.label == NONE and row.cell.backend.kind != PLAIN


def _is_defence(row: Row) -> bool:
    return row.cell.defence.label != NONE and row.cell.backend.kind == PLAIN


def _is_both(row: Row) -> bool:
    return row.cell.defence.label != NONE and row.cell.backend.kind != PLAIN


def _group(title: str, rows: Sequence[Row], threshold: float, *, named: bool = True) -> Finding:
    """The worst row of each protection, the leakiest first; without rows, no text."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(words.protection(row.cell), []).append(row)
    worst = [(name, worst_of(found, threshold)) for name, found in groups.items()]
    shown: dict[str, list[str]] = {}
    for name, row in sorted(worst, key=lambda pair: -(pair[1].success.value if pair[1].success else -1.0)):
        shown.setdefault(_said(row, threshold), []).append(name)
    parts = [f"{', '.join(names)}: {said}" if named else said for said, names in shown.items()]
    return Finding(title, f"{'; '.join(parts)}." if parts else "")


def _said(row: Row, threshold: float) -> str:
    verdict = words.verdict(row, threshold=threshold)
    if verdict in ("inconclusive", "unsupported", "nothing"):
        return words.VERDICTS[verdict]
    said = f"{words.figure(row.success, share=True)} {RECOVERED[row.cell.family]}"
    return said + (", as by chance" if verdict == "not shown" else "")


def _unclear(rows: Sequence[Row], threshold: float) -> Finding:
    unclear = sum(words.verdict(row, threshold=threshold) == "inconclusive" for row in rows)
    text = f"{unclear} of {len(rows)} rows: their attack failed on the undefended control as well, so that its failure "
    return Finding("Inconclusive", text + "on the row says nothing." if unclear else "")
