"""What a backend claims of differential privacy, and the epsilons that canaries and a membership attack refute."""

from __future__ import annotations

import math
from typing import Any

from dp.audit.run import POWERLESS
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.matrix.cells import Part, key

NO_AUDIT = "no audit was run"


def spent(finished: Finished, backend: Part) -> dict[str, Any] | None:
    """The claim after the first training under a backend, or None for none."""
    claim: dict[str, Any] | None = _training(finished, backend)["spent"]
    return claim


def guarantees(claim: dict[str, Any] | None) -> bool:
    """Whether a claim says anything: at a delta of 1 everything may be told apart."""
    return claim is not None and claim["delta"] < 1


def canary_audit(finished: Finished, backend: Part) -> dict[str, Any] | None:
    """The audit on canaries of the first training under a backend, or None for none."""
    audit: dict[str, Any] | None = _training(finished, backend)["audit"]
    return audit


def powerless(audit: dict[str, Any] | None) -> bool:
    """Whether an audit could not have refuted its claim, whatever it found."""
    return audit is not None and audit["verdict"] == POWERLESS


def _training(finished: Finished, backend: Part) -> dict[str, Any]:
    row = next(row for row in finished.rows if row.cell.backend == backend)
    return finished.results[key(row.cell.training())]


def lower_bound(finished: Finished, backend: Part) -> float | str:
    """The largest epsilon that the first membership attack on this backend refutes at 95 %, or why there is none.

    Hits and false alarms of a threshold set on other rows, by their intervals. A row is replaced, which is one unit
    removed and one added: hits are at most e^(2 epsilon) false alarms and (1 + e^epsilon) delta. Rows of one training
    are taken as independent. Only the first attack counts: the best of several would want a wider interval.
    """
    for row in finished.rows:
        hit, wrong = row.figures.get("found"), row.figures.get("false_alarms")
        if row.cell.backend == backend and row.cell.family == "membership" and hit and wrong:
            claim = row.first.spent or spent(finished, backend)
            return refuted_epsilon(hit.low or 0.0, wrong.high or 1.0, delta=0.0 if claim is None else claim["delta"])
    return NO_AUDIT


def refuted_epsilon(hits: float, false_alarms: float, *, delta: float) -> float:
    """The epsilon at which `hits` = e^(2 epsilon) `false_alarms` + (1 + e^epsilon) `delta`, or 0."""
    if hits <= false_alarms + 2 * delta:
        return 0.0
    root = math.sqrt(delta * delta + 4 * false_alarms * (hits - delta))
    return math.log((root - delta) / (2 * false_alarms))
