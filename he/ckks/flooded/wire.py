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

from collections.abc import Sequence
from typing import Any

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
    """Raise `Malformed` where `unpack_fresh` would; quicker, for it looks at leading bits first."""
    _check(rows, fresh_fields(parameters), _fresh_limits(parameters), parameters)


def unpack_fresh(rows: Bytes, parameters: RingParameters) -> Residues:
    """Fresh ciphertexts of shape `(count, 2, 2, N)` from records of shape `(count, bytes)`.

    Raises:
        Malformed: a field is not below its modulus, or a second polynomial is zero modulo a prime (C5).
    """
    check_fresh(rows, parameters)
    out = np.empty((len(rows), 2, 2, parameters.degree), np.uint64)
    fresh_digits(out, rows, parameters)
    out[:, 0] = whole(out[:, 0, 0], out[:, 0, 1], parameters)
    return out


def fresh_digits(out: Residues, rows: Bytes, parameters: RingParameters) -> None:
    """Fresh ciphertexts that have passed `check_fresh`, into `out` of shape `(count, 2, 2, N)`; c0 as (low, high)."""
    fields = fresh_fields(parameters)
    for place in range(4):
        _combine(out[:, place // 2, place % 2], *_parts(rows, fields, place, parameters.degree), bits=fields[place])
    low = out[:, 0, 0]
    low <<= np.uint64(parameters.fresh_drop)
    low |= np.uint64(fresh_error(parameters))
    np.minimum(low, np.uint64(parameters.primes[0] - 1), out=low)


def pack_sum(both: Residues, parameters: RingParameters) -> bytes:
    """A sum, residues of shape `(2, 2, N)`, as a record for the key holder."""
    return pack_digits_sum(np.stack((garner(both[0], parameters), both[1])), parameters)


def pack_digits_sum(both: Residues, parameters: RingParameters) -> bytes:
    """The same of a sum with c0 as (low, high)."""
    return _pack((both[0, 1] >> np.uint64(SUM_DROP), *both[1]), sum_fields(parameters))


def unpack_sum(rows: Bytes, parameters: RingParameters) -> Residues:
    """Sums of shape `(count, 2, 2, N)` from records. Raises `Malformed`, as `unpack_fresh`."""
    p, r = parameters.primes
    fields = sum_fields(parameters)
    _check(rows, fields, ((r - 1 >> SUM_DROP) + 1, p, r), parameters)
    out = np.empty((len(rows), 2, 2, parameters.degree), np.uint64)
    high = out[:, 0, 1]
    for place, words in enumerate((high, out[:, 1, 0], out[:, 1, 1])):
        _combine(words, *_parts(rows, fields, place, parameters.degree), bits=fields[place])
    high <<= np.uint64(SUM_DROP)
    high |= np.uint64(1 << (SUM_DROP - 1))
    np.minimum(high, np.uint64(r - 1), out=high)
    out[:, 0] = whole(np.full_like(high, p // 2), high, parameters)
    return out


def pack_kept(both: Residues, parameters: RingParameters) -> bytes:
    """A whole ciphertext of shape `(2, 2, N)`, c0 in either form, as a record for a party's own state."""
    return _pack((*both[0], *both[1]), kept_fields(parameters))


def unpack_kept(rows: Bytes, parameters: RingParameters) -> Residues:
    """Whole ciphertexts of shape `(count, 2, 2, N)` from records. Raises `Malformed`, as `unpack_fresh`."""
    fields = kept_fields(parameters)
    _check(rows, fields, parameters.primes * 2, parameters)
    out = np.empty((len(rows), 2, 2, parameters.degree), np.uint64)
    for place in range(4):
        _combine(out[:, place // 2, place % 2], *_parts(rows, fields, place, parameters.degree), bits=fields[place])
    return out


def _fresh_limits(parameters: RingParameters) -> tuple[int, ...]:
    p, r = parameters.primes
    return (p - 1 >> parameters.fresh_drop) + 1, r, p, r


def _check(rows: Bytes, fields: Sequence[int], limits: Sequence[int], parameters: RingParameters) -> None:
    """Raise `Malformed` unless the fields of records, c1 last, are below `limits` and c1 hides something."""
    for place, (bits, limit) in enumerate(zip(fields, limits, strict=True)):
        low, high = _parts(rows, fields, place, parameters.degree)
        if not _below(limit, low, high, bits=bits):
            raise Malformed("a residue is not below the modulus")
        if place < len(fields) - 2 or low[:, :16].any(axis=-1).all():
            continue
        if not (low.any(axis=-1) | high.any(axis=-1)).all():
            raise Malformed("transparent ciphertext: its second polynomial is zero")


def _below(limit: int, low: NDArray[Any], high: NDArray[Any], *, bits: int) -> bool:
    """Whether a field is below `limit` everywhere. Most often its leading bits alone say so."""
    if bits == 32:
        return int(low.max()) < limit
    if bits == 36:
        halves = ((low[:, 0::2], high & np.uint8(15)), (low[:, 1::2], high >> np.uint8(4)))
        return all(_below(limit, *half, bits=40) for half in halves)
    lead, rest = divmod(limit, 1 << 32)
    largest = int(high.max())
    return largest < lead or (largest == lead and int(low[high == lead].max()) < rest)


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


def _parts(rows: Bytes, fields: Sequence[int], place: int, degree: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The low 32 bits of a field, `(count, N)`, and what it has above them, as it is stored."""
    start = sum(fields[:place]) * degree // 8
    middle, end = start + 4 * degree, start + fields[place] * degree // 8
    return rows[:, start:middle].view("<u4"), rows[:, middle:end].view("<u2" if fields[place] == 48 else np.uint8)


def _combine(out: Residues, low: NDArray[Any], high: NDArray[Any], *, bits: int) -> None:
    if bits == 32:
        out[:] = low
        return
    if bits == 36:
        out[:, 0::2], out[:, 1::2] = high & np.uint8(15), high >> np.uint8(4)
    else:
        out[:] = high
    out <<= np.uint64(32)
    out |= low
