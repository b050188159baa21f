"""Selective encryption as a `Scheme`: a "ciphertext" is the ciphertexts of some coordinates, then all the others.

    fresh   ciphertexts of the masked coordinates and the weight | the other coordinates, little-endian ring elements
    sum     the same, added: ciphertexts under encryption, ring elements modulo 2^32

Both halves are one message, so that they have one length, one signature and one cohort, and are added both or neither.

Guarantee: of the first half that of the scheme around which this stands; of the second none: it is read by everybody
who sees the message.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from he.residues import Malformed
from he.scheme import Decryptor, Encryptor, Integers, Scheme
from he.selective.mask import Mask
from he.sums import CiphertextSum
from secagg.fixedpoint import FixedPoint
from secagg.protocol import Rng
from secagg.ringsum import RingSum
from secagg.spec import RoundSpec
from secagg.vectors import Layout


def encrypted_part(spec: RoundSpec, mask: Mask) -> RoundSpec:
    """The round as the scheme inside sees it: a vector of the masked coordinates alone."""
    return spec.model_copy(update={"layout": Layout.flat(int(np.count_nonzero(mask)))})


class SelectiveScheme:
    """See `he.scheme.Scheme`. Lengths are those of whole vectors, the weight included.

    Attributes:
        encrypted: bool of shape `(length,)`: the coordinates in the mask, and the weight.
        count: how many these are.

    Args:
        inner: encrypts them.
        mask: bool of shape `(size,)`.
        encoding: of the round.
    """

    def __init__(self, inner: Scheme, mask: Mask, encoding: FixedPoint) -> None:
        self.label, self.name, self.key_mode = inner.label, inner.name, inner.key_mode
        self.secret_key_bytes = inner.secret_key_bytes
        self.generate, self.check_secret = inner.generate, inner.check_secret
        # The weight is encrypted whatever the mask: it says how many rows a client has.
        self.encrypted = np.append(mask, True) if encoding.weighted else mask
        self.count = int(np.count_nonzero(self.encrypted))
        self._inner, self._mask, self._encoding = inner, mask, encoding

    def encryptor(self, key: bytes, *, clients: int) -> SelectiveEncryptor:
        return SelectiveEncryptor(self._inner.encryptor(key, clients=clients), self)

    def decryptor(self, key: bytes, spec: RoundSpec, *, rng: Rng) -> SelectiveDecryptor:
        return SelectiveDecryptor(self._inner.decryptor(key, encrypted_part(spec, self._mask), rng=rng), self)

    def empty_sum(self, length: int) -> SelectiveSum:
        return SelectiveSum(self._inner.empty_sum(self.count), self, length)

    def fresh_bytes(self, length: int) -> int:
        return self._inner.fresh_bytes(self.count) + self.clear_sum(length).wire_bytes

    def sum_bytes(self, length: int) -> int:
        return self._inner.sum_bytes(self.count) + self.clear_sum(length).wire_bytes

    def sum_memory(self, length: int) -> int:
        return self._inner.sum_memory(self.count) + self.clear_sum(length).wire_bytes

    def clear_sum(self, length: int) -> RingSum:
        """An empty sum of the coordinates that are not encrypted."""
        return RingSum(self._encoding, length - self.count)


class SelectiveEncryptor:
    """Encrypts what is in the mask and copies the rest."""

    def __init__(self, inner: Encryptor, scheme: SelectiveScheme) -> None:
        self._inner, self._scheme = inner, scheme

    def encrypt(self, values: Integers) -> Iterator[memoryview]:
        """See `he.scheme.Encryptor.encrypt`."""
        encrypted = self._scheme.encrypted
        yield from self._inner.encrypt(values[encrypted])
        yield self._scheme.clear_sum(values.size).to_wire(values[~encrypted])


class SelectiveSum:
    """A `CiphertextSum` of such messages."""

    def __init__(self, encrypted: CiphertextSum, scheme: SelectiveScheme, length: int) -> None:
        self.count = 0
        self._encrypted, self._clear = encrypted, scheme.clear_sum(length)
        self._fresh_bytes = scheme.fresh_bytes(length)

    def fold(self, body: bytes | memoryview) -> None:
        """See `CiphertextSum.fold`."""
        encrypted, clear = _halves(body, self._fresh_bytes, self._clear)
        # In this order: what is wrong with the ciphertexts is found before anything is added.
        self._encrypted.fold(encrypted)
        self._clear.fold(clear)
        self.count += 1

    def to_bytes(self) -> bytes:
        """See `CiphertextSum.to_bytes`."""
        return self._encrypted.to_bytes() + self._clear.to_wire(self._clear.signed())

    def state(self) -> bytes:
        """See `CiphertextSum.state`."""
        return self._encrypted.state() + self._clear.to_wire(self._clear.signed())

    def restore(self, body: bytes, *, count: int) -> None:
        """See `CiphertextSum.restore`."""
        encrypted, clear = _halves(body, len(body), self._clear)
        self._encrypted.restore(encrypted.tobytes(), count=count)
        self._clear.fold(clear)
        self.count = count


class SelectiveDecryptor:
    """Opens the encrypted half of a sum and puts the other beside it."""

    def __init__(self, inner: Decryptor, scheme: SelectiveScheme) -> None:
        self._inner, self._scheme = inner, scheme

    def decrypt(self, body: bytes | memoryview, *, length: int, clients: int) -> NDArray[np.int64]:
        """See `he.scheme.Decryptor.decrypt`."""
        scheme, clear = self._scheme, self._scheme.clear_sum(length)
        ciphertexts, rest = _halves(body, scheme.sum_bytes(length), clear)
        clear.fold(rest)
        totals = np.empty(length, np.int64)
        totals[scheme.encrypted] = self._inner.decrypt(ciphertexts, length=scheme.count, clients=clients)
        totals[~scheme.encrypted] = clear.signed()
        return totals


def _halves(body: bytes | memoryview, whole: int, clear: RingSum) -> tuple[memoryview, memoryview]:
    """Ciphertexts and ring elements of a message. Raises `Malformed` unless it has exactly `whole` bytes (C4)."""
    if len(body) != whole:
        raise Malformed(f"{len(body)} bytes, expected exactly {whole}")
    start = whole - clear.wire_bytes
    return memoryview(body)[:start], memoryview(body)[start:]
