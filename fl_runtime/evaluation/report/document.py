"""`report.json`, schema `secagg.report/1`: every figure of an evaluation, and all that a reader needs to repeat it.

`rows` has the fields that scripts rely on. What else a report says stands beside it: `details` (one entry for each
combination, in words), `sees`, `datasheets`, `trainings`, `settings`, `damaged`.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fl_runtime.evaluation.attempts.cache import versions
from fl_runtime.evaluation.evaluate import Finished
from fl_runtime.evaluation.matrix.cells import key, repeats
from fl_runtime.evaluation.matrix.settings import Evaluation
from fl_runtime.evaluation.report import words
from fl_runtime.evaluation.report.audit import canary_audit, lower_bound, spent
from fl_runtime.evaluation.report.checklist import checklist
from fl_runtime.evaluation.rows import Figure, Row
from secagg import registry
from secagg.record import canonical_json

SCHEMA = "secagg.report/1"


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
        "checklist": [vars(point) | {"complete": point.complete} for point in checklist(finished)],
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
        "reads": row.first.kind,
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
    backend, rounds = finished.backends[label].backend, finished.evaluation.evaluation.rounds
    composition = registry.build(backend.kind, registry.for_rounds(backend.kind, backend.parameters, rounds))
    return {
        "backend": backend.kind,
        "parameters": dict(backend.parameters),
        "guarantees": composition.guarantees.to_json(),
        "differential_privacy": spent(finished, backend),
        "canary_audit": canary_audit(finished, backend),
        "empirical_lower_bound": lower_bound(finished, backend),
    }
