"""Encrypting integer vectors: under a public key (default), or seeded under a secret key that clients share.

Vectors are cut into blocks of N; in a block, the first N/2 integers are the real parts of the slots and the
others the imaginary parts. The last block is padded with zeros. Every block is one record on the wire:

    public      c0 and c1, packed                 2 * N * bits / 8 bytes
    symmetric   c0, packed, and the seed of c1    N * bits / 8 + 64 bytes

Guarantee: 128-bit semantic security under ring-LWE for fresh ciphertexts; all randomness is SEAL's, drawn anew
from the operating system for every record, also after a fork. Ciphertexts do not hide the length of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from he.keys import PublicKey, SecretKey
from he.parameters import VALUE_BITS, KeyMode, Parameters
from he.residues import pack
from he.seal import Seal, open_seal
from secagg.errors import InvalidUpdate

Integers = NDArray[np.signedinteger[Any]]


class Encryptor(Protocol):
    """What both kinds have in common."""

    @property
    def parameters(self) -> Parameters: ...

    @property
    def key_mode(self) -> KeyMode: ...

    def encrypt(self, values: Integers) -> Iterator[bytes]:
        """Yield the records of `values`, shape `(n,)`, in order: `parameters.fresh_bytes(n, key_mode)` in all.

        Raises:
            InvalidUpdate: not a one-dimensional signed integer array, or a value over 2^30 in magnitude.
        """
        ...


class PublicEncryptor:
    """Encryption under a public key: the secret key is with a holder, clients do not have it."""

    key_mode: KeyMode = "public"

    def __init__(self, key: PublicKey) -> None:
        self.parameters = key.parameters
        self._seal = open_seal(key.parameters)
        self._encryptor = self._seal.encryptor(self._seal.public_key(key.residues))

    def encrypt(self, values: Integers) -> Iterator[bytes]:
        """See `Encryptor.encrypt`."""
        check_values(values)
        return self._records(values)

    def _records(self, values: Integers) -> Iterator[bytes]:
        for plaintext in _plaintexts(values, self._seal):
            ciphertext = self._seal.empty_ciphertext()
            self._encryptor.encrypt(plaintext, ciphertext)
            yield pack(self._seal.ciphertext_residues(ciphertext), self.parameters).tobytes()


class SeededEncryptor:
    """Symmetric encryption: half the bytes, and every client that encrypts can also open all ciphertexts."""

    key_mode: KeyMode = "symmetric"

    def __init__(self, key: SecretKey) -> None:
        self.parameters = key.parameters
        self._seal = open_seal(key.parameters)
        self._encryptor = self._seal.encryptor(key.to_seal())

    def encrypt(self, values: Integers) -> Iterator[bytes]:
        """See `Encryptor.encrypt`."""
        check_values(values)
        return self._records(values)

    def _records(self, values: Integers) -> Iterator[bytes]:
        for plaintext in _plaintexts(values, self._seal):
            # Only the form with one argument keeps the seed in place of the second polynomial.
            first, seed = self._seal.seeded_parts(self._encryptor.encrypt_symmetric(plaintext))
            yield pack(first, self.parameters).tobytes() + seed.tobytes()


def check_values(values: Integers) -> None:
    """Raise `InvalidUpdate` unless `values` can be encrypted: a vector of integers within +-2^30."""
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.signedinteger):
        raise InvalidUpdate(f"expected a vector of signed integers, got {values.dtype} of shape {values.shape}")
    if max(int(values.max()), -int(values.min())) > 1 << VALUE_BITS:
        raise InvalidUpdate(f"a value is over 2^{VALUE_BITS} in magnitude: the encoding is for fewer than two clients")


def _plaintexts(values: Integers, seal: Seal) -> Iterator[Any]:
    degree, half = seal.parameters.degree, seal.parameters.degree // 2
    for start in range(0, values.size, degree):
        block = values[start : start + degree]
        slots = np.zeros(half, np.complex128)
        slots.real[: min(half, block.size)] = block[:half]
        slots.imag[: max(0, block.size - half)] = block[half:]
        # A list: the binding converts an array element by element, a third slower.
        yield seal.encode(slots.tolist(), seal.parameters.scale)
