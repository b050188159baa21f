"""Polynomials on the wire: residues modulo q, packed without a wasted bit, and checked when they come back.

Where q is a product of primes of one size, a polynomial is its residues modulo the first prime, then the next.

A 56-bit residue is 7 bytes. Two 60-bit residues are 15: the first takes 8 bytes together with the low 4 bits
of the second, whose other 56 bits follow. All little-endian; a polynomial of N residues is N * bits / 8 bytes,
for N = 4096 that is 28,672 or 30,720. There is no header: what a message means comes from the round's spec.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
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
    flat, words = out.reshape(-1), np.ascontiguousarray(residues).reshape(-1)
    if ring.modulus_bits == 56:
        _store_56(words, flat, offset=0, stride=7)
    else:
        even, odd = words[0::2], words[1::2]
        _fields(flat, "<u8", offset=0, stride=15, count=even.size)[:] = even | (odd << np.uint64(60))
        _store_56(odd >> np.uint64(4), flat, offset=8, stride=15)
    return out


def unpack(packed: Bytes, ring: Ring) -> Residues:
    """Residues of shape `(..., N)` from bytes of shape `(..., polynomial_bytes)`.

    Raises:
        Malformed: a residue is not below q.
    """
    residues = np.empty((*packed.shape[:-1], len(ring.primes) * ring.degree), np.uint64)
    unpack_into(residues, packed, ring)
    rows = residues.reshape(-1, len(ring.primes), ring.degree)
    for place, prime in enumerate(ring.primes):
        if rows.size and int(rows[:, place].max()) >= prime:
            raise Malformed("a residue is not below the modulus")
    return residues


def unpack_into(residues: Residues, packed: Bytes, ring: Ring) -> None:
    """`unpack` without a look at the residues, for bytes that have passed `check`."""
    count = residues.shape[-1]
    if ring.modulus_bits == 56:
        np.copyto(residues[..., :-1], _fields(packed, "<u8", offset=0, stride=7, count=count - 1))
        # Eight bytes from where the last one begins would reach beyond the end.
        residues[..., -1] = packed[..., -8:].view("<u8")[..., 0] >> np.uint64(8)
        residues &= np.uint64((1 << 56) - 1)
    else:
        low = _fields(packed, "<u8", offset=0, stride=15, count=count // 2)
        np.bitwise_and(low, np.uint64((1 << 60) - 1), out=residues[..., 0::2])
        high = _fields(packed, "<u8", offset=7, stride=15, count=count // 2)
        np.right_shift(high, np.uint64(4), out=residues[..., 1::2])


def check(packed: Bytes, ring: Ring) -> None:
    """Raise `Malformed` where `unpack` would; quicker, for it looks at leading bits first."""
    count, least = len(ring.primes) * ring.degree, min(ring.primes)
    if ring.modulus_bits == 56:
        lead = int(_fields(packed, "<u4", offset=3, stride=7, count=count).max())
        doubtful = lead >= least >> 24
    else:
        even = _fields(packed, "<u4", offset=4, stride=15, count=count // 2) & np.uint32((1 << 28) - 1)
        odd = _fields(packed, "<u4", offset=11, stride=15, count=count // 2)
        doubtful = int(even.max()) >= least >> 32 or int(odd.max()) >= least >> 28
    if doubtful:
        unpack(packed, ring)


def add_into(total: Residues, term: Residues, ring: Ring, *, scratch: Residues | None = None) -> None:
    """Add modulo q in place; both below q, any equal shapes, afterwards `total` is below q again.

    `scratch` is an array of that shape to work in; it may be `term` itself, which is then used up.
    """
    np.add(total, term, out=total)
    for place, prime in enumerate(ring.primes):
        # Below q, the difference wraps to a huge number, and the minimum keeps the sum itself.
        part = (..., slice(place * ring.degree, (place + 1) * ring.degree))
        less = np.subtract(total[part], np.uint64(prime), out=None if scratch is None else scratch[part])
        np.minimum(total[part], less, out=total[part])


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
    both = rows.reshape(rows.shape[0], 2, ring.polynomial_bytes)
    require_opaque(both[:, 1], ring)
    return unpack(both, ring)


def require_opaque(second: Bytes, ring: Ring) -> None:
    """Raise `Malformed` if a second polynomial, of `(count, polynomial_bytes)`, is zero modulo a prime (C5)."""
    moduli = second.reshape(len(second), len(ring.primes), -1)
    hidden = moduli[..., :64].any(axis=-1)
    if not hidden.all() and not moduli[~hidden].any(axis=-1).all():
        raise Malformed("transparent ciphertext: its second polynomial is zero")


def _fields(packed: Bytes, dtype: str, *, offset: int, stride: int, count: int) -> NDArray[Any]:
    """In every row, the unaligned words at `offset`, `offset + stride`, ...: a view of shape `(..., count)`."""
    width = np.dtype(dtype).itemsize
    if packed.strides[-1] != 1 or offset + (count - 1) * stride + width > packed.shape[-1]:
        raise ValueError(f"rows of {packed.shape[-1]} bytes, too few for {count} residues, or not side by side")
    first = packed[..., offset : offset + width].view(dtype)[..., 0]
    return as_strided(first, (*first.shape, count), (*first.strides, stride), writeable=packed.flags.writeable)


def _store_56(words: Residues, out: Bytes, *, offset: int, stride: int) -> None:
    """Store the low 7 bytes of every word: the two halves overlap in a byte that is the same in both."""
    _fields(out, "<u4", offset=offset, stride=stride, count=words.size)[:] = words.astype(np.uint32)
    upper = (words >> np.uint64(24)).astype(np.uint32)
    _fields(out, "<u4", offset=offset + 3, stride=stride, count=words.size)[:] = upper
