"""Shamir's secret sharing over GF(2^31 - 1), for many 32-byte secrets at once.

A secret is read as nine limbs of 30 bits, each shared by a polynomial of its own (Shamir 1979). Share x is the
value at x, for x = 1 .. count; the limbs stand at 0. Products of two field elements fit in 64 bits, so NumPy
does the arithmetic.

Guarantee: any `threshold` - 1 shares of a secret are uniform and independent of it; any `threshold` determine it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Refused
from secagg.sealing import Rng

PRIME = (1 << 31) - 1
SECRET_BYTES = 32
LIMBS = 9
SHARE_BYTES = 4 * LIMBS
_LIMB_BITS = 30

Elements = NDArray[np.uint64]
Shares = NDArray[np.uint32]


def split(given: Sequence[bytes], *, threshold: int, count: int, rng: Rng = secrets.token_bytes) -> Shares:
    """Share 32-byte secrets: uint32 of shape `(count, len(given), 9)`, row x - 1 for share x.

    Raises `Refused` for a threshold under 2 (a share would be the secret) or over `count`.
    """
    if not 2 <= threshold <= count < PRIME:
        raise Refused(f"threshold {threshold} of {count} shares: expected 2 to {count}")
    limbs = np.array([_to_limbs(secret) for secret in given], np.uint64).reshape(-1)
    polynomials = np.concatenate([limbs[None], _uniform(threshold - 1, limbs.size, rng)])
    shares = _times(_powers(count, threshold), polynomials)
    return shares.astype(np.uint32).reshape(count, len(given), LIMBS)


def combine(points: NDArray[np.integer], shares: Shares) -> list[bytes | None]:
    """Recover m secrets from t shares each: `points` (m, t), the numbers x; `shares` uint32 (m, t, 9).

    Gives None where the shares, which need not be field elements, are not those of any 32-byte secret. Any t shares of
    distinct x belong to *some* polynomial: that it is the right one has to be checked against something else.
    """
    patterns, which = np.unique(points, axis=0, return_inverse=True)
    weights = _lagrange_at_zero(patterns.astype(np.uint64))[which.reshape(-1)]
    limbs = np.zeros((len(shares), LIMBS), np.uint64)
    for place in range(points.shape[1]):
        limbs = _reduce(limbs + _reduce(weights[:, place, None] * shares[:, place]))
    return [_to_secret(row) for row in limbs.tolist()]


def _lagrange_at_zero(points: Elements) -> Elements:
    """The weights of Lagrange's formula at 0 for m sets of t distinct points: (m, t) to (m, t)."""
    below = points.copy()
    product = np.ones((len(points), 1), np.uint64)
    for place in range(points.shape[1]):
        one = points[:, place, None]
        product = _reduce(product * one)
        difference = (PRIME + one - points) % PRIME
        difference[:, place] = 1
        below = _reduce(below * difference)
    return _reduce(product * _inverse(below))


def _inverse(elements: Elements) -> Elements:
    """The inverse in the field, by Fermat."""
    power, inverse = elements, np.ones_like(elements)
    for bit in bin(PRIME - 2)[:1:-1]:
        if bit == "1":
            inverse = _reduce(inverse * power)
        power = _reduce(power * power)
    return inverse


def _reduce(numbers: Elements) -> Elements:
    """Numbers below 2^63 modulo the prime."""
    folded = (numbers & np.uint64(PRIME)) + (numbers >> np.uint64(31))
    folded = (folded & np.uint64(PRIME)) + (folded >> np.uint64(31))
    return np.where(folded == PRIME, np.uint64(0), folded)


def _times(left: Elements, right: Elements) -> Elements:
    """The product of two matrices over the field; the inner dimension is at most 2^15."""
    high, low = right >> np.uint64(16), right & np.uint64(0xFFFF)
    return _reduce(_reduce(left @ high) * np.uint64(1 << 16) + _reduce(left @ low))


@lru_cache(maxsize=64)
def _powers(count: int, threshold: int) -> Elements:
    """x^d for x = 1 .. count and d = 0 .. threshold - 1."""
    x = np.arange(1, count + 1, dtype=np.uint64)
    columns = [np.ones_like(x)]
    for _ in range(threshold - 1):
        columns.append(_reduce(columns[-1] * x))
    return np.stack(columns, axis=1)


def _uniform(rows: int, columns: int, rng: Rng) -> Elements:
    """Uniform field elements: 31 random bits each, drawn again where they are the prime itself."""
    numbers = np.frombuffer(rng(4 * rows * columns), "<u4") & PRIME
    while (at_prime := np.flatnonzero(numbers == PRIME)).size:
        numbers[at_prime] = np.frombuffer(rng(4 * at_prime.size), "<u4") & PRIME
    return numbers.astype(np.uint64).reshape(rows, columns)


def _to_limbs(secret: bytes) -> list[int]:
    if len(secret) != SECRET_BYTES:
        raise Refused(f"secret of {len(secret)} bytes, expected {SECRET_BYTES}")
    number = int.from_bytes(secret, "little")
    return [number >> (_LIMB_BITS * place) & ((1 << _LIMB_BITS) - 1) for place in range(LIMBS)]


def _to_secret(limbs: list[int]) -> bytes | None:
    if any(limb >> _LIMB_BITS for limb in limbs):
        return None
    number = sum(limb << (_LIMB_BITS * place) for place, limb in enumerate(limbs))
    return number.to_bytes(SECRET_BYTES, "little") if number < 1 << (8 * SECRET_BYTES) else None
