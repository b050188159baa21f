"""The slow, obvious twins: the sampler of Canonne, Kamath and Steinke 2020 in whole numbers, and the exact pmf.

Algorithms 1 to 3 of arXiv 2004.00030. Everything random comes from `below`, a uniform integer under a bound.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Below = Callable[[int], int]


def counting_rng(seed: str) -> Callable[[int], bytes]:
    """SHA-256 in counter mode: reproducible, and never the same bytes twice. For tests alone."""
    calls = iter(range(1 << 30))

    def rng(count: int) -> bytes:
        blocks = -(-count // 32)
        return b"".join(hashlib.sha256(f"{seed}/{next(calls)}".encode()).digest() for _ in range(blocks))[:count]

    return rng


def coin_exp(gamma: Fraction, below: Below) -> bool:
    """True with probability exp(-gamma), for a rational gamma >= 0 (algorithm 1)."""
    while gamma > 1:
        if not coin_exp(Fraction(1), below):
            return False
        gamma -= 1
    k = 1
    while below(gamma.denominator * k) < gamma.numerator:
        k += 1
    return k % 2 == 1


def discrete_laplace(scale: int, below: Below) -> int:
    """P(x) proportional to exp(-|x| / scale) (algorithm 2)."""
    while True:
        low = below(scale)
        if not coin_exp(Fraction(low, scale), below):
            continue
        high = 0
        while coin_exp(Fraction(1), below):
            high += 1
        magnitude, negative = low + scale * high, below(2) == 1
        if not (negative and magnitude == 0):
            return -magnitude if negative else magnitude


def discrete_gaussian_by_cks(sigma: Fraction, below: Below) -> int:
    """P(x) proportional to exp(-x^2 / (2 sigma^2)) (algorithm 3)."""
    scale = math.floor(sigma) + 1
    while True:
        x = discrete_laplace(scale, below)
        if coin_exp((abs(x) - sigma**2 / scale) ** 2 / (2 * sigma**2), below):
            return x


def pmf(sigma: float) -> dict[int, float]:
    """N_Z(0, sigma^2) on all that matters: integers up to 40 sigma, normalised by summing over them."""
    reach = math.ceil(40 * sigma)
    weights = {x: math.exp(-(x**2) / (2 * sigma**2)) for x in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def exp_digits(exponent: Fraction, bits: int) -> int:
    """floor(exp(exponent) * 2^bits), from far more decimal digits than that needs."""
    context = Context(prec=bits)
    power = context.exp(context.divide(Decimal(exponent.numerator), Decimal(exponent.denominator)))
    return math.floor(Fraction(power) * (1 << bits))


def goodness_of_fit(batches: Iterable[NDArray[np.int64]], chances: Mapping[int, float]) -> float:
    """The p-value of a chi-square test; values expected fewer than 10 times are pooled outwards, tail by tail.

    `chances` is symmetric: it goes from -reach to reach, in order.
    """
    reach = max(chances)
    seen = np.zeros(2 * reach + 1, np.int64)
    for draws in batches:
        seen += np.bincount(draws + reach, minlength=seen.size)
    wanted = np.array(list(chances.values())) * seen.sum()
    inner = np.flatnonzero(wanted >= 10)
    low, high = slice(0, inner[0]), slice(inner[-1] + 1, None)
    pooled = [np.array([*x[inner], x[low].sum(), x[high].sum()]) for x in (seen, wanted)]
    return float(stats.chisquare(*pooled).pvalue)


def finer_than_its_neighbours(released: NDArray[np.float64]) -> int:
    """The attack of Mironov 2012 and Haney et al. 2021, on values near 0: how many lie off the grid of 2^-53.

    1 + noise never does, in float64, when it comes out near 0; 0 + noise nearly always does. One such value
    tells the two inputs apart, whatever epsilon is claimed.
    """
    near = released[np.abs(released) < 2**-6]
    return int(np.count_nonzero(near * 2.0**53 % 1))
