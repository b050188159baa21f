"""What an evaluation of leakage must show, and which of it this one shows: found in the rows, never assumed.

Each point names all that it requires. It is complete only if all of that is there; what is not, is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.audit import canary_audit, guarantees, lower_bound, powerless, spent
from fl_runtime.evaluation.report.protections import Group, by_protection, has_defence
from fl_runtime.evaluation.report.sweeps import BATCH, COHORT, LOCAL, STAGES, sweep
from fl_runtime.evaluation.rows import Row

LEAST_REPEATS, LEAST_IMAGES = 3, 10
MALICIOUS = ("imprint", "inconsistency")


class Found(NamedTuple):
    """What there is of a point, "" for nothing, and what of it is missing."""

    evidence: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """One point of the list: the section of the page where it is, what there is of it, and what is missing."""

    text: str
    section: str
    evidence: str
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that the point requires is there."""
        return bool(self.evidence) and not self.missing

    @property
    def in_words(self) -> str:
        """What there is, and what is missing."""
        lacking = f"missing: {_listed(self.missing)}" if self.missing else ""
        return "; ".join(filter(None, (self.evidence, lacking))) if self.evidence else "not in this evaluation"


def checklist(finished: Finished) -> list[Point]:
    """All 22 points, in their order."""
    return [Point(text, section, *look(finished)) for text, section, look in _POINTS]


Look = Callable[[Finished], Found]


def _count(what: str, chosen: Callable[[Row], bool]) -> Look:
    """One row or more."""

    def look(finished: Finished) -> Found:
        count = sum(map(chosen, finished.rows))
        return Found(f"{count} {what if count > 1 else what.replace('rows', 'row')}" if count else "")

    return look


def _values(name: str, axis: str, *required: str) -> Look:
    """Every value of an axis, in rows that could be run."""

    def look(finished: Finished) -> Found:
        there = {row.cell.axes.get(axis) for row in finished.rows if row.problem is None}
        return _of(name, {value: value in there for value in required})

    return look


def _metrics(*names: str) -> Look:
    def look(finished: Finished) -> Found:
        there = {name for row in finished.rows for name in words.shown(row)}
        missing = tuple(words.METRICS[name] for name in names if name not in there)
        return Found("; ".join(words.METRICS[name] for name in names if name in there), missing)

    return look


def _of(name: str, required: Mapping[str, bool]) -> Found:
    """Of what is required, what is there and what is not."""
    there = _listed(part for part, found in required.items() if found)
    missing = tuple(part for part, found in required.items() if not found)
    return Found(f"{name}: {there}" if name and there else there, missing)


def _protected(finished: Finished) -> Found:
    """What was attacked under homomorphic encryption and secret sharing, and under secure sums."""
    rows = [row for row in finished.rows if row.cell.backend.kind not in ("plain", "dp", "dp-sgd")]
    return _of(
        "",
        {
            "the sum": any(row.first.cohort > 1 for row in rows),
            "the key holder": any("helper" in row.cell.setting.adversary.split(" and ")[0] for row in rows),
            "collusion": any(row.collusion for row in rows),
            "a cohort of one": any(row.first.cohort == 1 for row in rows),
        },
    )


def _altering(finished: Finished) -> list[Group]:
    """Protections that change what is read, by a defence or by noise, where images were looked for in it."""
    rows = [row for row in finished.rows if row.cell.family == "inversion" and words.shown(row)]
    return by_protection(row for row in rows if has_defence(row) or "dp" in row.cell.backend.kind)


def _tuned(finished: Finished) -> Found:
    def searched(row: Row) -> bool:
        return all(any(tried["images"] for tried in measured.search) for measured in row.measured)

    return _each(_altering(finished), "with a search", searched)


def _adaptive(finished: Finished) -> Found:
    groups = _altering(finished)
    aware, missing = _each(groups, "by an attack that is aware", lambda row: row.cell.setting.adaptive)
    unaware = sum(group.where(lambda row: not row.cell.setting.adaptive) is not None for group in groups)
    if not unaware:
        return Found(aware, (*missing, "one that is unaware, to compare"))
    return Found("; ".join(filter(None, (aware, f"{unaware} also by one that is not"))), missing)


def _each(groups: list[Group], what: str, chosen: Callable[[Row], bool]) -> Found:
    """How many protections have a row that is so, and which have none."""
    lacking = tuple(group.name for group in groups if group.where(chosen) is None)
    there = len(groups) - len(lacking)
    return Found(f"{there} of {len(groups)} defences and kinds of noise {what}" if there else "", lacking)


