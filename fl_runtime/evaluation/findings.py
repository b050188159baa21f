"""What an evaluation found, in sentences: computed from the rows, and no stronger than they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fl_runtime.evaluation import words
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.rows import Figure, Row

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


def sentences(finished: Finished) -> list[str]:
    """The report's summary, most important first."""
    terms = finished.evaluation.evaluation
    found = {verdict.protection: verdict for verdict in verdicts(finished)}
    lines = []
    for verdict in found.values():
        if verdict.verdict in ("leaks", "partly"):
            lines.append(_leak(verdict.protection, verdict.worst))
        elif verdict.colluding is not None and verdict.verdict_colluding in ("leaks", "partly"):
            lines.append(_leak(f"{verdict.protection}, once parties collude", verdict.colluding))
    quiet = [v for v in found.values() if v.verdict in ("not shown", "nothing")]
    if quiet:
        names = ", ".join(v.protection for v in quiet)
        lines.append(
            f"{names}: no attack that one party could run here did better than chance, and each of those that count "
            "worked without the protection. That is no proof that none exists."
        )
    open_ = [v.protection for v in found.values() if v.verdict in ("inconclusive", "unsupported")]
    if open_:
        lines.append(f"{', '.join(open_)}: inconclusive, since the attack failed without any protection as well.")
    rows = len(finished.rows)
    unclear = sum(words.verdict(row, threshold=terms.control) == "inconclusive" for row in finished.rows)
    if unclear:
        lines.append(
            f"{unclear} of {rows} rows are inconclusive: their attack failed on the undefended control, so its failure "
            "on the row says nothing."
        )
    return lines


def _leak(name: str, row: Row) -> str:
    leak = words.figure(row.success, share=True)
    what = {
        "inversion": "of the images could be told from others by what the attack rebuilt",
        "imprint": "of the images came out by a model made for it",
        "inconsistency": "of the single updates were isolated by showing two models",
        "membership": "of the training examples were recognised",
        "labels": "of the labels were read",
    }[row.cell.family]
    parts = [f"{name}: {leak} {what} ({row.cell.attack.label}; {row.cell.setting.adversary}"]
    parts.append(f", {', '.join(row.first.sees)})" if row.first.sees else ")")
    if "psnr_db_worst" in row.figures:
        parts.append(f"; the clearest has a PSNR of {row.figures['psnr_db_worst'].value:.0f} dB")
    return "".join(parts) + "."
