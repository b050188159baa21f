"""Rounding to whole numbers: to the nearest, or up or down by chance, so that rounding takes nothing from the mean.

Guarantee of stochastic rounding, given uniform bytes from `rng` and AES-256 as a pseudorandom function: every result is
one of the two whole numbers beside the value, and its expectation is off by less than 2^-32 (away from zero). A whole
number stays as it is.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secagg.gaussian import Keystream, Rng

Rounding = Literal["nearest", "stochastic"]
_STEPS = 2**32


def largest(value: Fraction, rounding: Rounding) -> int:
    """The largest whole number to which `value`, 0 or more, can be rounded."""
    return round(value) if rounding == "nearest" else math.ceil(value)


class Nearest:
    """To the nearest whole number, halves to the even one."""

    def round(self, values: NDArray[np.float64]) -> None:
        """Round in place."""
        np.rint(values, out=values)

    def repeated(self, value: Fraction, count: int, dtype: np.dtype[Any]) -> NDArray[np.signedinteger[Any]]:
        """One exact value, 0 or more, rounded `count` times."""
        return np.full(count, round(value), dtype)


class Stochastic:
    """Away from zero with the probability that the fraction says (in steps of 2^-32), else towards it."""

    def __init__(self, rng: Rng) -> None:
        self._stream = Keystream(rng)

    def round(self, values: NDArray[np.float64]) -> None:
        """Round in place. The parts of a float64 are exact, so that its rounding is the only one."""
        fraction = np.empty_like(values)
        np.modf(values, out=(fraction, values))
        away = self._draw(values.size) < np.abs(fraction) * _STEPS
        values += np.copysign(away, fraction)

    def repeated(self, value: Fraction, count: int, dtype: np.dtype[Any]) -> NDArray[np.signedinteger[Any]]:
        """One exact value, 0 or more, rounded `count` times."""
        whole = math.floor(value)
        out = np.full(count, whole, dtype)
        out += self._draw(count) < math.ceil((value - whole) * _STEPS)
        return out

    def _draw(self, count: int) -> NDArray[np.uint32]:
        return np.frombuffer(self._stream.bytes(4 * count), "<u4")


def rounder(rounding: Rounding, rng: Rng) -> Nearest | Stochastic:
    """What rounds one vector; `rng` is asked only for chance."""
    return Nearest() if rounding == "nearest" else Stochastic(rng)
