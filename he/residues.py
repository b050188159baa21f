"""Polynomials on the wire: residues modulo q, packed without a wasted bit, and checked when they come back.

A 56-bit residue is 7 bytes. Two 60-bit residues are 15: the first takes 8 bytes together with the low 4 bits
of the second, whose other 56 bits follow. All little-endian; a polynomial of N residues is N * bits / 8 bytes,
for N = 4096 that is 28,672 or 30,720. There is no header: what a message means comes from the round's spec.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from he.parameters import Parameters

Residues = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


class Malformed(ValueError):
    """Bytes from a peer that are not what the parameters say; the reason names no secret."""


def pack(residues: Residues, parameters: Parameters) -> Bytes:
    """Residues below q, shape `(..., N)`, as bytes of shape `(..., polynomial_bytes)`."""
    shape = (*residues.shape[:-1], parameters.polynomial_bytes)
    words = residues.astype("<u8", copy=False)
    if parameters.modulus_bits == 56:
        return np.ascontiguousarray(_bytes_of(words)[..., :7]).reshape(shape)
    even, odd = words[..., 0::2], words[..., 1::2]
    pairs = np.empty((*even.shape, 15), np.uint8)
    pairs[..., :8] = _bytes_of(even | (odd << np.uint64(60)))
    pairs[..., 8:] = _bytes_of(odd >> np.uint64(4))[..., :7]
    return pairs.reshape(shape)


def unpack(packed: Bytes, parameters: Parameters) -> Residues:
    """Residues of shape `(..., N)` from bytes of shape `(..., polynomial_bytes)`.

    Raises:
        Malformed: a residue is not below q.
    """
    shape = (*packed.shape[:-1], parameters.degree)
    if parameters.modulus_bits == 56:
        wide = np.zeros((*shape, 8), np.uint8)
        wide[..., :7] = packed.reshape(*shape, 7)
        residues = _words_of(wide)
    else:
        pairs = packed.reshape(*shape[:-1], -1, 15)
        high = np.zeros((*pairs.shape[:-1], 8), np.uint8)
        high[..., :7] = pairs[..., 8:]
        low = _words_of(np.ascontiguousarray(pairs[..., :8]))
        residues = np.empty(shape, np.uint64)
        np.bitwise_and(low, np.uint64((1 << 60) - 1), out=residues[..., 0::2])
        np.bitwise_or(low >> np.uint64(60), _words_of(high) << np.uint64(4), out=residues[..., 1::2])
    if residues.size and int(residues.max()) >= parameters.modulus:
        raise Malformed("a residue is not below the modulus")
    return residues


def add_into(total: Residues, term: Residues, parameters: Parameters) -> None:
    """Add modulo q in place; both below q, any equal shapes, afterwards `total` is below q again."""
    np.add(total, term, out=total)
    # Below q, the difference wraps to a huge number, and the minimum keeps the sum itself.
    np.minimum(total, total - np.uint64(parameters.modulus), out=total)


def records(body: bytes | memoryview, *, count: int, record_bytes: int) -> Bytes:
    """View a message as `(count, record_bytes)` bytes. Raises `Malformed` unless the length is exact (C4)."""
    if len(body) != count * record_bytes:
        raise Malformed(f"{len(body)} bytes, expected exactly {count * record_bytes}")
    return np.frombuffer(body, np.uint8).reshape(count, record_bytes)


def ciphertext_residues(rows: Bytes, parameters: Parameters) -> Residues:
    """Both polynomials of full ciphertexts: `(count, 2 * polynomial_bytes)` bytes to `(count, 2, N)` residues.

    Raises:
        Malformed: a residue is not below q, or a second polynomial is zero, so that the first is no secret (C5).
    """
    residues = unpack(rows.reshape(rows.shape[0], 2, parameters.polynomial_bytes), parameters)
    if not residues[:, 1].any(axis=-1).all():
        raise Malformed("transparent ciphertext: its second polynomial is zero")
    return residues


def _bytes_of(words: NDArray[np.uint64]) -> Bytes:
    """Shape `(..., n)` words as `(..., n, 8)` bytes."""
    return np.ascontiguousarray(words, "<u8").view(np.uint8).reshape(*words.shape, 8)


def _words_of(octets: Bytes) -> Residues:
    """Shape `(..., n, 8)` contiguous bytes as `(..., n)` words."""
    return octets.view("<u8")[..., 0].astype(np.uint64, copy=False)
