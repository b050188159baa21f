"""Ciphertexts on the wire: as few bits of each as leave the sum exact, and what the rest costs in noise.

c0 enters a decryption as it is, so its low bits may be left out. With c0 = low + p * high, 0 <= low < p, 0 <= high < r:

* a fresh ciphertext leaves out the `fresh_drop` lowest bits of low. Its reader puts their middle in their place, which
  errs by 2^(fresh_drop - 1) at most, unknown to everybody but the client: `flooding` counts it as an error to hide;
* a sum on its way to the key holder leaves out low and the SUM_DROP lowest bits of high. Who sends it knows what was
  left out, and so the error is nothing to hide: it takes room from the noise and no more.

In c1 every bit is multiplied by the secret key; nothing is left out. A running sum that is kept is whole.

A record is its fields one after the other, each as the low 32 bits of N words, then their other 4, 8 or 16 bits
(of 4 bits, two to a byte). There is no header: what a message means comes from the round's spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from he.ckks.flooded.rings import RingParameters, garner, whole
from he.residues import Bytes, Malformed, Residues

SUM_DROP = 12


def fresh_fields(parameters: RingParameters) -> tuple[int, ...]:
    """Bits of the fields of a fresh ciphertext: low and high of c0, c1 modulo p and r."""
    p, r = (prime.bit_length() for prime in parameters.primes)
    return p - parameters.fresh_drop, r, p, r


def sum_fields(parameters: RingParameters) -> tuple[int, ...]:
    """Bits of the fields of a sum: high of c0, c1 modulo p and r."""
    p, r = (prime.bit_length() for prime in parameters.primes)
    return r - SUM_DROP, p, r


def kept_fields(parameters: RingParameters) -> tuple[int, ...]:
    """Bits of the fields of a whole ciphertext: c0 and c1 modulo p and r."""
    p, r = (prime.bit_length() for prime in parameters.primes)
    return p, r, p, r


def record_bytes(fields: Sequence[int], degree: int) -> int:
    """Bytes of a record of such fields."""
    return sum(fields) * degree // 8


def fresh_error(parameters: RingParameters) -> int:
    """What leaving out bits of a fresh c0 errs by at most, in one coefficient."""
    return 1 << (parameters.fresh_drop - 1)


def sum_error(parameters: RingParameters) -> int:
    """What leaving out bits of c0 of a sum errs by at most, in one coefficient."""
    return (parameters.primes[0] << (SUM_DROP - 1)) + parameters.primes[0]


def pack_fresh(both: Residues, parameters: RingParameters) -> bytes:
    """A fresh ciphertext, residues of shape `(2, 2, N)`, as a record."""
    low, high = garner(both[0], parameters)
    return _pack((low >> np.uint64(parameters.fresh_drop), high, *both[1]), fresh_fields(parameters))


def check_fresh(rows: Bytes, parameters: RingParameters) -> None:
    """Raise `Malformed` where `unpack_fresh` would; quicker."""
    _fresh_words(rows, parameters)


def unpack_fresh(rows: Bytes, parameters: RingParameters) -> Residues:
    """Fresh ciphertexts of shape `(count, 2, 2, N)` from records of shape `(count, bytes)`.

    Raises:
        Malformed: a field is not below its modulus, or a second polynomial is zero modulo a prime (C5).
    """
    low, high, *second = _fresh_words(rows, parameters)
    low <<= np.uint64(parameters.fresh_drop)
    low |= np.uint64(fresh_error(parameters))
    np.minimum(low, np.uint64(parameters.primes[0] - 1), out=low)
    return _ciphertexts(whole(low, high, parameters), second)


def pack_sum(both: Residues, parameters: RingParameters) -> bytes:
    """A sum, residues of shape `(2, 2, N)`, as a record for the key holder."""
    _, high = garner(both[0], parameters)
    return _pack((high >> np.uint64(SUM_DROP), *both[1]), sum_fields(parameters))


def unpack_sum(rows: Bytes, parameters: RingParameters) -> Residues:
    """Sums of shape `(count, 2, 2, N)` from records. Raises `Malformed`, as `unpack_fresh`."""
    p, r = parameters.primes
    high, *second = _words(rows, sum_fields(parameters), ((r - 1 >> SUM_DROP) + 1, p, r), parameters)
    high = high << np.uint64(SUM_DROP) | np.uint64(1 << (SUM_DROP - 1))
    first = whole(np.full_like(high, p // 2), np.minimum(high, np.uint64(r - 1)), parameters)
    return _ciphertexts(first, second)


def pack_kept(both: Residues, parameters: RingParameters) -> bytes:
    """A whole ciphertext, residues of shape `(2, 2, N)`, as a record for a party's own state."""
    return _pack((*both[0], *both[1]), kept_fields(parameters))


def unpack_kept(rows: Bytes, parameters: RingParameters) -> Residues:
    """Whole ciphertexts of shape `(count, 2, 2, N)` from records. Raises `Malformed`, as `unpack_fresh`."""
    words = _words(rows, kept_fields(parameters), parameters.primes * 2, parameters)
    return np.stack(words, axis=1).reshape(len(rows), 2, 2, -1)


def _ciphertexts(first: Residues, second: Sequence[Residues]) -> Residues:
    """Shape `(count, 2, 2, N)` from first polynomials, `(count, 2, N)`, and residues of second ones, `(count, N)`."""
    out = np.empty((len(first), 2, *first.shape[1:]), np.uint64)
    out[:, 0] = first
    for place, words in enumerate(second):
        out[:, 1, place] = words
    return out


def _fresh_words(rows: Bytes, parameters: RingParameters) -> list[Residues]:
    p, r = parameters.primes
    return _words(rows, fresh_fields(parameters), ((p - 1 >> parameters.fresh_drop) + 1, r, p, r), parameters)


def _words(rows: Bytes, fields: Sequence[int], limits: Sequence[int], parameters: RingParameters) -> list[Residues]:
    """The fields of records, `(count, N)` each, c1 last. `Malformed` unless below `limits` and hiding something."""
    words = list(_unpack(rows, fields, parameters.degree))
    if any(int(field.max()) >= limit for field, limit in zip(words, limits, strict=True)):
        raise Malformed("a residue is not below the modulus")
    if not all(field.any(axis=-1).all() for field in words[-2:]):
        raise Malformed("transparent ciphertext: its second polynomial is zero")
    return words


def _pack(words: Sequence[Residues], fields: Sequence[int]) -> bytes:
    parts: list[NDArray[np.unsignedinteger]] = []
    for field, bits in zip(words, fields, strict=True):
        parts.append(field.astype("<u4"))
        high = (field >> np.uint64(32)).astype("<u2" if bits == 48 else np.uint8)
        if bits == 36:
            high = high[0::2] | high[1::2] << np.uint8(4)
        if bits > 32:
            parts.append(high)
    return b"".join(part.tobytes() for part in parts)


def _unpack(rows: Bytes, fields: Sequence[int], degree: int) -> Iterator[Residues]:
    at = 0
    for bits in fields:
        middle, end = at + 4 * degree, at + bits * degree // 8
        field = rows[:, at:middle].view("<u4").astype(np.uint64)
        if bits == 36:
            pairs = rows[:, middle:end]
            field[:, 0::2] |= (pairs & np.uint8(15)).astype(np.uint64) << np.uint64(32)
            field[:, 1::2] |= (pairs >> np.uint8(4)).astype(np.uint64) << np.uint64(32)
        elif bits > 32:
            field |= rows[:, middle:end].view("<u2" if bits == 48 else np.uint8).astype(np.uint64) << np.uint64(32)
        yield field
        at = end
