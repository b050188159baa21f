"""What an evaluation file gives to attacks and defences is refused in one line, or built."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any

import pytest

from fl_runtime.evaluation.evaluate import plan
from fl_runtime.evaluation.matrix.catalogue import ATTACKS, DEFENCES, build_attack, build_defence, check_attack
from secagg.errors import Refused
from secagg.leakage.defences import Transformation

NAN = float("nan")
WHERE = {kind: attack.where for kind, attack in ATTACKS.items()} | dict(DEFENCES)

NEEDED: dict[str, dict[str, Any]] = {
    "clip-and-noise": {"clip_l2": 1, "noise_multiplier": 1},
    "local-dp": {"clip_l1": 1, "epsilon": 1},
    "selective-encryption": {"share_encrypted": 0.5},
}


def parameters_of(kind: str) -> list[Any]:
    module, name = WHERE[kind].split(":")
    return [field.name for field in fields(getattr(import_module(module), name)) if field.type != "str"]


@pytest.mark.parametrize("value", [NAN, -1, "many", True, [], ["a"], {"a": 1}, None])
@pytest.mark.parametrize(("kind", "parameter"), [(kind, name) for kind in WHERE for name in parameters_of(kind)])
def test_every_parameter_of_every_kind_is_refused_in_one_line(kind: str, parameter: str, value: object) -> None:
    what, build = ("attack", build_attack) if kind in ATTACKS else ("defence", build_defence)
    with pytest.raises(Refused) as refused:
        build(kind, NEEDED.get(kind, {}) | {parameter: value})
    text = str(refused.value)
    assert text.startswith(f"{what} '{kind}': {parameter} is ")
    assert ", expected " in text
    assert "\n" not in text


def test_text_is_expected_where_a_layer_is_named() -> None:
    assert build_attack("model-inconsistency", {"layer": "0"}).layer == "0"
    with pytest.raises(Refused, match="attack 'model-inconsistency': layer is 3, expected text"):
        build_attack("model-inconsistency", {"layer": 3})


def test_the_line_names_attack_parameter_value_and_what_was_expected() -> None:
    for given, line in (
        ({"tv": NAN}, "attack 'inverting-gradients': tv is nan, expected a finite number from 0"),
        ({"step": 0}, "attack 'inverting-gradients': step is 0, expected a number above 0 and up to 1"),
        (
            {"iterations": "many"},
            "attack 'inverting-gradients': iterations is 'many', expected a whole number from 1 to 1000000",
        ),
        (
            {"distance": "cos"},
            "attack 'inverting-gradients': distance is 'cos', expected one of 'cosine', 'euclidean'",
        ),
    ):
        with pytest.raises(Refused) as refused:
            build_attack("inverting-gradients", given)
        assert str(refused.value) == line


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("pruning", {}, "defence 'pruning': share_pruned: required, and not given"),
        ("clip-and-noise", {"clip_l2": 1}, "defence 'clip-and-noise': noise_multiplier: required, and not given"),
        ("pruning", {"share_prune": 0.5}, r"unknown parameter 'share_prune' \(did you mean 'share_pruned'\?\)"),
        ("none", {"p": 0.5}, r"defence 'none': unknown parameter 'p' \(it has no parameters\)"),
    ],
)
def test_a_parameter_that_is_missing_or_unknown_is_named(kind: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        build_defence(kind, given)


def test_a_list_of_a_file_is_a_tuple_of_the_class() -> None:
    assert build_defence("transformation", {"policies": ["flip", "invert"]}) == Transformation(("flip", "invert"))


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        ({"tv": [1e-4, "a"]}, "tv is 'a', expected a finite number from 0"),
        ({"tv": [1e-4], "step": [0.1, 0.2, NAN]}, "step is nan"),
        ({"tv": []}, "search.tv is empty"),
        ({"vt": [1.0]}, "unknown parameter 'vt'"),
    ],
)
def test_every_value_that_is_searched_is_checked(search: dict[str, list[Any]], reason: str) -> None:
    check_attack("inverting-gradients", {"iterations": 60}, {"tv": [1e-4, 1], "step": [0.1]})
    with pytest.raises(Refused, match=f"^attack 'inverting-gradients': {reason}"):
        check_attack("inverting-gradients", {"iterations": 60}, search)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("attacks.inverting.step=nan", "attack 'inverting-gradients': step is nan"),
        ("attacks.inverting.step=0", "attack 'inverting-gradients': step is 0"),
        ("attacks.inverting.iterations=many", "iterations is 'many', expected a whole number"),
        ('attacks.inverting.search.tv=["a"]', "tv is 'a', expected a finite number"),
        ("attacks.inverting.search.tv=[nan]", "tv"),
        ("defences.pruning.share_pruned=nan", "share_pruned is nan"),
        ('defences.pruning.share_pruned=["a"]', r"share_pruned is \('a',\), expected a number"),
    ],
)
def test_a_bad_value_from_the_command_line_is_refused_before_anything_is_computed(settings, override, reason) -> None:
    with pytest.raises(Refused, match=reason):
        plan(settings(override))
