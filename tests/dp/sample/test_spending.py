"""What is charged, and that another accountant, Opacus' PRV (Gopi et al. 2021, arXiv 2106.02848), agrees."""

from __future__ import annotations

import pytest
from opacus.accountants import PRVAccountant

from dp.accountant import Charge
from dp.sample.spending import Spending, epsilon_of, solve_noise_multiplier
from secagg.errors import Refused

SETTINGS = [
    (1.0, 0.01, 10_000, 1e-5),
    (1.0, 0.1, 300, 1e-5),
    (0.8, 0.2, 150, 1e-4),
    (3.0, 0.2, 3000, 1e-6),
    (1.2, 0.08, 390, 1e-5),
    (2.0, 1.0, 15, 1e-5),
]


@pytest.mark.parametrize(("multiplier", "rate", "steps", "delta"), SETTINGS)
def test_d10_a_second_accountant_agrees_within_one_percent(
    multiplier: float, rate: float, steps: int, delta: float
) -> None:
    random_variables = PRVAccountant()
    random_variables.history = [(multiplier, rate, steps)]
    assert epsilon_of((Charge(multiplier, steps, rate),), delta) == pytest.approx(
        random_variables.get_epsilon(delta), rel=0.01
    )


def test_a_loose_delta_makes_no_epsilon_negative_and_a_tight_one_has_one() -> None:
    assert epsilon_of((Charge(30.0, 10, 0.5),), 0.3) >= 0
    assert 0 < epsilon_of((Charge(0.6, 200, 0.05),), 1e-14) < 100


def test_every_owner_has_an_account_and_the_worst_one_is_claimed() -> None:
    spending = Spending()
    assert spending.worst(1e-5) == (0.0, ())
    for owner, steps, rate in (("small", 10, 0.5), ("large", 40, 0.05)):
        for _ in range(steps):
            spending.step(owner, noise_multiplier=1.0, sample_rate=rate)
    assert (spending.steps("small"), spending.steps("large"), spending.steps("nobody")) == (10, 40, 0)
    expected = {owner: epsilon_of(spending.history(owner), 1e-5) for owner in ("small", "large")}
    assert spending.worst(1e-5) == (max(expected.values()), (Charge(1.0, 10, 0.5),))


@pytest.mark.parametrize(("target", "rate", "steps"), [(1.0, 0.02, 500), (8.0, 0.1, 390), (50.0, 1.0, 30)])
def test_the_noise_that_is_solved_for_meets_the_target_and_little_more(target: float, rate: float, steps: int) -> None:
    multiplier = solve_noise_multiplier(target, 1e-5, sample_rate=rate, steps=steps)
    assert 0.98 * target <= epsilon_of((Charge(multiplier, steps, rate),), 1e-5) <= target


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan")])
def test_a_target_that_is_no_epsilon_is_refused(target: float) -> None:
    with pytest.raises(Refused, match=r"target_epsilon is .*, expected a positive number"):
        solve_noise_multiplier(target, 1e-5, sample_rate=0.5, steps=10)
