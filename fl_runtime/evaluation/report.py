"""`report.json`, schema `secagg.report/1`: every figure of an evaluation, and all that a reader needs to repeat it.

`rows` has the fields that scripts rely on. What else a report says stands beside it: `details` (one entry for each
combination, in words), `sees`, `datasheets`, `trainings`, `settings`, `damaged`.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

from fl_runtime.evaluation import words
from fl_runtime.evaluation.cache import versions
from fl_runtime.evaluation.cells import Cell, key, repeats
from fl_runtime.evaluation.checklist import checklist
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.rows import Figure, Row
from fl_runtime.evaluation.settings import Evaluation
from secagg import registry
from secagg.record import canonical_json

SCHEMA = "secagg.report/1"
NO_AUDIT = "no audit was run"


def to_json(finished: Finished, *, command: str) -> dict[str, Any]:
    """The whole report as plain values. `command` reproduces it."""
    evaluation = finished.evaluation
    return {
        "schema": SCHEMA,
        "config_digest": config_digest(evaluation),
        "data_digest": finished.rows[0].cell.world.data_digest,
        "versions": versions(),
        "command": command,
        "rows": [entry for row in finished.rows for entry in _entries(row)],
        "title": evaluation.evaluation.title,
        "settings": evaluation.model_dump(mode="json"),
        "details": [_details(row) for row in finished.rows],
        "sees": {label: finished.results[key(job)] for label, job in finished.backends.items()},
        "datasheets": {label: _datasheet(finished, label) for label in finished.backends},
        "trainings": _trainings(finished),
        "damaged": list(finished.damaged),
        "checklist": [vars(point) for point in checklist(finished)],
    }


def config_digest(evaluation: Evaluation) -> str:
    """SHA-256 (hex) of the settings as canonical JSON, defaults included. Paths count as written."""
    return hashlib.sha256(b"fl_runtime/v1/evaluation" + canonical_json(evaluation.model_dump(mode="json"))).hexdigest()


def _entries(row: Row) -> list[dict[str, Any]]:
    """A row of the schema for each metric; one without a value where the attack could not be run."""
    figures = row.figures or {"none": Figure(float("nan"), None, None, 0)}
    return [
        {
            "backend": row.cell.backend.label,
            "defence": row.cell.defence.label,
            "attack": row.cell.attack.label,
            "setting": row.cell.axes,
            "metric": metric,
            "value": None if metric == "none" else found.value,
            "low": found.low,
            "high": found.high,
            "n": found.n,
            "control_succeeded": row.control_succeeded,
            "inconclusive": row.inconclusive,
            "utility": None if row.utility is None else row.utility.value,
            "upload_bytes": row.upload_bytes,
            "seconds": row.seconds,
        }
        for metric, found in figures.items()
    ]


def _details(row: Row) -> dict[str, Any]:
    return {
        "backend": row.cell.backend.label,
        "defence": row.cell.defence.label,
        "attack": row.cell.attack.label,
        "setting": row.cell.axes,
        "is_control": row.is_control,
        "verdict": row.verdict,
        "threat_model": words.threat_model(row),
        "success_metric": row.cell.traits.success,
        "by_chance": row.by_chance,
        "updates_in_view": row.first.cohort,
        "utility": None if row.utility is None else vars(row.utility),
        "iterations": sum(m.iterations for m in row.measured),
        "search": [{"repeat": number, **tried} for number, m in enumerate(row.measured) for tried in m.search],
        "notes": list(dict.fromkeys(note for m in row.measured for note in m.notes)),
        "problem": row.problem,
    }


def _trainings(finished: Finished) -> list[dict[str, Any]]:
    """The scores of every training: one entry for each repeat of a model, backend and defence."""
    found: dict[str, dict[str, Any]] = {}
    for row in finished.rows:
        for cell in repeats(row.cell, finished.evaluation):
            job = cell.training()
            result = finished.results[key(job)]
            found[key(job)] = {
                "model": cell.setting.model,
                "backend": cell.backend.label,
                "defence": cell.defence.label,
                "repeat": cell.repeat,
                **{name: result[name] for name in ("accuracy", "auc", "loss", "upload_bytes", "spent")},
            }
    return list(found.values())


def _datasheet(finished: Finished, label: str) -> dict[str, Any]:
    """What the backend promises, and the privacy that its trainings spent."""
    row: Cell = next(row.cell for row in finished.rows if row.cell.backend.label == label)
    parameters = registry.for_rounds(row.backend.kind, row.backend.parameters, row.world.rounds)
    composition = registry.build(row.backend.kind, parameters)
    return {
        "backend": row.backend.kind,
        "parameters": dict(row.backend.parameters),
        "guarantees": composition.guarantees.to_json(),
        "differential_privacy": finished.results[key(row.training())]["spent"],
        "empirical_lower_bound": _lower_bound(finished, label),
    }


def _lower_bound(finished: Finished, label: str) -> float | str:
    """The largest epsilon that the first membership attack on this backend refutes at 95 %, or why there is none.

    Hits and false alarms of a threshold set on other rows, by their intervals. A row is replaced, which is one unit
    removed and one added: hits are at most e^(2 epsilon) false alarms and (1 + e^epsilon) delta. Rows of one training
    are taken as independent. Only the first attack counts: the best of several would want a wider interval.
    """
    for row in finished.rows:
        hit, wrong = row.figures.get("found"), row.figures.get("false_alarms")
        if row.cell.backend.label == label and row.cell.family == "membership" and hit and wrong:
            spent = finished.results[key(row.cell.training())]["spent"]
            return refuted_epsilon(hit.low or 0.0, wrong.high or 1.0, delta=0.0 if spent is None else spent["delta"])
    return NO_AUDIT


def refuted_epsilon(hits: float, false_alarms: float, *, delta: float) -> float:
    """The epsilon at which `hits` = e^(2 epsilon) `false_alarms` + (1 + e^epsilon) `delta`, or 0."""
    if hits <= false_alarms + 2 * delta:
        return 0.0
    root = math.sqrt(delta * delta + 4 * false_alarms * (hits - delta))
    return math.log((root - delta) / (2 * false_alarms))
