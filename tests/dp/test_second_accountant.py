"""D10: a second accountant, by other people and another method, agrees with ours.

Opacus' PRV accountant (Gopi, Lee, Wutschitz 2021, arXiv 2106.02848) composes privacy loss random variables numerically;
its figure is an upper bound within an error that is asked for.
"""

from __future__ import annotations

import logging
import warnings

import pytest

from dp.accountant import Charge, composed_epsilon

# Noise multiplier, steps, sampling rate, delta: from a run of hospitals to DP-SGD on a large data set.
SETTINGS = [
    (4.0, 50, 1.0, 1e-5),
    (10.0, 500, 1.0, 1e-6),
    (1.0, 1, 1.0, 1e-5),
    (3.0, 50, 0.5, 1e-5),
    (1.5, 200, 0.1, 1e-5),
    (2.0, 30, 0.1, 1e-4),
    (5.0, 1000, 0.05, 1e-6),
    (0.8, 2000, 0.02, 1e-5),
    (1.0, 10_000, 0.01, 1e-5),
    (1.1, 3000, 0.004, 1e-7),
]


def prv_epsilon(charges: list[Charge], delta: float, *, error: float) -> float:
    """Epsilon by Opacus, from above, to within `error`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        from opacus.accountants import PRVAccountant

        logging.disable(logging.NOTSET)
        # At sampling rate 1 it takes the logarithm of 0 on a branch that it throws away.
        accountant = PRVAccountant()
        accountant.history = [(c.noise_multiplier, c.sampling_rate, c.steps) for c in charges]
        return float(accountant.get_epsilon(delta, eps_error=error))


@pytest.mark.parametrize(("noise_multiplier", "steps", "rate", "delta"), SETTINGS)
def test_d10_a_second_accountant_agrees(noise_multiplier: float, steps: int, rate: float, delta: float) -> None:
    charges = [Charge(noise_multiplier, steps, rate)]
    ours = composed_epsilon(charges, delta=delta)
    assert prv_epsilon(charges, delta, error=0.005 * ours) == pytest.approx(ours, rel=0.01)


def test_d10_a_second_accountant_agrees_on_a_composition_of_several_kinds() -> None:
    charges = [Charge(1.0, 1000, 0.01), Charge(6.0, 10), Charge(2.0, 300, 0.05)]
    ours = composed_epsilon(charges, delta=1e-5)
    assert prv_epsilon(charges, 1e-5, error=0.005 * ours) == pytest.approx(ours, rel=0.01)
