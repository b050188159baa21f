"""Polynomials on the wire: residues modulo q, packed without a wasted bit, and checked when they come back.

Where q is a product of primes of one size, a polynomial is its residues modulo the first prime, then the next.

A 56-bit residue is 7 bytes. Two 60-bit residues are 15: the first takes 8 bytes together with the low 4 bits
of the second, whose other 56 bits follow. All little-endian; a polynomial of N residues is N * bits / 8 bytes,
for N = 4096 that is 28,672 or 30,720. There is no header: what a message means comes from the round's spec.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Residues = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


class Malformed(ValueError):
    """Bytes from a peer that are not what the parameters say; the reason names no secret."""


class Ring(Protocol):
    """What packing has to know of Z_q[X] / (X^N + 1): q is the product of `primes`, all of `modulus_bits` bits."""

    @property
    def degree(self) -> int: ...

    @property
    def primes(self) -> tuple[int, ...]: ...

    @property
    def modulus_bits(self) -> int: ...

    @property
    def polynomial_bytes(self) -> int: ...


def pack(residues: Residues, ring: Ring) -> Bytes:
    """Residues below q, shape `(..., N)`, as bytes of shape `(..., polynomial_bytes)`."""
    out = np.empty((*residues.shape[:-1], ring.polynomial_bytes), np.uint8)
    words = np.ascontiguousarray(residues).reshape(-1)
    if ring.modulus_bits == 56:
        _store_56(words, out, offset=0, stride=7)
    else:
        even, odd = words[0::2], words[1::2]
        _fields(out, "<u8", offset=0, stride=15)[:] = even | (odd << np.uint64(60))
        _store_56(odd >> np.uint64(4), out, offset=8, stride=15)
    return out


def unpack(packed: Bytes, ring: Ring) -> Residues:
    """Residues of shape `(..., N)` from bytes of shape `(..., polynomial_bytes)`.

    Raises:
        Malformed: a residue is not below q.
    """
    packed = np.ascontiguousarray(packed)
    residues = np.empty((*packed.shape[:-1], len(ring.primes) * ring.degree), np.uint64)
    words = residues.reshape(-1)
    if ring.modulus_bits == 56:
        # Two overlapping loads of 4 bytes: one of 8 would read past the last residue.
        words[:] = _fields(packed, "<u4", offset=3, stride=7)
        words >>= np.uint64(8)
        words <<= np.uint64(32)
        words |= _fields(packed, "<u4", offset=0, stride=7)
    else:
        low = _fields(packed, "<u8", offset=0, stride=15)
        np.bitwise_and(low, np.uint64((1 << 60) - 1), out=words[0::2])
        high = _fields(packed, "<u8", offset=7, stride=15) >> np.uint64(8)
        np.bitwise_or(low >> np.uint64(60), high << np.uint64(4), out=words[1::2])
    rows = words.reshape(-1, len(ring.primes), ring.degree)
    for place, prime in enumerate(ring.primes):
        if rows.size and int(rows[:, place].max()) >= prime:
            raise Malformed("a residue is not below the modulus")
    return residues


def add_into(total: Residues, term: Residues, ring: Ring) -> None:
    """Add modulo q in place; both below q, any equal shapes, afterwards `total` is below q again."""
    np.add(total, term, out=total)
    for place, prime in enumerate(ring.primes):
        # Below q, the difference wraps to a huge number, and the minimum keeps the sum itself.
        row = total[..., place * ring.degree : (place + 1) * ring.degree]
        np.minimum(row, row - np.uint64(prime), out=row)


def records(body: bytes | memoryview, *, count: int, record_bytes: int) -> Bytes:
    """View a message as `(count, record_bytes)` bytes. Raises `Malformed` unless the length is exact (C4)."""
    if len(body) != count * record_bytes:
        raise Malformed(f"{len(body)} bytes, expected exactly {count * record_bytes}")
    return np.frombuffer(body, np.uint8).reshape(count, record_bytes)


def ciphertext_residues(rows: Bytes, ring: Ring) -> Residues:
    """Both polynomials of full ciphertexts: `(count, 2 * polynomial_bytes)` bytes to `(count, 2, N)` residues.

    Raises:
        Malformed: a residue is not below q, or a second polynomial is zero modulo a prime, so that the
            first is no secret (C5).
    """
    residues = unpack(rows.reshape(rows.shape[0], 2, ring.polynomial_bytes), ring)
    if not residues[:, 1].reshape(-1, ring.degree).any(axis=-1).all():
        raise Malformed("transparent ciphertext: its second polynomial is zero")
    return residues


def _fields(octets: Bytes, dtype: str, *, offset: int, stride: int) -> NDArray[Any]:
    """The unaligned words at `offset`, `offset + stride`, ... of contiguous bytes; a view."""
    return np.ndarray((octets.size // stride,), dtype, buffer=octets.data, offset=offset, strides=(stride,))


def _store_56(words: Residues, out: Bytes, *, offset: int, stride: int) -> None:
    """Store the low 7 bytes of every word: the two halves overlap in a byte that is the same in both."""
    _fields(out, "<u4", offset=offset, stride=stride)[:] = words.astype(np.uint32)
    _fields(out, "<u4", offset=offset + 3, stride=stride)[:] = (words >> np.uint64(24)).astype(np.uint32)
