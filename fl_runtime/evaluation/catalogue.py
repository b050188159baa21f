"""Attacks and defences by the name under which an evaluation file asks for them, known without loading any.

An attack's family says what is recovered, and so how success is told: images out of an update, labels, images by a
malicious model, one client's update by two models, or membership of an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from secagg.errors import Refused, did_you_mean

if TYPE_CHECKING:
    from secagg.leakage import Attack, Defence

Family = Literal["inversion", "labels", "imprint", "inconsistency", "membership"]

IMAGE_RANGES: Mapping[str, tuple[float, float]] = {
    "blood_cells": (0.0, 1.0),
    "digits": (0.0, 1.0),
    "medmnist": (-1.0, 1.0),
}
"""Data sets of images, with the smallest and the largest value that a pixel can have."""


@dataclass(frozen=True)
class Kind:
    """`where`: module and class, below `secagg.leakage`; empty where the family has its own code."""

    family: Family
    where: str = ""


ATTACKS: Mapping[str, Kind] = {
    "inverting-gradients": Kind("inversion", "attacks.inverting:InvertingGradients"),
    "deep-leakage": Kind("inversion", "attacks.lbfgs:DeepLeakage"),
    "local-steps-simulation": Kind("inversion", "attacks.local_steps:LocalStepsSimulation"),
    "analytic-linear": Kind("inversion", "attacks.analytic:AnalyticLinear"),
    "head-only": Kind("inversion", "attacks.head_only:HeadOnly"),
    "spear": Kind("inversion", "attacks.spear:Spear"),
    "labels": Kind("labels"),
    "imprint": Kind("imprint"),
    "model-inconsistency": Kind("inconsistency"),
    "membership": Kind("membership"),
}

DEFENCES: Mapping[str, str] = {
    "none": "defences:Defence",
    "clip-and-noise": "defences:ClipAndNoise",
    "dropout": "defences:Dropout",
    "head-sharing": "defences:HeadSharing",
    "local-dp": "defences:LocalDP",
    "precode": "defences:Precode",
    "pruning": "defences:Pruning",
    "selective-encryption": "defences:SelectiveEncryption",
    "soteria": "defences:Soteria",
    "transformation": "defences:Transformation",
    "withheld-statistics": "defences:WithheldStatistics",
}

UNSEEN = frozenset({"selective-encryption", "withheld-statistics"})
"""Defences that hide from the adversary what is in the sum all the same: training is what it is without them."""


def build_attack(kind: str, parameters: Mapping[str, Any]) -> Attack:
    """The attack of this kind, its parameters as a file gives them.

    Raises:
        Refused: a parameter that it does not know, one that is missing, or a value that it refuses. One line that names
            the attack, the parameter, what was expected and what was given.
    """
    attack: Attack = _build("attack", ATTACKS[kind].where, kind, parameters)
    return attack


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
    made = getattr(import_module(f"secagg.leakage.{module}"), name)
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
