"""Encrypting integer vectors with BFV: several integers in a coefficient, under a public key or a shared one.

Vectors are cut into blocks of digits * N; digit j of the coefficients is the j-th N integers of the block. The last
block is padded with zeros. Every block is one record on the wire:

    public      c0 and c1, packed                 2 * N * 60 * primes / 8 bytes
    symmetric   c0, packed, and the seed of c1    N * 60 * primes / 8 + 64 bytes

Guarantee: 128-bit semantic security under ring-LWE for fresh ciphertexts; all their randomness is SEAL's, drawn
anew from the operating system for every record, in whatever worker. Ciphertexts do not hide a vector's length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from he.bfv.digits import open_encoder
from he.bfv.keys import BfvPublicKey, BfvSecretKey
from he.bfv.parameters import BfvParameters, bfv_preset
from he.bfv.seal import open_bfv_seal
from he.blocks import encrypt_blocks
from he.residues import Bytes, add_into, pack
from he.scheme import Integers, check_values
from he.security import SEED_BYTES, KeyMode
from he.seeds import require_agreement
from he.workers import Work
from secagg.errors import Refused


class BfvEncryptor:
    """Encryption under a public key, or seeded under a secret key; for sums of up to `clients` vectors."""

    def __init__(self, key: BfvPublicKey | BfvSecretKey, *, clients: int) -> None:
        """Raises `Refused` if a sum of so many could be decrypted wrong."""
        self.parameters: BfvParameters = key.parameters
        self.key_mode: KeyMode = "public" if isinstance(key, BfvPublicKey) else "symmetric"
        limit = self.parameters.max_clients(self.key_mode)
        if not 1 <= clients <= limit:
            raise Refused(f"{self.parameters.name}: {clients} ciphertexts in a sum, expected 1 to {limit}")
        # That sums stay within a digit is the encoding's proof: clients' noise may take more than a fair share of it.
        self._largest = (1 << (self.parameters.digit_bits - 1)) - 1
        self._key = key

    def encrypt(self, values: Integers) -> Iterator[memoryview]:
        """See `he.scheme.Encryptor.encrypt`."""
        check_values(values, largest=self._largest)
        public = isinstance(self._key, BfvPublicKey)
        key = self._key.to_bytes() if isinstance(self._key, BfvPublicKey) else self._key.local().for_worker()
        return encrypt_blocks(
            open_public_encryptor if public else open_seeded_encryptor,
            {"name": self.parameters.name, "key": key},
            values,
            block=self.parameters.record_integers,
            record_bytes=self.parameters.record_bytes(self.key_mode),
        )


def open_public_encryptor(name: str, key: bytes) -> Work:
    """Blocks of integers to records, in a worker, under a public key."""
    parameters = bfv_preset(name)
    seal, encoder = open_bfv_seal(parameters), open_encoder(parameters)
    encryptor = seal.encryptor(seal.public_key(BfvPublicKey.from_bytes(key, parameters).residues))

    def work(blocks: Bytes, records: Bytes) -> None:
        for integers, record in zip(blocks.view(np.int32), records, strict=True):
            both = seal.public_zero(encryptor)
            digits = integers.reshape(parameters.digits, -1).astype(np.int64)
            add_into(both[0], encoder.residues(digits), parameters)
            record[:] = pack(both, parameters).reshape(-1)

    return work


def open_seeded_encryptor(name: str, key: bytes) -> Work:
    """Blocks of integers to seeded records, in a worker, under a secret key."""
    parameters = bfv_preset(name)
    seal, encoder = open_bfv_seal(parameters), open_encoder(parameters)
    require_agreement(seal)
    encryptor = seal.encryptor(BfvSecretKey.load_for_client(key, parameters).to_seal())

    def work(blocks: Bytes, records: Bytes) -> None:
        for integers, record in zip(blocks.view(np.int32), records, strict=True):
            first, seed = seal.seeded_zero(encryptor)
            digits = integers.reshape(parameters.digits, -1).astype(np.int64)
            add_into(first, encoder.residues(digits), parameters)
            record[:-SEED_BYTES] = pack(first, parameters)
            record[-SEED_BYTES:] = seed

    return work
