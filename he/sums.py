"""Adding ciphertexts as they arrive, without any key: all that an aggregation server does.

Adding ciphertexts is adding residues modulo q, in whatever form SEAL keeps the polynomials. Public-key records
are therefore added by numpy, and SEAL never sees them. Seeded ones are expanded and added by SEAL, from
a header made here. Both sums are full ciphertexts, `parameters.sum_bytes(length)`, of one form.

Memory: one sum of 64-bit residues, allocated at the first ciphertext.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from he.residues import Bytes, Malformed, Residues, Ring, add_into, ciphertext_residues, pack, records, unpack
from he.security import SEED_BYTES, KeyMode
from secagg.errors import Refused

_BLOCK = 8


class Lengths(Ring, Protocol):
    """A ring, and the records of it that a vector takes."""

    def ciphertexts(self, length: int) -> int: ...

    def record_bytes(self, key_mode: KeyMode) -> int: ...


class Adder(Protocol):
    """The part of a SEAL context that sums of seeded ciphertexts need."""

    @property
    def evaluator(self) -> Any: ...

    def seeded_ciphertext(self, residues: Residues, seed: Bytes) -> Any: ...

    def ciphertext(self, residues: Residues) -> Any: ...

    def ciphertext_residues(self, ciphertext: Any) -> Residues: ...


class CiphertextSum(Protocol):
    """A running sum of encryptions of vectors of one length."""

    count: int

    def fold(self, body: bytes | memoryview) -> None:
        """Add one encrypted vector. All of it is checked before any of it is added.

        Raises:
            Malformed: not the exact length, a residue not below q, a transparent record, a seed used twice.
        """
        ...

    def to_bytes(self) -> bytes:
        """The sum so far, `parameters.sum_bytes(length)`. Raises `Refused` if nothing was added."""
        ...

    def state(self) -> bytes:
        """The sum so far for `restore`: all of it, where `to_bytes` leaves something out. Raises `Refused` likewise."""
        ...

    def restore(self, body: bytes, *, count: int) -> None:
        """Go on from what `state` gave after `count` folds, one at least. Raises `Malformed`."""
        ...


class PublicSum:
    """A `CiphertextSum` of public-key encryptions, in numpy alone."""

    def __init__(self, parameters: Lengths, length: int) -> None:
        self.count = 0
        self._parameters = parameters
        self._length = length
        self._ciphertexts = parameters.ciphertexts(length)
        self._total: Residues | None = None

    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""
        rows = records(body, count=self._ciphertexts, record_bytes=self._parameters.record_bytes("public"))
        for start in range(0, self._ciphertexts, _BLOCK):
            ciphertext_residues(rows[start : start + _BLOCK], self._parameters)
        # Unpacked a second time rather than kept: a block stays in cache, a whole message would not.
        total = self._allocated()
        for start in range(0, self._ciphertexts, _BLOCK):
            block = rows[start : start + _BLOCK].reshape(-1, 2, self._parameters.polynomial_bytes)
            add_into(total[start : start + _BLOCK], unpack(block, self._parameters), self._parameters)
        self.count += 1

    def to_bytes(self) -> bytes:
        """See `CiphertextSum.to_bytes`."""
        if self._total is None:
            raise Refused("nothing was added to this sum")
        out = np.empty((self._ciphertexts, 2, self._parameters.polynomial_bytes), np.uint8)
        for start in range(0, self._ciphertexts, _BLOCK):
            out[start : start + _BLOCK] = pack(self._total[start : start + _BLOCK], self._parameters)
        return out.tobytes()

    state = to_bytes

    def restore(self, body: bytes, *, count: int) -> None:
        """See `CiphertextSum.restore`."""
        self._total = sum_residues(body, self._parameters, length=self._length)
        self.count = count

    def _allocated(self) -> Residues:
        if self._total is None:
            self._total = np.zeros(
                (self._ciphertexts, 2, len(self._parameters.primes) * self._parameters.degree), np.uint64
            )
        return self._total


class SeededSum:
    """A `CiphertextSum` of seeded symmetric encryptions. SEAL expands the seeds."""

    def __init__(self, parameters: Lengths, length: int, adder: Adder) -> None:
        self.count = 0
        self._parameters = parameters
        self._adder = adder
        self._length = length
        self._ciphertexts = parameters.ciphertexts(length)
        self._total: list[Any] = []

    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""
        parameters = self._parameters
        rows = records(body, count=self._ciphertexts, record_bytes=parameters.record_bytes("symmetric"))
        for row in rows:
            unpack(row[:-SEED_BYTES], parameters)
        _require_distinct(rows[:, -SEED_BYTES:])
        terms = (
            self._adder.seeded_ciphertext(unpack(row[:-SEED_BYTES], parameters), row[-SEED_BYTES:]) for row in rows
        )
        if self.count == 0:
            self._total = list(terms)
        else:
            for item, term in zip(self._total, terms, strict=True):
                self._adder.evaluator.add_inplace(item, term)
        self.count += 1

    def to_bytes(self) -> bytes:
        """See `CiphertextSum.to_bytes`."""
        if self.count == 0:
            raise Refused("nothing was added to this sum")
        return b"".join(pack(self._adder.ciphertext_residues(item), self._parameters).tobytes() for item in self._total)

    state = to_bytes

    def restore(self, body: bytes, *, count: int) -> None:
        """See `CiphertextSum.restore`."""
        residues = sum_residues(body, self._parameters, length=self._length)
        self._total = [self._adder.ciphertext(both) for both in residues]
        self.count = count


def sum_residues(body: bytes | memoryview, parameters: Lengths, *, length: int) -> Residues:
    """The residues, shape `(ciphertexts, 2, N)`, of a sum on the wire. Raises `Malformed`."""
    count = parameters.ciphertexts(length)
    rows = records(body, count=count, record_bytes=2 * parameters.polynomial_bytes)
    return ciphertext_residues(rows, parameters)


def _require_distinct(seeds: Bytes) -> None:
    # Two records with one seed share their second polynomial: the difference of the first ones is no secret (C8).
    if len({seed.tobytes() for seed in seeds}) != len(seeds):
        raise Malformed("two records have the same seed")
