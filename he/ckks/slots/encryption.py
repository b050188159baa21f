"""Encrypting integer vectors, seeded, under a secret key that clients share.

Vectors are cut into blocks of N; in a block, the first N/2 integers are the real parts of the slots and the
others the imaginary parts. The last block is padded with zeros. Every block is one record on the wire: c0, packed,
and the seed of c1, N * bits / 8 + 64 bytes.

Guarantee: 128-bit semantic security under ring-LWE for fresh ciphertexts; all randomness is SEAL's, drawn anew
from the operating system for every record, also after a fork. Ciphertexts do not hide the length of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from he.ckks.slots.keys import SecretKey
from he.ckks.slots.seal import Seal, open_seal
from he.residues import pack
from he.scheme import Integers, check_values
from he.security import VALUE_BITS


class SeededEncryptor:
    """Symmetric encryption: half the bytes, and every client that encrypts can also open all ciphertexts."""

    def __init__(self, key: SecretKey) -> None:
        self.parameters = key.parameters
        self._seal = open_seal(key.parameters)
        self._encryptor = self._seal.encryptor(key.to_seal())

    def encrypt(self, values: Integers) -> Iterator[bytes]:
        """Yield the records of `values`, shape `(n,)`, in order: `parameters.fresh_bytes(n, "symmetric")` in all.

        Raises:
            InvalidUpdate: not a one-dimensional signed integer array, or a value over 2^30 in magnitude.
        """
        check_values(values, largest=1 << VALUE_BITS)
        return self._records(values)

    def _records(self, values: Integers) -> Iterator[bytes]:
        for plaintext in _plaintexts(values, self._seal):
            # Only the form with one argument keeps the seed in place of the second polynomial.
            first, seed = self._seal.seeded_parts(self._encryptor.encrypt_symmetric(plaintext))
            yield pack(first, self.parameters).tobytes() + seed.tobytes()


def _plaintexts(values: Integers, seal: Seal) -> Iterator[Any]:
    degree, half = seal.parameters.degree, seal.parameters.degree // 2
    for start in range(0, values.size, degree):
        block = values[start : start + degree]
        slots = np.zeros(half, np.complex128)
        slots.real[: min(half, block.size)] = block[:half]
        slots.imag[: max(0, block.size - half)] = block[half:]
        # A list: the binding converts an array element by element, a third slower.
        yield seal.encode(slots.tolist(), seal.parameters.scale)
