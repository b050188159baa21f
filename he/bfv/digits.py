"""Digits of a coefficient, and what an encryption of zero needs added to become an encryption of them.

A message M = sum_j d_j 2^(b j) is added to a ciphertext as round(q M / T) modulo every prime. With the integers
D_j nearest to q 2^(b j) / T and the fractions f_j left over, that is sum_j d_j D_j + round(sum_j d_j f_j) to
within 1/2 + 2^-20: products modulo a prime of 60 bits, of which the high half is found in floating point and
the low half is what 64-bit integers keep when they wrap around.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he.bfv.parameters import BfvParameters
from he.residues import Residues

Digits = NDArray[np.int64]


class DigitEncoder:
    """Digits to residues and back, for one parameter set."""

    def __init__(self, parameters: BfvParameters) -> None:
        self._parameters = parameters
        ratio = Fraction(parameters.modulus, parameters.plain_modulus)
        exact = [ratio * (1 << (parameters.digit_bits * place)) for place in range(parameters.digits)]
        steps = [round(value) for value in exact]
        centred = [[_centred(step, prime) for step in steps] for prime in parameters.primes]
        self._steps = np.array(centred, np.int64)
        quotients = [[step / prime for step in row] for row, prime in zip(centred, parameters.primes, strict=True)]
        fractions = [float(value - step) for value, step in zip(exact, steps, strict=True)]
        self._factors = np.array([*quotients, fractions], np.float64)
        self._primes = np.array(parameters.primes, np.int64)[:, None]

    def residues(self, digits: Digits) -> Residues:
        """round(q M / T) modulo q, shape `(primes * N,)`.

        `digits` are the highest ones, shape `(count, N)` with the lowest of them first; those below are zero.
        Each is at most 2^(digit_bits - 1) in magnitude.
        """
        count = digits.shape[0]
        estimates = self._factors[:, -count:] @ digits.astype(np.float64)
        np.rint(estimates, out=estimates)
        whole = estimates.astype(np.int64)
        # Both products wrap around modulo 2^64; their difference is within +-p and does not.
        out: NDArray[np.int64] = self._steps[:, -count:] @ digits
        whole[:-1] *= self._primes
        out -= whole[:-1]
        out += whole[-1]
        out += self._primes & (out >> 63)
        return out.view(np.uint64).reshape(-1)

    def split(self, message: NDArray[np.uint64]) -> Digits:
        """The signed digits, shape `(level_digits, N)`, of what one decryption gave: below 2^level_bits."""
        bits, level = self._parameters.digit_bits, self._parameters.level_bits
        left = (message.astype(np.int64) << (64 - level)) >> (64 - level)
        out = np.empty((self._parameters.level_digits, message.size), np.int64)
        for place in range(out.shape[0] - 1):
            out[place] = (left << (64 - bits)) >> (64 - bits)
            left = (left - out[place]) >> bits
        out[-1] = left
        return out

    def lift(self, residues: Residues) -> Residues:
        """Residues of shape `(..., primes * N)` times 2^level_bits modulo q: the next digits become the highest."""
        bits = self._parameters.level_bits
        rows = residues.reshape(*residues.shape[:-1], len(self._primes), -1)
        whole = (rows.astype(np.float64) * (2.0**bits / self._primes)).astype(np.uint64)
        primes = self._primes.astype(np.uint64)
        # The quotient is off by one at most, so the remainder is in (-p, 2 p) once the wrap-around is undone.
        out: NDArray[Any] = (rows << np.uint64(bits)) - whole * primes
        out += primes & (out.view(np.int64) >> 63).view(np.uint64)
        np.minimum(out, out - primes, out=out)
        return out.reshape(residues.shape)


@lru_cache(maxsize=8)
def open_encoder(parameters: BfvParameters) -> DigitEncoder:
    """The process's encoder for these parameters."""
    return DigitEncoder(parameters)


def _centred(value: int, prime: int) -> int:
    """The representative of `value` modulo `prime` that is smallest in magnitude."""
    value %= prime
    return value - prime if value > prime // 2 else value
