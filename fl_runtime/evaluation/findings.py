"""What an evaluation found, in sentences: computed from the rows, and no stronger than they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fl_runtime.evaluation import words
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.families import FAMILIES
from fl_runtime.evaluation.rows import Row
from fl_runtime.evaluation.settings import NONE, PLAIN

RANK = ("leaks", "partly", "not shown", "nothing", "inconclusive", "unsupported")


@dataclass(frozen=True)
class Protection:
    """One combination of backend and defence, and its worst conclusive row: what got out, what it costs.

    `worst` is of a single party, `colluding` of several that pool what they see, if that was tried. `rows` counts all,
    `inconclusive` and `unsupported` those that say nothing.
    """

    name: str
    worst: Row
    colluding: Row | None
    rows: int
    inconclusive: int
    unsupported: int


def protections(finished: Finished) -> list[Protection]:
    """In the order of the file."""
    groups: dict[str, list[Row]] = {}
    for row in finished.rows:
        groups.setdefault(words.protection(row.cell), []).append(row)
    found = []
    for name, rows in groups.items():
        kinds = [row.verdict for row in rows]
        alone = [row for row in rows if not row.collusion]
        together = [row for row in rows if row.collusion]
        found.append(
            Protection(
                name,
                worst_of(alone or together),
                worst_of(together) if together else None,
                len(rows),
                kinds.count("inconclusive"),
                kinds.count("unsupported"),
            )
        )
    return found


def worst_of(rows: Iterable[Row]) -> Row:
    """The row that shows the most: a conclusive one if there is any."""
    return min(rows, key=lambda row: (RANK.index(row.verdict), -(row.success.value if row.success else 0.0)))


@dataclass(frozen=True)
class Finding:
    """One point of the summary: what was attacked, what is counted, and what came out under each protection."""

    title: str
    counted: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.title}{f' ({self.counted})' if self.counted else ''}: {'; '.join(self.parts)}"


def sentences(finished: Finished) -> list[Finding]:
    """The report's summary, most important first."""
    inversions = [row for row in finished.rows if row.cell.family == "inversion"]
    alone = [row for row in inversions if not row.collusion]
    lines = [
        _group("Nothing protects the update", [row for row in alone if _is_bare(row)], named=False),
        _group("Backends, against one curious party", [row for row in alone if _is_backend(row)]),
        _group(
            "Backends, once several parties pool what they see",
            [row for row in inversions if row.collusion and _is_backend(row)],
        ),
        _group("Defences without a backend", [row for row in alone if _is_defence(row)]),
        _group("Defences with a backend", [row for row in alone if _is_both(row)]),
    ]
    for family, traits in FAMILIES.items():
        if family != "inversion":
            lines.append(_group(traits.title, [row for row in finished.rows if row.cell.family == family]))
    lines.append(_unclear(finished.rows))
    return [line for line in lines if line.parts]


def _is_bare(row: Row) -> bool:
    return row.cell.defence.label == NONE and row.cell.backend.kind == PLAIN


def _is_backend(row: Row) -> bool:
    return row.cell.defence.label == NONE and row.cell.backend.kind != PLAIN


def _is_defence(row: Row) -> bool:
    return row.cell.defence.label != NONE and row.cell.backend.kind == PLAIN


def _is_both(row: Row) -> bool:
    return row.cell.defence.label != NONE and row.cell.backend.kind != PLAIN


def _group(title: str, rows: Sequence[Row], *, named: bool = True) -> Finding:
    """The worst row of each protection, the leakiest first; without rows, no parts."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.cell.defence.label if _is_defence(row) else words.protection(row.cell), []).append(row)
    worst = [(name, worst_of(found)) for name, found in groups.items()]
    shown: dict[str, list[str]] = {}
    for name, row in sorted(worst, key=lambda pair: -(pair[1].success.value if pair[1].success else -1.0)):
        shown.setdefault(_said(row), []).append(name)
    parts = (f"{', '.join(names)}: {said}" if named else said for said, names in shown.items())
    return Finding(title, f"share {rows[0].cell.traits.recovered}" if rows else "", tuple(parts))


def _said(row: Row) -> str:
    if row.verdict in ("inconclusive", "unsupported", "nothing"):
        return words.VERDICTS[row.verdict]
    out_of = f" out of {words.view(row)}" if row.cell.family != "membership" else ""
    return words.figure(row.success, share=True) + out_of + (", not told from chance" * (row.verdict == "not shown"))


def _unclear(rows: Sequence[Row]) -> Finding:
    unclear = sum(row.verdict == "inconclusive" for row in rows)
    text = (
        f"{unclear} of {len(rows)} rows, of which nothing follows: their attack failed on the undefended control as "
        "well, or the interval of what it recovers is too wide to tell"
    )
    return Finding("Inconclusive", "", (text,) if unclear else ())
