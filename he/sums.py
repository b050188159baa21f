"""Adding ciphertexts as they arrive, without any key: all that an aggregation server does.

Adding ciphertexts is adding residues modulo q, in whatever form SEAL keeps the polynomials. It is done by numpy, on as
many threads as there are workers (`he.workers.spread`). Of a seeded ciphertext, the second polynomial is first made
from its seed (`he.seeds`), by the workers: no byte that a peer chose is ever parsed by native code here. Both kinds
of sum are full ciphertexts, `parameters.sum_bytes(length)`, of one form.

Memory: one sum of 64-bit residues, allocated at the first ciphertext; of seeded ones, half as much again during `fold`.

Guarantee: a fold that raises has added nothing, also where a worker crashed or hung over it (C4).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from he.residues import (
    Malformed,
    Residues,
    Ring,
    add_into,
    check,
    ciphertext_residues,
    pack,
    records,
    require_opaque,
    unpack_into,
)
from he.security import SEED_BYTES, KeyMode
from he.seeds import expand_all
from he.workers import blocks, spread
from secagg.errors import Refused

# Words at a time: so many that a thread seldom asks for Python's lock, and few enough for a cache.
_BLOCK_WORDS = 1 << 18


class Lengths(Ring, Protocol):
    """A ring, and the records of it that a vector takes."""

    def ciphertexts(self, length: int) -> int: ...

    def record_bytes(self, key_mode: KeyMode) -> int: ...


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


class ResidueSum(ABC):
    """A `CiphertextSum` as one array of residues; what a fresh ciphertext looks like is for subclasses."""

    def __init__(self, parameters: Lengths, length: int) -> None:
        self.count = 0
        self._parameters = parameters
        self._length = length
        self._ciphertexts = parameters.ciphertexts(length)
        self._block = max(1, _BLOCK_WORDS // (2 * len(parameters.primes) * parameters.degree))
        self._sum: Residues | None = None

    @abstractmethod
    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""

    def to_bytes(self) -> bytes:
        """See `CiphertextSum.to_bytes`."""
        total = self._sum
        if total is None:
            raise Refused("nothing was added to this sum")
        rows = np.empty((self._ciphertexts, 2, self._parameters.polynomial_bytes), np.uint8)

        def pack_part(start: int, stop: int) -> None:
            for part in blocks(start, stop, block=self._block):
                rows[part] = pack(total[part], self._parameters)

        spread(pack_part, self._ciphertexts, block=self._block)
        return rows.tobytes()

    def state(self) -> bytes:
        """See `CiphertextSum.state`."""
        return self.to_bytes()

    def restore(self, body: bytes, *, count: int) -> None:
        """See `CiphertextSum.restore`."""
        self._sum = sum_residues(body, self._parameters, length=self._length)
        self.count = count

    def _allocated(self) -> Residues:
        if self._sum is None:
            words = len(self._parameters.primes) * self._parameters.degree
            self._sum = np.zeros((self._ciphertexts, 2, words), np.uint64)
        return self._sum


class PublicSum(ResidueSum):
    """A sum of public-key encryptions: both polynomials travel."""

    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""
        parameters = self._parameters
        rows = records(body, count=self._ciphertexts, record_bytes=parameters.record_bytes("public"))

        both = rows.reshape(self._ciphertexts, 2, parameters.polynomial_bytes)

        def check_part(start: int, stop: int) -> None:
            for part in blocks(start, stop, block=self._block):
                check(both[part], parameters)
                require_opaque(both[part, 1], parameters)

        def add_part(start: int, stop: int) -> None:
            buffer = np.empty((min(self._block, stop - start), *total.shape[1:]), np.uint64)
            for part in blocks(start, stop, block=self._block):
                term = buffer[: part.stop - part.start]
                unpack_into(term, both[part], parameters)
                add_into(total[part], term, parameters, scratch=term)

        spread(check_part, self._ciphertexts, block=self._block)
        total = self._allocated()
        spread(add_part, self._ciphertexts, block=self._block)
        self.count += 1


class SeededSum(ResidueSum):
    """A sum of seeded symmetric encryptions: of the second polynomial, the seed travels.

    It remembers the seeds of all that was added: 64 bytes for each ciphertext of each client.
    """

    def __init__(self, parameters: Lengths, length: int) -> None:
        super().__init__(parameters, length)
        self._seen: set[bytes] = set()

    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""
        parameters = self._parameters
        rows = records(body, count=self._ciphertexts, record_bytes=parameters.record_bytes("symmetric"))

        first, seeds = rows[:, :-SEED_BYTES], rows[:, -SEED_BYTES:]

        def check_part(start: int, stop: int) -> None:
            for part in blocks(start, stop, block=self._block):
                check(first[part], parameters)

        def add_part(start: int, stop: int) -> None:
            buffer = np.empty((min(self._block, stop - start), total.shape[2]), np.uint64)
            for part in blocks(start, stop, block=self._block):
                term = buffer[: part.stop - part.start]
                unpack_into(term, first[part], parameters)
                add_into(total[part, 0], term, parameters, scratch=term)
                add_into(total[part, 1], second[part], parameters, scratch=second[part])

        spread(check_part, self._ciphertexts, block=self._block)
        drawn = {seed.tobytes() for seed in seeds}
        # Under one seed the second polynomials are the same: the difference of the first ones is no secret (C8).
        if len(drawn) != len(seeds):
            raise Malformed("two records have the same seed")
        if not self._seen.isdisjoint(drawn):
            raise Malformed("a seed that another client's record has")
        second = expand_all(seeds, parameters.primes, parameters.degree)
        total = self._allocated()
        spread(add_part, self._ciphertexts, block=self._block)
        self._seen |= drawn
        self.count += 1

    def state(self) -> bytes:
        """See `CiphertextSum.state`."""
        return super().state() + b"".join(sorted(self._seen))

    def restore(self, body: bytes, *, count: int) -> None:
        """See `CiphertextSum.restore`."""
        seeds = body[2 * self._ciphertexts * self._parameters.polynomial_bytes :]
        super().restore(body[: len(body) - len(seeds)], count=count)
        self._seen = {seeds[at : at + SEED_BYTES] for at in range(0, len(seeds), SEED_BYTES)}


def sum_residues(body: bytes | memoryview, parameters: Lengths, *, length: int) -> Residues:
    """The residues, shape `(ciphertexts, 2, N)`, of a sum on the wire. Raises `Malformed`."""
    count = parameters.ciphertexts(length)
    rows = records(body, count=count, record_bytes=2 * parameters.polynomial_bytes)
    return ciphertext_residues(rows, parameters)
