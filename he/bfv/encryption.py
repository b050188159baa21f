"""Encrypting integer vectors with BFV: several integers in a coefficient, under a public key or a shared one.

Vectors are cut into blocks of digits * N; digit j of the coefficients is the j-th N integers of the block. The last
block is padded with zeros. Every block is one record on the wire:

    public      c0 and c1, packed                 2 * N * 60 * primes / 8 bytes
    symmetric   c0, packed, and the seed of c1    N * 60 * primes / 8 + 64 bytes

Guarantee: 128-bit semantic security under ring-LWE for fresh ciphertexts; all their randomness is SEAL's, drawn
anew from the operating system for every record, also after a fork. Ciphertexts do not hide a vector's length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from he.bfv.digits import open_encoder
from he.bfv.keys import BfvPublicKey, BfvSecretKey
from he.bfv.parameters import BfvParameters
from he.bfv.seal import open_bfv_seal
from he.residues import add_into, pack
from he.scheme import Integers, check_values
from he.security import KeyMode
from secagg.errors import Refused


class BfvEncryptor:
    """Encryption under a public key, or seeded under a secret key; for sums of up to `clients` vectors."""

    def __init__(self, key: BfvPublicKey | BfvSecretKey, *, clients: int) -> None:
        """Raises `Refused` if a sum of so many could be decrypted wrong."""
        self.parameters = key.parameters
        self.key_mode: KeyMode = "public" if isinstance(key, BfvPublicKey) else "symmetric"
        limit = self.parameters.max_clients(self.key_mode)
        if not 1 <= clients <= limit:
            raise Refused(f"{self.parameters.name}: {clients} ciphertexts in a sum, expected 1 to {limit}")
        self._largest = ((1 << (self.parameters.digit_bits - 1)) - 1) // clients
        self._seal = open_bfv_seal(self.parameters)
        seal_key = self._seal.public_key(key.residues) if isinstance(key, BfvPublicKey) else key.to_seal()
        self._encryptor = self._seal.encryptor(seal_key)

    def encrypt(self, values: Integers) -> Iterator[bytes]:
        """See `he.scheme.Encryptor.encrypt`."""
        check_values(values, largest=self._largest)
        return (self._record(digits) for digits in digit_blocks(values, self.parameters))

    def _record(self, digits: NDArray[np.int64]) -> bytes:
        message = open_encoder(self.parameters).residues(digits)
        if self.key_mode == "public":
            both = self._seal.public_zero(self._encryptor)
            add_into(both[0], message, self.parameters)
            return pack(both, self.parameters).tobytes()
        first, seed = self._seal.seeded_zero(self._encryptor)
        add_into(first, message, self.parameters)
        return pack(first, self.parameters).tobytes() + seed.tobytes()


def digit_blocks(values: Integers, parameters: BfvParameters) -> Iterator[NDArray[np.int64]]:
    """The digits of every record, shape `(digits, N)`, the last one padded with zeros."""
    for start in range(0, values.size, parameters.record_integers):
        block = values[start : start + parameters.record_integers]
        digits = np.zeros(parameters.record_integers, np.int64)
        digits[: block.size] = block
        yield digits.reshape(parameters.digits, parameters.degree)
