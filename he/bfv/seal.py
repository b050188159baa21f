"""A SEAL context for BFV: encryptions of zero out, ciphertexts and keys in, all as residues (see `he.seal_files`).

SEAL never sees a message: it encrypts zero, and `he.bfv.digits` adds the message to the residues. Ciphertexts of
BFV are in coefficient form. Templates of the members that stand in front of residues come from objects that SEAL
made under the same parameters: ciphertexts at q, the public key at q times the special prime.
"""

from __future__ import annotations

import struct
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from he.bfv.parameters import BfvParameters
from he.residues import Bytes, Residues
from he.seal_files import ARRAY_BYTES, inflated, load, read, zstd_decompress
from he.security import SEED_BYTES
from secagg.errors import Refused

_CIPHERTEXT_MEMBERS = 73
_PLAINTEXT_MEMBERS = 48
_GENERATOR_BYTES = 16 + 1 + SEED_BYTES


class BfvSeal:
    """See the module's text."""

    def __init__(self, parameters: BfvParameters) -> None:
        """Raises `Refused` if SEAL turns the parameters down, or its memory files are not to be had here."""
        self.parameters = parameters
        zstd_decompress()  # a build without it is refused here
        scheme = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        scheme.set_poly_modulus_degree(parameters.degree)
        scheme.set_coeff_modulus([sealapi.Modulus(prime) for prime in (*parameters.primes, parameters.special)])
        scheme.set_plain_modulus(sealapi.Modulus(1 << parameters.level_bits))
        self.context = sealapi.SEALContext(scheme, True, sealapi.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise Refused(f"{parameters.name}: SEAL says {self.context.parameters_error_name()}")
        self.evaluator = sealapi.Evaluator(self.context)
        self._words = len(parameters.primes) * parameters.degree
        self._key_words = self._words + parameters.degree

    def secret_key(self, ternary: NDArray[np.int8]) -> Any:
        """A secret key of coefficients -1, 0 and 1, shape `(N,)`."""
        coefficients = ternary.astype(np.int64).view(np.uint64) & np.uint64((1 << self.parameters.level_bits) - 1)
        plaintext = sealapi.Plaintext()
        members = bytes(32) + struct.pack("<Qd", self.parameters.degree, 1.0)
        load(plaintext, self.context, members, coefficients)
        # Modulo every prime, in transform form: what SEAL's secret key is, and how it is written.
        self.evaluator.transform_to_ntt_inplace(plaintext, self.context.key_parms_id())
        head, residues, _ = read(plaintext, _PLAINTEXT_MEMBERS, words=self._key_words)
        key = sealapi.SecretKey()
        load(key, self.context, head.tobytes(), residues)
        return key

    def draw_public(self, secret: Any) -> Residues:
        """A fresh public key to a secret one, shape `(2, (primes + 1) * N)`."""
        item = sealapi.PublicKey()
        sealapi.KeyGenerator(self.context, secret).create_public_key(item)
        return read(item, _CIPHERTEXT_MEMBERS, words=2 * self._key_words)[1].reshape(2, -1)

    def public_key(self, residues: Residues) -> Any:
        """A public key of residues of shape `(2, (primes + 1) * N)`."""
        item = sealapi.PublicKey()
        load(item, self.context, self._key_members, residues)
        return item

    def encryptor(self, key: Any) -> Any:
        """An encryptor under a public or a secret key."""
        return sealapi.Encryptor(self.context, key)

    def public_zero(self, encryptor: Any) -> Residues:
        """A fresh encryption of zero under a public key, shape `(2, primes * N)`."""
        item = sealapi.Ciphertext()
        encryptor.encrypt_zero(item)
        return self.ciphertext_residues(item)

    def seeded_zero(self, encryptor: Any) -> tuple[Residues, Bytes]:
        """A symmetric encryption of zero: first polynomial, shape `(primes * N,)`, and the seed of the second."""
        # Only the form without a destination keeps the seed in place of the second polynomial.
        item = encryptor.encrypt_zero_symmetric()
        _, residues, record = read(item, _CIPHERTEXT_MEMBERS, words=self._words, tail=_GENERATOR_BYTES)
        return residues, record[-SEED_BYTES:]

    def ciphertext_residues(self, ciphertext: Any) -> Residues:
        """The residues, shape `(2, primes * N)`, of a full ciphertext."""
        return read(ciphertext, _CIPHERTEXT_MEMBERS, words=2 * self._words)[1].reshape(2, -1)

    def ciphertext(self, residues: Residues) -> Any:
        """A full ciphertext of residues of shape `(2, primes * N)`."""
        item = sealapi.Ciphertext()
        load(item, self.context, self._members, residues)
        return item

    def seeded_ciphertext(self, residues: Residues, seed: Bytes) -> Any:
        """A full ciphertext of a first polynomial, shape `(primes * N,)`, and the seed, which SEAL expands."""
        item = sealapi.Ciphertext()
        load(item, self.context, self._members, residues, self._generator_record + seed.tobytes())
        return item

    def decryptor(self, secret: Any) -> Any:
        """A decryptor under a secret key."""
        return sealapi.Decryptor(self.context, secret)

    def decrypt(self, decryptor: Any, residues: Residues) -> NDArray[np.uint64]:
        """The highest digits of a ciphertext of shape `(2, primes * N)`: N integers below 2^level_bits."""
        plaintext = sealapi.Plaintext()
        decryptor.decrypt(self.ciphertext(residues), plaintext)
        start = _PLAINTEXT_MEMBERS + ARRAY_BYTES
        written = inflated(plaintext, start=start, limit=start + 8 * self.parameters.degree)[start:].view("<u8")
        # SEAL leaves out zeros at the end.
        out = np.zeros(self.parameters.degree, np.uint64)
        out[: written.size] = written
        return out

    @cached_property
    def _key_members(self) -> bytes:
        item = sealapi.PublicKey()
        sealapi.KeyGenerator(self.context).create_public_key(item)
        return read(item, _CIPHERTEXT_MEMBERS, words=2 * self._key_words)[0].tobytes()

    @cached_property
    def _members(self) -> bytes:
        item = sealapi.Ciphertext()
        self._any_encryptor().encrypt_zero_symmetric(item)
        return read(item, _CIPHERTEXT_MEMBERS, words=2 * self._words)[0].tobytes()

    @cached_property
    def _generator_record(self) -> bytes:
        item = self._any_encryptor().encrypt_zero_symmetric()
        record = read(item, _CIPHERTEXT_MEMBERS, words=self._words, tail=_GENERATOR_BYTES)[2]
        return record[:-SEED_BYTES].tobytes()

    def _any_encryptor(self) -> Any:
        return self.encryptor(sealapi.KeyGenerator(self.context).secret_key())


@lru_cache(maxsize=8)
def open_bfv_seal(parameters: BfvParameters) -> BfvSeal:
    """The process's context for these parameters; making one takes some milliseconds."""
    return BfvSeal(parameters)
