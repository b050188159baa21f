"""What an evaluation found, in sentences: computed from the rows, and no stronger than they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.families import FAMILIES, Traits
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.protections import Group, by_protection, cohort, has_backend, has_defence, share
from fl_runtime.evaluation.rows import Row


@dataclass(frozen=True)
class Verdicts:
    """What was tried of one family of attacks: a group for each protection, in the order of the file."""

    traits: Traits
    groups: list[Group]


def verdicts(finished: Finished) -> list[Verdicts]:
    """By what was recovered and from which model: neither shares of different things compare, nor costs of models."""
    return [
        Verdicts(FAMILIES[name], groups)
        for name in FAMILIES
        if (groups := by_protection((row for row in finished.rows if row.cell.family == name), _model))
    ]


def _model(row: Row) -> str:
    return row.cell.setting.model


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
    lines = []
    for name, traits in FAMILIES.items():
        rows = [row for row in finished.rows if row.cell.family == name]
        alone, together = ([row for row in rows if row.collusion == many] for many in (False, True))
        bare, backends, defences, both = (
            [row for row in alone if (has_backend(row), has_defence(row)) == kind]
            for kind in ((False, False), (True, False), (False, True), (True, True))
        )
        if name == "inversion":
            lines += [
                _found("Nothing protects the update", bare, name=_unnamed),
                _found("Backends, against one curious party", backends),
                _found("Once several parties pool what they see", together),
                _found("Defences without a backend", defences, name=_defence),
                _found("Defences with a backend", both),
            ]
        else:
            pooled = f"{traits.title}, once several parties pool what they see"
            lines += [_found(traits.title, alone), _found(pooled, together)]
    lines.append(_unclear(finished.rows))
    return [line for line in lines if line.parts]


def _unnamed(cell: Cell) -> str:
    return ""


def _defence(cell: Cell) -> str:
    return cell.defence.label


def _found(title: str, rows: Sequence[Row], *, name: Callable[[Cell], str] = words.protection) -> Finding:
    """What leaked most under each protection, by the view that it leaves; among equal views the leakiest first."""
    views: dict[str, list[Group]] = {}
    for group in sorted(by_protection(rows, cohort), key=lambda group: cohort(group.rows[0]) or math.inf):
        views.setdefault(words.view(group.clearest), []).append(group)
    reads = {group.name for view, groups in views.items() if view != words.NO_UPDATE for group in groups}
    said = {}
    for view, groups in views.items():
        news = [group for group in groups if view != words.NO_UPDATE or group.name not in reads]
        if news:
            said[view] = _by_share(news, name)
    counted = f"share {rows[0].cell.traits.recovered}" if rows else ""
    if len(said) == 1 and words.NO_UPDATE not in said:
        ((view, parts),) = said.items()
        return Finding(title, f"{counted} out of {view}", tuple(parts))
    return Finding(
        title,
        counted,
        tuple(
            (f"out of {view}: " if view != words.NO_UPDATE else "") + "; ".join(parts) for view, parts in said.items()
        ),
    )


def _by_share(groups: Sequence[Group], name: Callable[[Cell], str]) -> list[str]:
    """`smpc, ckks: 88 %`, the leakiest first; those with equal figures together."""
    shown: dict[str, list[str]] = {}
    failed = [group.clearest.success for group in groups if group.clearest.verdict == "not shown"]
    highest = max((found.high for found in failed if found and found.high is not None), default=None)
    for group in sorted(groups, key=lambda group: -share(group.clearest)):
        shown.setdefault(_said(group.clearest, highest), []).append(name(group.cell))
    return [f"{', '.join(names)}: {said}" if any(names) else said for said, names in shown.items()]


def _said(row: Row, highest: float | None) -> str:
    """What came out; what is not told from chance together, by the highest end of an interval."""
    if row.verdict == "not shown" and highest is not None:
        return f"not told from chance, at most {words.percent(highest)}"
    if row.verdict in ("inconclusive", "unsupported", "nothing"):
        return words.VERDICTS[row.verdict]
    return words.figure(row.success, share=True)


def _unclear(rows: Sequence[Row]) -> Finding:
    unclear = sum(row.verdict == "inconclusive" for row in rows)
    text = (
        f"{unclear} of {len(rows)} rows, of which nothing follows: their attack failed on the undefended control as "
        "well, or the interval of what it recovers is too wide to tell, or all that is seen is zero"
    )
    return Finding("Inconclusive", "", (text,) if unclear else ())
