"""Stealing a key with a crafted ciphertext, and opening an update with it: C5, in plain integers, without SEAL.

The second polynomial of a ciphertext is multiplied by the secret key s when it is opened. A constant in it that stands
for the integer K therefore adds K s to the integers. K is larger than any honest sum of these tests: s, whose
coefficients are -1, 0 and 1, is read off the result.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from he.bfv.scheme import BfvScheme
from he.ckks.flooded import wire
from he.ckks.flooded.scheme import RingScheme
from he.residues import Residues, ciphertext_residues, pack
from tests.adversary.federation import Federation

# Fills the first ciphertext of either backend: the holder looks at what stands behind the last integer.
SIZE = 33_000


class KeyThief:
    """Knows what everybody knows: the parameters of a backend with a key holder."""

    def __init__(self, federation: Federation) -> None:
        self._scheme: RingScheme | BfvScheme = federation.backend.scheme  # type: ignore[attr-defined]
        parameters = self._scheme.parameters
        self._degree, self._primes = parameters.degree, parameters.primes
        self._ciphertexts = parameters.ciphertexts(federation.encoding.length(federation.layout.size))
        if isinstance(self._scheme, RingScheme):
            self._bits, self._highest, self._scale = 32, 0, Fraction(self._scheme.parameters.delta)
        else:
            preset = self._scheme.parameters
            self._bits, self._highest = preset.digit_bits, preset.digits - 1
            self._scale = Fraction(preset.modulus, preset.plain_modulus)
        self._times = 1 << (self._bits - 4)

    def craft(self, upload: bytes) -> bytes:
        """One's own upload with K s in it: no different, to whoever cannot decrypt, from an honest one."""
        first = self._first(upload)
        self._add_constant(first[1])
        record = self._fresh(first)
        return record + upload[len(record) :]

    def probe(self, total: bytes) -> bytes:
        """The query (0, Delta), or rather (0, K Delta), in place of the first ciphertext of a sum."""
        first = np.zeros((2, len(self._primes), self._degree), np.uint64)
        self._add_constant(first[1])
        record = wire.pack_sum(first, self._scheme.parameters) if self._is_ckks() else self._fresh(first)
        return record + total[len(record) :]

    def key(self, totals: NDArray[np.signedinteger]) -> list[int]:
        """s, from the integers of a round."""
        start = self._highest * self._degree
        return [int(s) for s in np.rint(totals[start : start + self._degree] / self._times)]

    def open(self, upload: bytes, key: list[int], *, count: int = 8) -> list[int]:
        """The first integers of an upload."""
        first, second = (polynomial.tolist() for polynomial in self._first(upload))
        modulus, opened = math.prod(self._primes), []
        for place in range(count):
            signs = [(1 if k <= place else -1) * s for k, s in enumerate(key)]
            phase = 0
            for prime, c0, c1 in zip(self._primes, first, second, strict=True):
                residue = c0[place] + sum(c1[(place - k) % self._degree] * s for k, s in enumerate(signs))
                others = modulus // prime
                phase += residue * pow(others, -1, prime) % prime * others
            phase %= modulus
            message = round((phase - modulus if phase > modulus // 2 else phase) / self._scale)
            half = 1 << (self._bits - 1)
            opened.append((message + half) % (2 * half) - half)
        return opened

    def _is_ckks(self) -> bool:
        return isinstance(self._scheme, RingScheme)

    def _add_constant(self, polynomial: Residues) -> None:
        # Plus one, as CKKS's Delta is zero modulo its first prime, and such a second polynomial is turned away.
        constant = round(self._scale * (self._times << (self._highest * self._bits))) + 1
        for words, prime in zip(polynomial, self._primes, strict=True):
            words[0] = (int(words[0]) + constant) % prime

    def _first(self, upload: bytes) -> Residues:
        """The first ciphertext, residues of shape `(2, primes, N)`."""
        rows = np.frombuffer(upload, np.uint8)[None, : len(upload) // self._ciphertexts]
        if self._is_ckks():
            return wire.unpack_fresh(rows, self._scheme.parameters)[0]
        return ciphertext_residues(rows, self._scheme.parameters)[0].reshape(2, len(self._primes), self._degree)

    def _fresh(self, both: Residues) -> bytes:
        if self._is_ckks():
            return wire.pack_fresh(both, self._scheme.parameters)
        return pack(both.reshape(2, -1), self._scheme.parameters).tobytes()
