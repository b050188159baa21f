"""A run's claim, audited: the run's mechanism at its own parameters, on canaries instead of clients (`dp.audit`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dp.audit.run import Auditor, Design
from fl_runtime.experiment import Experiment
from secagg.errors import Refused
from secagg.registry import Composition


def check_audit(experiment: Experiment, composition: Composition) -> None:
    """Raise `Refused` if an audit is asked for that cannot be made."""
    if experiment.privacy.audit_canaries is not None:
        _auditor(experiment, composition, {"noise_multiplier": 1.0, "steps": 1, "sampling_rate": 1.0})


def audit_run(experiment: Experiment, composition: Composition, spent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Audit what a whole run has `spent`, and return the entry for its data sheet."""
    found = _auditor(experiment, composition, spent).run()
    what = "confidence", "canaries", "guesses", "right", "rounds", "seed", "p_value", "verdict"
    return {
        "epsilon": found.lower_bound,
        "delta": found.claim.delta,
        "claim": found.claim.epsilon,
        **{name: getattr(found, name) for name in what},
        "of": "the mechanism at the parameters of this run, on canaries alone; nobody's data was in it",
    }


def _auditor(experiment: Experiment, composition: Composition, spent: Mapping[str, Any]) -> Auditor:
    parameters: dict[str, Any] = dict(composition.backend.parameters)
    rounds, rate = experiment.experiment.rounds, 1.0
    if composition.training is not None:
        # Of the client that spent most, whose epsilon the sheet states.
        parameters |= {**composition.training.parameters, "noise_multiplier": spent["noise_multiplier"]}
        parameters.pop("target_epsilon", None)
        rounds, rate = spent["steps"], spent["sampling_rate"]
    design = Design(
        canaries=experiment.privacy.audit_canaries,
        rounds=rounds,
        sampling_rate=rate,
        seed=experiment.experiment.seed,
    )
    try:
        return Auditor(composition.name, parameters, design)
    except Refused as error:
        raise Refused(f"privacy.audit_canaries: {error}") from None