def _sweeps(finished: Finished) -> Found:
    """The longest sweep along each axis, everything else equal."""
    parts, missing = [], []
    for name, axis in (("images", BATCH), ("local epochs", LOCAL), ("updates in the sum", COHORT)):
        series = sweep(finished.rows, axis)
        if series:
            parts.append(f"{name}: {_listed(series[0].rows)}")
        else:
            missing.append(name)
    return Found("; ".join(parts), tuple(missing))


def _sample(finished: Finished) -> Found:
    terms = finished.evaluation.evaluation
    enough = {
        f"{LEAST_REPEATS} repeats": terms.repeats >= LEAST_REPEATS,
        f"{LEAST_IMAGES} images in each": terms.images >= LEAST_IMAGES,
    }
    return Found(f"{terms.repeats} repeats of {terms.images} images", _of("", enough).missing)


def _controls(finished: Finished) -> Found:
    controls = [row for row in finished.rows if row.is_control]
    worked = sum(row.control_succeeded for row in controls)
    return Found(f"{worked} of {len(controls)} controls succeeded", () if worked else ("a control that succeeds",))


def _private(finished: Finished) -> Found:
    """Claims that promise something, each with the epsilon that an attack refutes."""
    claims, missing = [], []
    for label, job in finished.backends.items():
        claim = spent(finished, job.backend)
        if claim is not None and guarantees(claim):
            audit = canary_audit(finished, job.backend)
            bound = lower_bound(finished, job.backend) if audit is None else audit["epsilon"]
            claims.append(f"{label}: epsilon {claim['epsilon']:.3g} at delta {claim['delta']:.2g}")
            if isinstance(bound, str):
                missing.append(f"an audited lower bound under {label}")
            else:
                claims[-1] += f", audited {bound:.2g}" + (", too few guesses to refute it" if powerless(audit) else "")
    return Found("; ".join(claims), tuple(missing))


def _membership(finished: Finished) -> Found:
    """At 1 %, and at 0.1 %: a rate, or that there are too few non-members to tell."""
    rates = {"1 %": "tpr_at_1_percent", "0.1 %": "tpr_at_0.1_percent"}
    found = {rate: any(name in row.figures for row in finished.rows) for rate, name in rates.items()}
    rows = [row for row in finished.rows if row.cell.family == "membership" and row.problem is None]
    said = {f"{rate} (inconclusive, too few non-members)" if rows and not there else rate: bool(rows)
            for rate, there in found.items()}  # fmt: skip
    return _of("rates of", said)


def _malicious(finished: Finished) -> Found:
    ways = {"a model made for it": "imprint", "two models": "inconsistency"}
    rows = [row for row in finished.rows if row.problem is None and any(m.notes for m in row.measured)]
    return _of("", {way: any(row.cell.family == family for row in rows) for way, family in ways.items()})


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


_POINTS: tuple[tuple[str, str, Look], ...] = (
    ("Threat model per row, and what each party sees", "sees", _count("rows", lambda row: True)),
    ("HE and SMPC: the decrypted sum, the key holder, collusion, a cohort of one", "sees", _protected),
    ("The attack tuned per defence, the search logged", "tuning", _tuned),
    ("An adaptive attack per defence", "rows", _adaptive),
    ("Labels known, inferred, unknown", "rows", _values("labels", "labels", "known", "inferred", "unknown")),
    (
        "BatchNorm statistics known, running, withheld",
        "rows",
        _values("statistics", "statistics", "known", "running", "withheld"),
    ),
    ("Untrained, half-trained and trained checkpoints", "curves", _values("stages", "stage", *STAGES)),
    ("Sweeps over batch, local steps and clients", "curves", _sweeps),
    ("PSNR, SSIM, MSE, matching loss; LPIPS", "rows", _metrics("psnr_db", "ssim", "mse", "matching_loss", "lpips")),
    ("Identification in a gallery, RDLV against a prior", "rows", _metrics("identified", "rdlv")),
    (
        "Clearest image, quantiles, share over a threshold",
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
    ("Membership at low false-positive rates", "membership", _membership),
    ("Malicious server, and whether a client could have noticed", "malicious", _malicious),
    ("Compute budget and convergence", "tuning", _count("rows", lambda row: "converged" in row.figures)),
    (
        "Pictures: clearest, median, poorest",
        "pictures",
        _count("rows", lambda row: bool(words.shown(row)) and any(m.pictures is not None for m in row.measured)),
    ),
    ("Config hash, versions, one command", "reproduce", lambda finished: Found("in the report")),
    ("Does a diagnosis classifier agree on the reconstruction", "rows", _metrics("same_diagnosis")),
)
