"""What an evaluation of leakage must show, and which of it this one shows: found in the rows, never assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fl_runtime.evaluation import words
from fl_runtime.evaluation.cells import key
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.rows import Row
from fl_runtime.evaluation.settings import NONE

LEAST_REPEATS, LEAST_IMAGES = 3, 10
MALICIOUS = ("imprint", "inconsistency")


@dataclass(frozen=True)
class Point:
    """One point of the list: the section of the page where it is, and what there is of it; "" for nothing."""

    text: str
    section: str
    evidence: str


def checklist(finished: Finished) -> list[Point]:
    """All 22 points, in their order."""
    return [Point(text, section, evidence(finished)) for text, section, evidence in _POINTS]


Evidence = Callable[[Finished], str]


def _count(what: str, chosen: Callable[[Row], bool]) -> Evidence:
    """How many rows are so."""

    def evidence(finished: Finished) -> str:
        count = sum(map(chosen, finished.rows))
        return f"{count} {what if count > 1 else what.replace('rows', 'row')}" if count else ""

    return evidence


def _values(name: str, axis: str) -> Evidence:
    """The values of an axis, where the rows have two or more."""

    def evidence(finished: Finished) -> str:
        found = dict.fromkeys(row.cell.axes[axis] for row in finished.rows if axis in row.cell.axes)
        return f"{name}: {_listed(found)}" if len(found) > 1 else ""

    return evidence


def _metrics(*names: str) -> Evidence:
    def evidence(finished: Finished) -> str:
        found = [name for name in names if any(name in row.figures for row in finished.rows)]
        return "; ".join(words.METRICS[name] for name in found)

    return evidence


def _all(*parts: Evidence) -> Evidence:
    return lambda finished: "; ".join(text for part in parts if (text := part(finished)))


def _protected(finished: Finished) -> str:
    """What was attacked under homomorphic encryption and secret sharing, and under secure sums."""
    rows = [row for row in finished.rows if row.cell.backend.kind not in ("plain", "dp", "dp-sgd")]
    found = {
        "the sum": any(row.first.cohort > 1 for row in rows),
        "the key holder": any("helper" in row.cell.setting.adversary.split(" and ")[0] for row in rows),
        "collusion": any(row.collusion for row in rows),
        "a cohort of one": any(row.first.cohort == 1 for row in rows),
    }
    return _listed(name for name, there in found.items() if there)


def _cohorts(finished: Finished) -> str:
    found = sorted({row.first.cohort for row in finished.rows if row.first.cohort})
    return f"updates in the sum: {_listed(found)}" if len(found) > 1 else ""


def _sample(finished: Finished) -> str:
    terms = finished.evaluation.evaluation
    enough = terms.repeats >= LEAST_REPEATS and terms.images >= LEAST_IMAGES
    return f"{terms.repeats} repeats of {terms.images} images" if enough else ""


def _controls(finished: Finished) -> str:
    controls = [row for row in finished.rows if row.is_control]
    return f"{sum(not row.inconclusive for row in controls)} of {len(controls)} controls succeeded"


def _private(finished: Finished) -> str:
    rows = {row.cell.backend.label: row for row in finished.rows}
    claims = [name for name, row in rows.items() if finished.results[key(row.cell.training())]["spent"] is not None]
    return _listed(claims)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


_POINTS: tuple[tuple[str, str, Evidence], ...] = (
    ("Threat model per row, and what each party sees", "sees", _count("rows", lambda row: True)),
    ("HE and SMPC: the decrypted sum, the key holder, collusion, a cohort of one", "sees", _protected),
    ("The attack tuned per defence, the search logged", "tuning", _count("rows", lambda row: bool(row.first.search))),
    (
        "An adaptive attack per defence",
        "rows",
        _all(
            _count("rows aware of it", lambda row: row.cell.defence.label != NONE and row.cell.setting.adaptive),
            _count("rows unaware", lambda row: not row.cell.setting.adaptive),
        ),
    ),
    ("Labels known, inferred, unknown", "rows", _values("labels", "labels")),
    ("BatchNorm statistics known, running, withheld", "rows", _values("statistics", "statistics")),
    ("Untrained, half-trained and trained checkpoints", "curves", _values("stages", "stage")),
    (
        "Sweeps over batch, local steps and clients",
        "curves",
        _all(_values("images", "batch"), _values("local epochs", "local_epochs"), _cohorts),
    ),
    ("PSNR, SSIM, MSE, matching loss; LPIPS", "rows", _metrics("psnr_db", "ssim", "mse", "matching_loss", "lpips")),
    ("Identification in a gallery, RDLV against a prior", "rows", _metrics("identified", "rdlv")),
    (
        "Worst case, quantiles, share over a threshold",
        "rows",
        _metrics("psnr_db_worst", "psnr_db_p90", "psnr_db_median", "reconstructed"),
    ),
    ("Three seeds of ten images or more; intervals over runs, exact intervals for shares", "method", _sample),
    (
        "Hungarian matching, no oracle choice of restarts",
        "method",
        _count("rows of reconstructions", lambda row: row.cell.family == "inversion"),
    ),
    ("The undefended control succeeds, or inconclusive", "verdicts", _controls),
    ("Utility on the same runs", "frontier", _count("rows", lambda row: row.utility is not None)),
    ("Epsilon, delta, accountant, clip, unit, audited lower bound", "datasheets", _private),
    (
        "Membership at low false-positive rates",
        "membership",
        _all(
            _count("rows at 1 %", lambda row: "tpr_at_1_percent" in row.figures),
            _count("rows at 0.1 %", lambda row: "tpr_at_0.1_percent" in row.figures),
        ),
    ),
    (
        "Malicious server, and whether a client could have noticed",
        "malicious",
        _count("rows", lambda row: row.cell.family in MALICIOUS),
    ),
    ("Compute budget and convergence", "tuning", _count("rows", lambda row: "converged" in row.figures)),
    (
        "Pictures: best, median, worst",
        "pictures",
        _count("rows", lambda row: any(m.pictures is not None for m in row.measured)),
    ),
    ("Config hash, versions, one command", "reproduce", lambda finished: "in the report"),
    ("Does a diagnosis classifier agree on the reconstruction", "rows", _metrics("same_diagnosis")),
)
