"""Randomised rotation: a vector becomes one whose coordinates are all about as large, and back.

Every block of B = 4^j coordinates has its signs flipped by a public stream and is multiplied with the Hadamard matrix
over sqrt(B), in B log2 B additions (the fast Walsh-Hadamard transform; for means over clients Suresh et al. 2017, arXiv
1611.00429, and Kairouz et al. 2021, arXiv 2102.06387). Nothing is padded: where blocks leave a rest, the last one
covers the end of the vector and overlaps the one before, and both are turned, one after the other.

Only additions and products with powers of two, in a fixed order: all machines get the same bits.

Guarantee: the rotation is orthogonal, so it keeps L2 norms; rounding in float32 changes a norm by less than 2^-18 of
it. For any vector x chosen without regard to the seed, no coordinate is larger than `flat_bound(|x|, size)` but for a
probability of 2^-20. The seed is public: a rotation hides nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from secagg.errors import InvalidUpdate

# Two blocks of float32 stay in a cache of the second level.
LARGEST_BLOCK = 1 << 16
NORM_ERROR = 2.0**-18
_LARGEST = 2.0**100
_MISSED = 2.0**-20

Floats = NDArray[np.float32] | NDArray[np.float64]


def block_size(size: int) -> int:
    """B for a vector of `size` coordinates: the largest power of four within it, up to 2^16."""
    return min(1 << (size.bit_length() - 1) // 2 * 2, LARGEST_BLOCK)


def flat_bound(norm: float, size: int) -> float:
    """How large a coordinate of a rotated vector of that L2 norm is at most; see the module (Hoeffding)."""
    return min(1.0, math.sqrt(2 * math.log(2 * size / _MISSED) / block_size(size))) * norm


class Rotation:
    """The rotation that a public `seed` stands for, of vectors of `size` coordinates."""

    def __init__(self, seed: bytes, size: int) -> None:
        self._key = hashlib.sha256(b"secagg/v1/rotation" + seed).digest()
        self._block = block_size(size)
        self._starts = list(range(0, size - self._block + 1, self._block))
        if size % self._block:
            self._starts.append(size - self._block)

    def apply(self, vector: Floats) -> None:
        """Rotate float32 or float64 of shape `(size,)`, in place.

        Raises:
            InvalidUpdate: a coordinate is over 2^100, or not a number.
        """
        if not max(float(vector.max()), -float(vector.min())) <= _LARGEST:
            raise InvalidUpdate("a coordinate is over 2^100, or not a number: it cannot be rotated")
        spare = np.empty(self._block, vector.dtype)
        for block, signs in self._blocks(vector, range(len(self._starts))):
            _flip(block, signs)
            _turn(block, spare)

    def undo(self, vector: Floats) -> None:
        """Rotate back, in place."""
        spare = np.empty(self._block, vector.dtype)
        for block, signs in self._blocks(vector, reversed(range(len(self._starts)))):
            _turn(block, spare)
            _flip(block, signs)

    def _blocks(self, vector: Floats, numbers: Iterable[int]) -> Iterator[tuple[Floats, NDArray[np.uint32]]]:
        """The blocks of those numbers as views, each with a word a coordinate whose top bit is its sign."""
        zeros = bytes(4 * self._block)
        for number in numbers:
            stream = Cipher(algorithms.ChaCha20(self._key, bytes(8) + number.to_bytes(8, "little")), mode=None)
            signs = np.frombuffer(stream.encryptor().update(zeros), "<u4")
            start = self._starts[number]
            yield vector[start : start + self._block], signs


def _turn(block: Floats, spare: Floats) -> None:
    """Multiply by the Hadamard matrix over sqrt(B), and transpose: B = r * r, and H_B = H_r (x) H_r.

    As X -> (H X H)^T on r x r matrices, which undoes itself.
    """
    r = math.isqrt(block.size)
    here, there = block.reshape(r, r), spare.reshape(r, r)
    for half in range(2):
        for _ in range(r.bit_length() - 1):
            # After log2 r of these, every row is where it was (Pease 1968).
            np.add(here[: r // 2], here[r // 2 :], out=there[0::2])
            np.subtract(here[: r // 2], here[r // 2 :], out=there[1::2])
            here, there = there, here
        if half == 0:
            there[:] = here.T
            here, there = there, here
    np.multiply(here.reshape(-1), 1 / r, out=block)


def _flip(block: Floats, signs: NDArray[np.uint32]) -> None:
    """Change the sign of every coordinate whose word has its top bit set."""
    top = signs & np.uint32(1 << 31)
    if block.dtype == np.float32:
        block.view(np.uint32)[:] ^= top
    else:
        block.view(np.uint64)[:] ^= top.astype(np.uint64) << np.uint64(32)
