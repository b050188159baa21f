"""Skellam noise: the difference of two Poisson variables of mean v / 2 each, an integer of variance v.

Sums of Skellam variables are Skellam, exactly, and their variances add up: what the discrete Gaussian is only nearly
(Agarwal, Kairouz, Liu 2021, arXiv 2110.04995; their privacy bound is in `dp.distributed`). The chance of x is
exp(-v) I_|x|(v) with the modified Bessel function I, and is computed downwards by

    I_{x-1}(v) = I_{x+1}(v) + (2 x / v) I_x(v)

in whole numbers (Miller's method), from where less than 2^-184 lies beyond, then divided by the sum. What the start
neglects is below 2^-164. Drawing is by alias table.

Guarantee: given a uniform key from `rng` and AES-256 as a pseudorandom function, the draws are independent, each
within statistical distance 2^-160 of Skellam(v), for every v from 1 to 2^26. `DISTANCE` is that figure, for delta.

Leakage: that of `dp.noise.alias`. No sampler of Skellam noise here leaves the cache without a trace.
"""

from __future__ import annotations

import functools
import math
import secrets
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dp.noise.alias import AliasTable, rounded
from secagg.errors import Refused
from secagg.gaussian import Keystream, Rng

DISTANCE = 2.0**-160
VARIANCE_MIN, VARIANCE_MAX = 1.0, 2.0**26
_BEYOND_BITS = 184
_START = 1 << 320


def skellam(variance: float, size: int, *, rng: Rng = secrets.token_bytes) -> NDArray[np.int64]:
    """Draw `size` independent integers from Skellam(`variance`), in grid steps squared. int64, shape `(size,)`.

    Raises:
        Refused: the variance is outside [1, 2^26], size is negative, or `rng` fails to give two different keys
            (D2, D3).

    Guarantee: that of the module.
    """
    if not VARIANCE_MIN <= variance <= VARIANCE_MAX:
        raise Refused(f"the variance of Skellam noise is {variance:g} grid steps squared, expected 1 to 2^26")
    if size < 0:
        raise Refused(f"size is {size}, expected 0 or more draws")
    return skellam_table(variance).draw(size, Keystream(rng))


@functools.lru_cache(maxsize=4)
def skellam_table(variance: float) -> AliasTable:
    """The table of Skellam(`variance`)."""
    reach = reach_of(variance, bits=_BEYOND_BITS)
    half = _bessel(Fraction(variance), reach)
    return AliasTable(rounded(half[:0:-1] + half), first=-reach)


def reach_of(variance: float, *, bits: float) -> int:
    """An x that a Skellam variable exceeds, on either side, with probability 2^-bits at most (Chernoff's bound)."""

    def log2_beyond(x: float) -> float:
        return 1 + (math.hypot(x, variance) - variance - x * math.asinh(x / variance)) / math.log(2)

    high = math.ceil(math.sqrt(variance))
    while log2_beyond(high) > -bits:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log2_beyond(middle) > -bits else (low, middle)
    return high


def _bessel(variance: Fraction, reach: int) -> list[int]:
    """Numbers proportional to I_0, ..., I_reach at `variance`."""
    above, values = 0, [_START]
    for x in range(reach, 0, -1):
        here = values[-1]
        values.append(above + 2 * x * here * variance.denominator // variance.numerator)
        above = here
    return values[::-1]
