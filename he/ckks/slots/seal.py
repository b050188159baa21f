"""SEAL's objects in memory: residues in, residues out, and no header that a peer could have written.

`tenseal.sealapi` saves to file paths only, always compressed by zstd, and loads what the header in the file
says. A memory file stands for the path; what SEAL wrote is inflated by the very zstd inside the binding, and
what SEAL reads is made here: a fixed uncompressed header, members copied from an object that SEAL made under
the same parameters, then residues that `residues.unpack` has checked. Hence SEAL's parser never meets
a length, a degree, a scale or a parameter id that came over the network (C3, C4, C7).

The layout is that of SEAL 4.x: a 16-byte header, members, and last an array with its own header.
A seeded ciphertext ends in the record of its generator: header, type, 64-byte seed.
"""

from __future__ import annotations

import struct
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from he.ckks.slots.parameters import Parameters
from he.residues import Bytes, Residues
from he.seal_files import CIPHERTEXT_MEMBERS, PLAINTEXT_MEMBERS, load, read, zstd_decompress
from he.security import SEED_BYTES
from secagg.errors import Refused

Slots = NDArray[np.complex128]

_GENERATOR_BYTES = 16 + 1 + SEED_BYTES


class Seal:
    """A SEAL context for one set of parameters, and the passage between its objects and arrays of residues."""

    def __init__(self, parameters: Parameters) -> None:
        """Raises `Refused` if SEAL turns the parameters down, or its memory files are not to be had here."""
        self.parameters = parameters
        zstd_decompress()  # a build without it is refused here
        scheme = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
        scheme.set_poly_modulus_degree(parameters.degree)
        scheme.set_coeff_modulus([sealapi.Modulus(parameters.modulus)])
        self.context = sealapi.SEALContext(scheme, True, sealapi.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise Refused(f"{parameters.name}: SEAL says {self.context.parameters_error_name()}")
        self.encoder = sealapi.CKKSEncoder(self.context)
        self.evaluator = sealapi.Evaluator(self.context)

    def encode(self, slots: Any, scale: float) -> Any:
        """A plaintext of a list or array of up to N/2 complex slots."""
        plaintext = sealapi.Plaintext()
        self.encoder.encode(slots, scale, plaintext)
        return plaintext

    def draw_secret(self) -> Any:
        """A fresh secret key."""
        return sealapi.KeyGenerator(self.context).secret_key()

    def encryptor(self, key: Any) -> Any:
        """An encryptor under a secret key."""
        return sealapi.Encryptor(self.context, key)

    def decrypt(self, ciphertext: Any, secret: Any) -> Slots:
        """The N/2 complex slots of a ciphertext."""
        plaintext = sealapi.Plaintext()
        sealapi.Decryptor(self.context, secret).decrypt(ciphertext, plaintext)
        return self.slots_of(plaintext)

    def ciphertext_residues(self, ciphertext: Any) -> Residues:
        """The residues, shape `(2, N)`, of a full ciphertext."""
        return self._read(ciphertext, CIPHERTEXT_MEMBERS, polynomials=2)[1]

    def secret_residues(self, secret: Any) -> Residues:
        """The residues, shape `(N,)`, of a secret key."""
        _, residues, _ = self._read(secret, PLAINTEXT_MEMBERS, polynomials=1)
        return residues.reshape(-1)

    def seeded_parts(self, ciphertext: Any) -> tuple[Residues, Bytes]:
        """The first polynomial, shape `(N,)`, and the 64-byte seed of the second, of a seeded ciphertext."""
        _, residues, record = self._read(ciphertext, CIPHERTEXT_MEMBERS, polynomials=1, tail=_GENERATOR_BYTES)
        return residues[0], record[-SEED_BYTES:]

    def ciphertext(self, residues: Residues, *, scale: float | None = None) -> Any:
        """A full ciphertext of residues of shape `(2, N)`, at `scale` or the parameters' scale."""
        item = sealapi.Ciphertext()
        self._load(item, self._members_at(scale or self.parameters.scale), residues)
        return item

    def seeded_ciphertext(self, residues: Residues, seed: Bytes, *, scale: float | None = None) -> Any:
        """A full ciphertext of a first polynomial of shape `(N,)` and the seed, which SEAL expands. `ciphertext`."""
        item = sealapi.Ciphertext()
        tail = self._generator_record + seed.tobytes()
        self._load(item, self._members_at(scale or self.parameters.scale), residues, tail)
        return item

    def secret_key(self, residues: Residues) -> Any:
        """A secret key of residues of shape `(N,)`."""
        item = sealapi.SecretKey()
        self._load(item, self._plain_members, residues)
        return item

    def plaintext(self, residues: Residues, *, scale: float) -> Any:
        """A plaintext of residues of shape `(N,)`, at `scale`."""
        item = sealapi.Plaintext()
        self._load(item, self._plain_members[:-8] + struct.pack("<d", scale), residues)
        return item

    def slots_of(self, plaintext: Any) -> Slots:
        """The N/2 complex slots of a plaintext."""
        return np.fromiter(self.encoder.decode_complex(plaintext), np.complex128, self.parameters.degree // 2)

    def _members_at(self, scale: float) -> bytes:
        # The last two members: the scale, and a correction factor that CKKS does not use.
        return self._full_members[:-16] + struct.pack("<dQ", scale, 1)

    @cached_property
    def _full_members(self) -> bytes:
        item = sealapi.Ciphertext()
        self.encryptor(self.draw_secret()).encrypt_zero_symmetric(item)
        return self._read(item, CIPHERTEXT_MEMBERS, polynomials=2)[0].tobytes()

    @cached_property
    def _plain_members(self) -> bytes:
        return self._read(self.draw_secret(), PLAINTEXT_MEMBERS, polynomials=1)[0].tobytes()

    @cached_property
    def _generator_record(self) -> bytes:
        item = self.encryptor(self.draw_secret()).encrypt_zero_symmetric()
        _, _, record = self._read(item, CIPHERTEXT_MEMBERS, polynomials=1, tail=_GENERATOR_BYTES)
        return record[:-SEED_BYTES].tobytes()

    def _read(self, item: Any, members: int, *, polynomials: int, tail: int = 0) -> tuple[Bytes, Residues, Bytes]:
        """What SEAL writes for `item`: members, residues of shape `(polynomials, N)`, what follows."""
        head, residues, rest = read(item, members, words=polynomials * self.parameters.degree, tail=tail)
        return head, residues.reshape(polynomials, -1), rest

    def _load(self, item: Any, members: bytes, residues: Residues, tail: bytes = b"") -> None:
        load(item, self.context, members, residues, tail)


@lru_cache(maxsize=8)
def open_seal(parameters: Parameters) -> Seal:
    """The process's context for these parameters; making one takes some milliseconds."""
    return Seal(parameters)
