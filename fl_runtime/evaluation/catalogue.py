"""Attacks and defences by the name under which an evaluation file asks for them, known without loading any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fl_runtime.evaluation.families import Family
from secagg.errors import Refused, did_you_mean

if TYPE_CHECKING:
    from secagg.leakage import Defence


@dataclass(frozen=True)
class Kind:
    """`where`: module and class of the attack, or of its parameters where the family has its own code."""

    family: Family
    where: str


ATTACKS: Mapping[str, Kind] = {
    "inverting-gradients": Kind("inversion", "secagg.leakage.attacks.inverting:InvertingGradients"),
    "deep-leakage": Kind("inversion", "secagg.leakage.attacks.lbfgs:DeepLeakage"),
    "local-steps-simulation": Kind("inversion", "secagg.leakage.attacks.local_steps:LocalStepsSimulation"),
    "analytic-linear": Kind("inversion", "secagg.leakage.attacks.analytic:AnalyticLinear"),
    "head-only": Kind("inversion", "secagg.leakage.attacks.head_only:HeadOnly"),
    "spear": Kind("inversion", "secagg.leakage.attacks.spear:Spear"),
    "labels": Kind("labels", "fl_runtime.evaluation.parameters:ReadLabels"),
    "imprint": Kind("imprint", "fl_runtime.evaluation.parameters:Imprint"),
    "model-inconsistency": Kind("inconsistency", "fl_runtime.evaluation.parameters:ModelInconsistency"),
    "membership": Kind("membership", "fl_runtime.evaluation.parameters:Membership"),
}

DEFENCES: Mapping[str, str] = {
    "none": "secagg.leakage.defences:Defence",
    "clip-and-noise": "secagg.leakage.defences:ClipAndNoise",
    "dropout": "secagg.leakage.defences:Dropout",
    "head-sharing": "secagg.leakage.defences:HeadSharing",
    "local-dp": "secagg.leakage.defences:LocalDP",
    "precode": "secagg.leakage.defences:Precode",
    "pruning": "secagg.leakage.defences:Pruning",
    "selective-encryption": "secagg.leakage.defences:SelectiveEncryption",
    "soteria": "secagg.leakage.defences:Soteria",
    "transformation": "secagg.leakage.defences:Transformation",
    "withheld-statistics": "secagg.leakage.defences:WithheldStatistics",
}

UNSEEN = frozenset({"selective-encryption", "withheld-statistics"})
"""Defences that hide from the adversary what is in the sum all the same: training is what it is without them."""


def build_attack(kind: str, parameters: Mapping[str, Any]) -> Any:
    """The attack of this kind, or its parameters where the family has its own code.

    Raises:
        Refused: a parameter that it lacks, or a value that it refuses.
    """
    return _build("attack", ATTACKS[kind].where, kind, parameters)


def build_defence(kind: str, parameters: Mapping[str, Any]) -> Defence:
    """The defence of this kind. Raises `Refused` as `build_attack` does."""
    defence: Defence = _build("defence", DEFENCES[kind], kind, parameters)
    return defence


def _build(what: str, where: str, kind: str, parameters: Mapping[str, Any]) -> Any:
    module, name = where.split(":")
    made = getattr(import_module(module), name)
    known = [field.name for field in fields(made) if field.init]
    for parameter in parameters:
        if parameter not in known:
            raise Refused(f"{what} {kind!r}: unknown parameter {parameter!r}{did_you_mean(parameter, known)}")
    try:
        return made(**parameters)
    except TypeError as error:
        raise Refused(f"{what} {kind!r}: {error}") from None
