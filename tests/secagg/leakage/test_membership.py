"""Membership scores against obvious twins and against what they must find; readings of the ROC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from secagg.errors import Refused
from secagg.leakage.membership.attacks import confidence, lira, loss_threshold, rmia
from secagg.leakage.membership.roc import Roc


def population(models: int = 32, examples: int = 3000, seed: int = 0) -> dict[str, np.ndarray]:
    """Losses of a target and of shadow models: each example has its own difficulty, and members do better."""
    chance = np.random.default_rng(seed)
    hard = chance.normal(0, 2.5, examples)
    inside = chance.random((models, examples)) < 0.5
    member = chance.random(examples) < 0.5

    def losses(within: np.ndarray) -> np.ndarray:
        return np.log1p(np.exp(-(hard + 2.0 * within + chance.normal(0, 0.6, within.shape))))

    return {
        "losses": losses(member),
        "shadow_losses": losses(inside),
        "inside": inside,
        "member": member,
        "out": losses(np.zeros((models, examples), bool)),
    }


def test_confidence_is_the_logit_of_the_likelihood_at_both_ends() -> None:
    p = np.array([1e-9, 0.1, 0.5, 0.999999])
    np.testing.assert_allclose(confidence(-np.log(p)), np.log(p / (1 - p)), rtol=1e-6)
    assert np.isfinite(confidence(np.array([0.0, 800.0]))).all()


@pytest.mark.parametrize("models", [4, 120])
def test_lira_equals_a_loop_over_examples(models: int) -> None:
    case = population(models=models, examples=60, seed=3)
    case["inside"][:2], case["inside"][2:4] = True, False
    inside = case["inside"]
    phi = -np.log(np.expm1(case["shadow_losses"]))
    target = -np.log(np.expm1(case["losses"]))
    few = min(inside.sum(0).min(), (~inside).sum(0).min()) < 16  # one variance for all, else one for each
    spread = {}
    for kind, mask in (("in", inside), ("out", ~inside)):
        each = np.array([phi[mask[:, i], i].std(ddof=1) for i in range(60)])
        shared = mask.sum(0).min() < 16
        spread[kind] = np.full(60, math.sqrt((each**2).mean())) if shared else each
    assert few == (models == 4)
    for i, score in enumerate(lira(case["losses"], case["shadow_losses"], inside)):
        density = {
            kind: -math.log(spread[kind][i]) - ((target[i] - phi[mask[:, i], i].mean()) / spread[kind][i]) ** 2 / 2
            for kind, mask in (("in", inside), ("out", ~inside))
        }
        assert score == pytest.approx(density["in"] - density["out"], rel=1e-6, abs=1e-6)


def test_rmia_equals_a_loop_over_pairs() -> None:
    case, others = population(models=6, examples=25, seed=4), population(models=6, examples=40, seed=5)
    case["inside"][0], case["inside"][1] = True, False
    scores = rmia(case["losses"], case["shadow_losses"], others["losses"], others["out"], inside=case["inside"])
    likelihood = np.exp(-case["shadow_losses"])
    for i in range(25):
        inside = case["inside"][:, i]
        mean = (likelihood[inside, i].mean() + likelihood[~inside, i].mean()) / 2
        ratio = math.exp(-case["losses"][i]) / mean
        beaten = 0
        for z in range(40):
            other = math.exp(-others["losses"][z]) / (0.65 * np.exp(-others["out"][:, z]).mean() + 0.35)
            beaten += ratio / other >= 2.0
        assert scores[i] == pytest.approx(beaten / 40)


def test_shadow_models_find_what_a_threshold_cannot() -> None:
    case, others = population(), population(seed=9)
    member = case["member"]
    simple = Roc.of(loss_threshold(case["losses"]), member)
    strong = Roc.of(lira(case["losses"], case["shadow_losses"], case["inside"]), member)
    offline = Roc.of(lira(case["losses"], case["out"]), member)
    relative = Roc.of(
        rmia(case["losses"], case["shadow_losses"], others["out"][0], others["out"][1:], inside=case["inside"]), member
    )
    assert simple.auc() < 0.8 < offline.auc() < strong.auc()
    assert relative.auc() > 0.8
    assert strong.at(0.01).tpr > 10 * simple.at(0.01).tpr  # type: ignore[operator]


def test_nothing_is_found_where_membership_changes_nothing() -> None:
    case = population()
    nobody = np.random.default_rng(1).random(3000) < 0.5
    scores = lira(case["out"][0], case["shadow_losses"], case["inside"])
    assert Roc.of(scores, nobody).auc() == pytest.approx(0.5, abs=0.05)
    assert Roc.of(scores, nobody).at(0.01).tpr == pytest.approx(0.01, abs=0.01)


def test_a_rate_without_enough_non_members_is_inconclusive() -> None:
    scores, member = np.arange(10_010.0), np.arange(10_010) >= 9_999
    few = Roc.of(scores, member).at(0.001)
    assert few.inconclusive
    assert few.interval is None
    assert str(few) == "inconclusive at 0.1 % FPR: 9999 non-members, 10000 are needed"
    enough = Roc.of(np.arange(10_010.0), np.arange(10_010) >= 10_000).at(0.001)
    assert (enough.tpr, enough.members, enough.non_members) == (1.0, 10, 10_000)
    assert enough.interval is not None
    assert enough.interval.low == pytest.approx(0.6915, abs=1e-3)


def test_the_rate_is_a_count_and_of_ties_some_are_accused_at_random() -> None:
    non_members = np.concatenate([np.zeros(990), np.ones(10)])
    roc = Roc.of(np.concatenate([non_members, [0.5, 1.0, 2.0]]), np.arange(1003) >= 1000)
    assert roc.at(0.01).tpr == pytest.approx(3 / 3)  # ten may be wrong: above 0
    tied = Roc.of(np.concatenate([np.ones(1000), np.ones(5)]), np.arange(1005) >= 1000)
    assert tied.at(0.01).tpr == pytest.approx(0.01)
    assert tied.auc() == 0.5


def test_the_curve_has_the_area_that_is_told_beside_it_ties_included() -> None:
    chance = np.random.default_rng(0)
    scores, member = chance.integers(0, 6, 3000) + np.arange(3000) % 2, np.arange(3000) % 2 == 1
    roc, rates = Roc.of(scores, member), np.linspace(0.01, 1, 991)
    heights = [roc.at(rate).tpr for rate in rates]
    assert np.trapezoid(heights, rates) == pytest.approx(roc.auc(), abs=0.002)
    assert [tpr for _, tpr in roc.log_points()] == pytest.approx([roc.at(rate).tpr for rate, _ in roc.log_points()])


def test_the_log_points_run_from_the_lowest_conclusive_rate_to_one() -> None:
    chance = np.random.default_rng(2)
    member = np.arange(2000) < 1000
    points = Roc.of(chance.normal(member * 1.0), member).log_points()
    assert points[0, 0] == pytest.approx(0.01)
    assert points[-1].tolist() == [1.0, 1.0]
    assert (np.diff(points, axis=0) >= 0).all()
    assert Roc.of([0.0, 1.0], [False, True]).log_points().shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: loss_threshold([np.nan]), "no NaN or negative loss"),
        (lambda: loss_threshold([-1.0]), "no NaN or negative loss"),
        (lambda: lira([1.0, 2.0], [[1.0]] * 4), r"expected both \(models, 2\)"),
        (lambda: lira([1.0], [[1.0], [2.0], [1.0]], [[True], [True], [False]]), "out of 1 shadow models"),
        (lambda: rmia([1.0], [[1.0]], [1.0], [[1.0, 2.0]]), "population_shadow_losses"),
        (lambda: rmia([1.0], [[1.0]], [1.0], [[1.0]], inside=[[True]]), "models in and out for each"),
        (lambda: Roc.of([1.0, 2.0], [True, True]), "got only one of them"),
        (lambda: Roc.of([1.0, np.nan], [True, False]), "without NaN"),
        (lambda: Roc.of([1.0, 2.0], [True, False]).at(0.0), "fpr is 0.0"),
    ],
)
def test_bad_input_is_refused(call: Any, why: str) -> None:
    with pytest.raises(Refused, match=why):
        call()
