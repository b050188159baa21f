"""Encrypting integer vectors, seeded, under a secret key that clients share.

Vectors are cut into blocks of N; in a block, the first N/2 integers are the real parts of the slots and the
others the imaginary parts. The last block is padded with zeros. Every block is one record on the wire: c0, packed,
and the seed of c1, N * bits / 8 + 64 bytes.

Guarantee: 128-bit semantic security under ring-LWE for fresh ciphertexts; all randomness is SEAL's, drawn anew
from the operating system for every record, in whatever worker. Ciphertexts do not hide the length of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from he.blocks import encrypt_blocks
from he.ckks.slots.keys import SecretKey
from he.ckks.slots.parameters import preset
from he.ckks.slots.seal import open_seal
from he.residues import Bytes, pack
from he.scheme import Integers, check_values
from he.security import SEED_BYTES, VALUE_BITS
from he.seeds import require_agreement
from he.workers import Work


class SeededEncryptor:
    """Symmetric encryption: half the bytes, and every client that encrypts can also open all ciphertexts."""

    def __init__(self, key: SecretKey) -> None:
        self.parameters = key.parameters
        self._key = key

    def encrypt(self, values: Integers) -> Iterator[memoryview]:
        """Yield the records of `values`, shape `(n,)`, in order: `parameters.fresh_bytes(n, "symmetric")` in all.

        Raises:
            InvalidUpdate: not a one-dimensional signed integer array, or a value over 2^30 in magnitude.
            Aborted: a worker was lost.
        """
        check_values(values, largest=1 << VALUE_BITS)
        return encrypt_blocks(
            open_encryptor,
            {"name": self.parameters.name, "key": self._key.local().for_worker()},
            values,
            block=self.parameters.degree,
            record_bytes=self.parameters.record_bytes("symmetric"),
        )


def open_encryptor(name: str, key: bytes) -> Work:
    """Blocks of integers to records, in a worker, under a key that was checked."""
    parameters = preset(name)
    seal = open_seal(parameters)
    require_agreement(seal)
    encryptor = seal.encryptor(SecretKey.parse(key, parameters).to_seal())

    def work(blocks: Bytes, records: Bytes) -> None:
        for integers, record in zip(blocks.view(np.int32), records, strict=True):
            plaintext = seal.encode(_slots(integers), parameters.scale)
            # Only the form with one argument keeps the seed in place of the second polynomial.
            first, seed = seal.seeded_parts(encryptor.encrypt_symmetric(plaintext))
            record[:-SEED_BYTES] = pack(first, parameters)
            record[-SEED_BYTES:] = seed

    return work


def _slots(integers: NDArray[np.int32]) -> list[complex]:
    # A list: the binding converts an array element by element, a third slower.
    half = integers.size // 2
    slots = np.empty(half, np.complex128)
    slots.real, slots.imag = integers[:half], integers[half:]
    listed: list[complex] = slots.tolist()
    return listed
