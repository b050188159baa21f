"""Noise inside the sum: what many clients' shares of noise add up to, and what the sum of them is worth.

Each of n honest clients adds a draw of variance v to each integer coordinate before its vector is protected. Only the
sum is ever seen, and it carries noise of variance n v. Two kinds:

* discrete Gaussian (Kairouz, Liu, Steinke 2021, arXiv 2102.06387). The sum of n draws of N_Z(0, v) is *not* a discrete
  Gaussian. But the chance of every integer is that under N_Z(0, n v) to a factor e^(+-tau),

      tau = 10 * sum_{k=1}^{n-1} exp(-2 pi^2 v k / (k + 1))

  by which the privacy loss of a round over d coordinates may differ by 2 tau d. `check_gaussian` keeps tau d under
  2^-60, less than the accountant's own rounding, so that what holds for one discrete Gaussian of variance n v holds
  for the sum.
* Skellam (Agarwal, Kairouz, Liu 2021, arXiv 2110.04995): the sum is Skellam of variance mu = n v exactly. For integer
  vectors of norms D2 (L2) and D1 (L1) its Renyi divergence at every whole order a > 1 is at most

      a D2^2 / (2 mu) + ((2 a - 1) D2^2 + 6 D1) / (4 mu^2)  <=  a D2^2 / (2 mu) * (1 + (1 + 3 D1 / D2^2) / mu)

  and D1 <= min(sqrt(d) D2, D2^2). `check_skellam` keeps the excess under 2^-14; `skellam_epsilon` charges that, by the
  Renyi accountant of dp-accounting at whole orders, as no privacy loss distribution is known for it.

Guarantee: after the checks, a round releases a sum that is as private, for one client's vector replaced by zero, as the
functions here say, against whoever knows all but n clients' noise and nothing else of those n but the sum.
"""

from __future__ import annotations

import math

from secagg.errors import Refused

MOST_TAU = 2.0**-60
SKELLAM_EXCESS = 2.0**-14
SKELLAM_ACCOUNTANT = "dp-accounting RDP at whole orders, with the Skellam bound of Agarwal et al. 2021"
_WHOLE_ORDERS = (*range(2, 129), *range(136, 513, 8), 768, 1024)


def tau(variance: float, shares: int) -> float:
    """How far the log-probabilities of a sum of `shares` draws of N_Z(0, variance) are from N_Z(0, shares variance)'s.

    Kairouz et al. 2021, theorem 1. An upper bound for every variance of 1/4 and more.
    """
    # Beyond some k the terms are as good as equal, to the larger one.
    first = min(shares - 1, 1000)
    terms = [math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, first + 1)]
    return 10 * (math.fsum(terms) + (shares - 1 - first) * terms[-1]) if terms else 0.0


def check_gaussian(share_sigma: float, *, shares: int, size: int) -> None:
    """Raise `Refused` unless tau is negligible for the noise of `size` coordinates; see the module."""
    found = tau(share_sigma**2, shares) * size
    if not found <= MOST_TAU:
        raise Refused(
            f"dp: each client's share of noise is {share_sigma:.3g} grid steps; {shares} of them make no discrete "
            f"Gaussian (tau d = {found:.3g}, expected 2^-60 at most); a wider ring (modulus_bits) would do, or "
            "mechanism = 'skellam'"
        )


def check_skellam(sigma: float, *, sensitivity: float, size: int) -> None:
    """Raise `Refused` unless Skellam noise of variance sigma^2, in all, is worth nearly a Gaussian; see the module.

    `sensitivity` is D2 in grid steps.
    """
    excess = (1 + 3 * min(math.sqrt(size) / sensitivity, 1)) / sigma**2
    if not excess <= SKELLAM_EXCESS:
        raise Refused(
            f"dp: Skellam noise of {sigma:.4g} grid steps for {size} coordinates within {sensitivity:.4g} steps "
            f"exceeds the Gaussian's divergence by {excess:.3g}, expected 2^-14 at most; a wider ring would do"
        )


def skellam_epsilon(noise_multiplier: float, rounds: int, *, delta: float) -> float:
    """Epsilon of `rounds` sums under Skellam noise of sigma = noise_multiplier * D2, for specs that were checked.

    Guarantee: an upper bound at `delta` (up to float rounding).
    """
    from dp_accounting.rdp import compute_epsilon

    rate = rounds * (1 + SKELLAM_EXCESS) / (2 * noise_multiplier**2)
    found, _ = compute_epsilon(_WHOLE_ORDERS, [rate * order for order in _WHOLE_ORDERS], delta)
    return float(found)


def solve_skellam(target_epsilon: float, target_delta: float, *, rounds: int) -> float:
    """The smallest noise multiplier, to four digits, with `skellam_epsilon` within the target.

    Raises:
        Refused: none up to 2^30 reaches it.
    """
    low, high = 2.0**-10, 2.0**30
    if skellam_epsilon(high, rounds, delta=target_delta) > target_epsilon:
        raise Refused(f"target_epsilon is {target_epsilon:g}: no noise multiplier up to 2^30 reaches it")
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        reached = skellam_epsilon(middle, rounds, delta=target_delta) <= target_epsilon
        low, high = (low, middle) if reached else (middle, high)
    return high
