"""SEAL under the key-holder mode: encryptions of zero, and products with the secret key, in coefficient form.

An encryption of zero is the same thing in CKKS and BFV: (a random element, minus it times s, plus noise). SEAL's
BFV context hands it out in coefficient form, where integers can be added to coefficients exactly, and it brings
exact transforms with it. No BFV plaintext is ever made here. What passes to SEAL is checked residues alone.
"""

from __future__ import annotations

import struct
from functools import cached_property, lru_cache
from typing import Any

from tenseal import sealapi

from he.ckks.flooded.rings import RingParameters
from he.residues import Residues
from he.seal_files import CIPHERTEXT_MEMBERS, PLAINTEXT_MEMBERS, load, read, zstd_decompress
from secagg.errors import Refused


class RingSeal:
    """A SEAL context for one set of ring parameters, and its objects as residues."""

    def __init__(self, parameters: RingParameters) -> None:
        """Raises `Refused` if SEAL turns the parameters down, or its memory files are not to be had here."""
        self.parameters = parameters
        zstd_decompress()  # a build without it is refused here
        scheme = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        scheme.set_poly_modulus_degree(parameters.degree)
        scheme.set_coeff_modulus([sealapi.Modulus(prime) for prime in (*parameters.primes, parameters.special)])
        scheme.set_plain_modulus(sealapi.Modulus(1 << 32))  # SEAL asks for one; an encryption of zero has no use for it
        self.context = sealapi.SEALContext(scheme, True, sealapi.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise Refused(f"{parameters.name}: SEAL says {self.context.parameters_error_name()}")
        self.evaluator = sealapi.Evaluator(self.context)

    def draw_keys(self) -> tuple[Any, Any]:
        """A fresh secret key and a public key to it."""
        generator = sealapi.KeyGenerator(self.context)
        public = sealapi.PublicKey()
        generator.create_public_key(public)
        return generator.secret_key(), public

    def encryptor(self, key: Any) -> Any:
        """An encryptor under a public key."""
        return sealapi.Encryptor(self.context, key)

    def public_key_residues(self, public: Any) -> Residues:
        """Shape `(2, 3, N)`, modulo p, r and the special prime, in transform form."""
        return self._read(public, CIPHERTEXT_MEMBERS, polynomials=6)[1].reshape(2, 3, -1)

    def public_key(self, residues: Residues) -> Any:
        """A public key of residues of shape `(2, 3, N)`."""
        item = sealapi.PublicKey()
        load(item, self.context, self._key_members, residues)
        return item

    def secret_residues(self, secret: Any) -> Residues:
        """Shape `(3, N)`, in transform form."""
        return self._read(secret, PLAINTEXT_MEMBERS, polynomials=3)[1].reshape(3, -1)

    def factor(self, secret: Residues) -> Any:
        """The secret key, shape `(3, N)`, as something to multiply with: modulo p and r, in transform form."""
        item = sealapi.Plaintext()
        # Members of a plaintext: the id of the level (here that of ciphertexts), the number of residues, the scale.
        members = self._members[:32] + struct.pack("<Qd", 2 * self.parameters.degree, 1.0)
        load(item, self.context, members, secret[:2])
        return item

    def encrypt_zero(self, encryptor: Any) -> Residues:
        """A fresh encryption of zero: shape `(2, 2, N)`, polynomials, primes, coefficients."""
        item = sealapi.Ciphertext()
        encryptor.encrypt_zero(item)
        return self.residues(item)

    def multiply(self, pair: Residues, factor: Any) -> Residues:
        """Two polynomials, shape `(2, 2, N)`, each times `factor`; in coefficient form as they came."""
        item = self.transformed(pair)
        self.evaluator.multiply_plain_inplace(item, factor)
        self.evaluator.transform_from_ntt_inplace(item)
        return self.residues(item)

    def transformed(self, pair: Residues) -> Any:
        """Two polynomials, shape `(2, 2, N)`, as SEAL's object in transform form."""
        item = sealapi.Ciphertext()
        load(item, self.context, self._members, pair)
        self.evaluator.transform_to_ntt_inplace(item)
        return item

    def residues(self, item: Any) -> Residues:
        """Shape `(2, 2, N)`, in the form that `item` is in."""
        return self._read(item, CIPHERTEXT_MEMBERS, polynomials=4)[1].reshape(2, 2, -1)

    def _read(self, item: Any, members: int, *, polynomials: int) -> tuple[bytes, Residues]:
        head, residues, _ = read(item, members, words=polynomials * self.parameters.degree)
        return head.tobytes(), residues

    @cached_property
    def _key_members(self) -> bytes:
        _, public = self.draw_keys()
        return self._read(public, CIPHERTEXT_MEMBERS, polynomials=6)[0]

    @cached_property
    def _members(self) -> bytes:
        _, public = self.draw_keys()
        item = sealapi.Ciphertext()
        self.encryptor(public).encrypt_zero(item)
        return self._read(item, CIPHERTEXT_MEMBERS, polynomials=4)[0]


@lru_cache(maxsize=8)
def open_ring(parameters: RingParameters) -> RingSeal:
    """The process's context for these parameters; making one takes some milliseconds."""
    return RingSeal(parameters)
