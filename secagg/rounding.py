"""Rounding to whole numbers: to the nearest, or up or down by chance, so that rounding takes nothing from the mean.

Guarantee of stochastic rounding, given a uniform key from `rng` and ChaCha20 as a pseudorandom function: every result
is one of the two whole numbers beside the value, and its expectation is off by less than 2^-32. A whole number stays
as it is.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from secagg.errors import Refused
from secagg.gaussian import Rng

Rounding = Literal["nearest", "stochastic"]
KEY_BYTES = 32
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
        """One exact value rounded `count` times."""
        return np.full(count, round(value), dtype)


class Stochastic:
    """Up with the probability that the fraction says, in steps of 2^-32, else down. For vectors of up to `size` values.

    Raises:
        Refused: `rng` does not give a key.
    """

    def __init__(self, rng: Rng, size: int) -> None:
        key = rng(KEY_BYTES)
        if len(key) != KEY_BYTES:
            raise Refused(f"rng gave {len(key)} bytes, expected {KEY_BYTES} to round by")
        self._keystream_into = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update_into
        self._zeros = memoryview(bytes(4 * size))
        self._buffer = np.empty(4 * size, np.uint8)
        self._fraction = np.empty(size)

    def round(self, values: NDArray[np.float64]) -> None:
        """Round in place. A fraction that float64 cannot hold was rounded by 2^-54 at most, and over no step."""
        fraction = self._fraction[: values.size]
        fraction[:] = values
        np.floor(values, out=values)
        fraction -= values
        fraction *= _STEPS
        values += self._draw(values.size) < fraction

    def repeated(self, value: Fraction, count: int, dtype: np.dtype[Any]) -> NDArray[np.signedinteger[Any]]:
        """One exact value rounded `count` times."""
        whole = math.floor(value)
        out = np.full(count, whole, dtype)
        out += self._draw(count) < math.ceil((value - whole) * _STEPS)
        return out

    def _draw(self, count: int) -> NDArray[np.uint32]:
        """The next uniform words of 32 bits, in a buffer that serves the next draw too."""
        self._keystream_into(self._zeros[: 4 * count], self._buffer.data)
        return self._buffer[: 4 * count].view("<u4")


def rounder(rounding: Rounding, rng: Rng, size: int) -> Nearest | Stochastic:
    """What rounds up to `size` values at a time; `rng` is asked only for chance."""
    return Nearest() if rounding == "nearest" else Stochastic(rng, size)
