"""Every parameter of every attack and defence holds what its annotation says, or is refused by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pytest

from secagg.errors import Refused
from secagg.leakage import attacks, defences
from secagg.leakage.parameters import Count, check

LABELS = {"IDLG", "ILRG", "RLU"}  # no settings but tensors
SETTINGS: dict[str, type[Any]] = {
    name: getattr(module, name) for module in (attacks, defences) for name in module.__all__ if name not in LABELS
}
NEEDED: dict[str, dict[str, Any]] = {
    "ClipAndNoise": {"clip_l2": 1.0, "noise_multiplier": 1.0},
    "LocalDP": {"clip_l1": 1.0, "epsilon": 1.0},
    "Pruning": {"share_pruned": 0.5},
    "SelectiveEncryption": {"share_encrypted": 0.5},
}
COUNTS = {"iterations", "one_step", "restarts", "starts", "width"}
FROM_ZERO = {"tv", "statistics", "tolerance", "invariance", "noise_multiplier"}
SHARES = {"zero", "share_pruned", "share_encrypted", "share_hidden", "p"}
UP_TO_ONE = {"step", "agreement"}
CHOICES = {"distance": "euclidean", "chosen": "random", "assumed": "initial", "policies": ("invert", "rotate")}
PARAMETERS = [(name, field.name) for name, made in SETTINGS.items() for field in fields(made)]


def build(name: str, **given: object) -> Any:
    return SETTINGS[name](**(NEEDED.get(name, {}) | given))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -1e-9, "many", "1", "", None, True, [1], (), {}])
@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_no_parameter_takes_what_is_no_value_of_it(name: str, parameter: str, value: object) -> None:
    with pytest.raises(Refused, match=rf"^{SETTINGS[name].name}: {parameter} is .*, expected .*"):
        build(name, **{parameter: value})


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_the_ends_of_each_range(name: str, parameter: str) -> None:
    good: list[object]
    bad: list[object]
    if parameter in COUNTS:
        good, bad = [1, 1_000_000, np.int64(7)], [0, 1_000_001, 10**400, 1.0, 2.5]
    elif parameter in FROM_ZERO:
        good, bad = [0, 0.0, 3, 1e300, np.float32(0.5)], [10**400]
    elif parameter in SHARES:
        good, bad = [0.5, 1e-9, np.float64(0.25)], [0, 0.0, 1, 1.0, 2.0]
    elif parameter in UP_TO_ONE:
        good, bad = [1, 1.0, 1e-9], [0, 0.0, 1.0001, 1e300]
    elif parameter in CHOICES:
        good, bad = [CHOICES[parameter]], ["cos", ("flip", "blur"), "flip", 0]
    else:
        good, bad = [1e-9, 3, 1e300], [0, 0.0, 10**400]
    for value in good:
        assert getattr(build(name, **{parameter: value}), parameter) == value
    for value in bad:
        with pytest.raises(Refused, match=f"{parameter} is"):
            build(name, **{parameter: value})


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(Refused) as refused:
        build("InvertingGradients", distance="x" * 100_000)
    assert len(str(refused.value)) < 200


def test_a_type_without_a_rule_is_a_mistake_of_the_class() -> None:
    @dataclass(frozen=True)
    class Mine:
        iterations: Count = 1
        tv: float = 0.0

        name: ClassVar[str] = "mine"

    with pytest.raises(TypeError, match="no rule"):
        check(Mine())
