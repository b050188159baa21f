"""Attacks and defences by the name under which an evaluation file asks for them, known without loading any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fl_runtime.evaluation.matrix.families import Family
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
    "matched-filter": Kind("inversion", "secagg.leakage.attacks.matched_filter:MatchedFilter"),
    "spear": Kind("inversion", "secagg.leakage.attacks.spear:Spear"),
    "labels": Kind("labels", "fl_runtime.evaluation.matrix.parameters:ReadLabels"),
    "imprint": Kind("imprint", "fl_runtime.evaluation.matrix.parameters:Imprint"),
    "model-inconsistency": Kind("inconsistency", "fl_runtime.evaluation.matrix.parameters:ModelInconsistency"),
    "membership": Kind("membership", "fl_runtime.evaluation.matrix.parameters:Membership"),
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
    """The attack of this kind, or its parameters where the family has its own code; as a file gives them.

    Raises:
        Refused: a parameter that it does not know, one that is missing, or a value that it refuses. One line that names
            the attack, the parameter, what was expected and what was given.
    """
    return _build("attack", ATTACKS[kind].where, kind, parameters)


def check_attack(kind: str, parameters: Mapping[str, Any], search: Mapping[str, Sequence[Any]]) -> None:
    """Raise `Refused`, as `build_attack` does, unless the attack takes every value of every list in `search`."""
    for name, values in search.items():
        if not values:
            raise Refused(f"attack {kind!r}: search.{name} is empty, expected values to choose from")
    first = dict(parameters) | {name: values[0] for name, values in search.items()}
    build_attack(kind, first)
    for name, values in search.items():
        for value in values[1:]:
            build_attack(kind, first | {name: value})


def build_defence(kind: str, parameters: Mapping[str, Any]) -> Defence:
    """The defence of this kind. Raises `Refused` as `build_attack` does."""
    defence: Defence = _build("defence", DEFENCES[kind], kind, parameters)
    return defence


def _build(what: str, where: str, kind: str, parameters: Mapping[str, Any]) -> Any:
    module, name = where.split(":")
    made = getattr(import_module(module), name)
    known = {field.name: field.default for field in fields(made)}
    for parameter in parameters:
        if parameter not in known:
            hint = did_you_mean(parameter, known) if known else " (it has no parameters)"
            raise Refused(f"{what} {kind!r}: unknown parameter {parameter!r}{hint}")
    for parameter, default in known.items():
        if default is MISSING and parameter not in parameters:
            raise Refused(f"{what} {kind!r}: {parameter}: required, and not given")
    # A file has lists where the class has tuples.
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()}
    try:
        return made(**given)
    except Refused as error:
        raise Refused(f"{what} {kind!r}: {str(error).removeprefix(f'{made.name}: ')}") from None
