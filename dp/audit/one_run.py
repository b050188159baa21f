"""From right guesses to a lower bound of epsilon: the one-run audit (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846).

Each of m canaries is in or out by a fair coin of its own. A mechanism runs once, and from what it releases an auditor
guesses the coins of up to r canaries, and is silent about the rest. If the mechanism is (epsilon, delta)-DP for one
canary in or out, then (theorem 5.2), whatever the auditor does,

    P[at least v right] <= f(v) + 2 m delta max_{1 <= i <= v} (f(v - i) - f(v)) / i,

    f(v) = P[B >= v],   B binomial of r trials with chance e^epsilon / (e^epsilon + 1).

Guarantee: for independent fair coins and an r that was fixed before the run, `lower_bound` is larger than the true
epsilon at `delta` with probability 1 - confidence at most.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Refused

_STEP, _PRECISION = 0.125, 1e-6


def right_guesses(scores: NDArray[np.float64], present: NDArray[np.bool_], *, guesses: int) -> int:
    """Guess "in" for the `guesses` / 2 highest scores and "out" for as many of the lowest; how many are right.

    `scores` are float64 `(m,)`, and were made without a look at `present`, bool `(m,)`, the coins.

    Raises:
        Refused: `guesses` is not even, or not from 2 to m.
    """
    check_guesses(guesses, canaries=scores.size)
    order, half = np.argsort(scores, kind="stable"), guesses // 2
    return int(np.count_nonzero(~present[order[:half]]) + np.count_nonzero(present[order[-half:]]))


def check_guesses(guesses: int, *, canaries: int) -> None:
    """Raise `Refused` unless half of the guesses can be "in" and half "out"."""
    if guesses % 2 or not 2 <= guesses <= canaries:
        raise Refused(f"guesses is {guesses}, expected an even number from 2 to the {canaries} canaries")


def p_value(*, canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most that the chance of `right` or more right guesses can be, if the mechanism is (epsilon, delta)-DP.

    Raises:
        Refused: not 0 <= `right` <= `guesses` <= `canaries`, or epsilon or delta is out of range.
    """
    from scipy.stats import binom

    if not 0 <= right <= guesses <= canaries:
        raise Refused(f"{right} right of {guesses} guesses about {canaries} canaries: expected right <= guesses <= all")
    if not (epsilon >= 0 and 0 <= delta < 1):
        raise Refused(f"epsilon is {epsilon}, delta {delta}: expected epsilon >= 0 and delta in [0, 1)")
    chance = 1 / (1 + math.exp(-epsilon))
    # P[B = right - 1], P[B = right - 2], ...: their sums are f(v - i) - f(v).
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    most = float(np.max(below / np.arange(1, right + 1), initial=0.0))
    return min(1.0, float(binom.sf(right - 1, guesses, chance)) + 2 * canaries * delta * most)


def lower_bound(*, canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    """The largest epsilon below which all are ruled out, with `confidence`, by so many right guesses; 0 for none.

    Raises:
        Refused: as `p_value`, or the confidence is outside (0, 1).

    Guarantee: that of the module.
    """
    if not 0 < confidence < 1:
        raise Refused(f"confidence is {confidence}, expected a number above 0 and below 1")

    def ruled_out(epsilon: float) -> bool:
        found = p_value(canaries=canaries, guesses=guesses, right=right, epsilon=epsilon, delta=delta)
        return found <= 1 - confidence

    if not ruled_out(0.0):
        return 0.0
    # Upwards to the first that is not: the p-value need not rise all the way where delta is large.
    low = 0.0
    while ruled_out(low + _STEP):
        low += _STEP
    high = low + _STEP
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if ruled_out(middle) else (low, middle)
    return low
