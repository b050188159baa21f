"""Mask streams: a 32-byte seed becomes as many ring elements as a vector has, added to it or taken from it.

The stream is the keystream of a cipher from `cryptography`, applied to a vector in place in chunks that stay
in the cache, so that a mask is never held as a whole.

Guarantee: to whoever lacks the seed, the masked vector is indistinguishable from uniform over the ring
2^32 or 2^64 (the cipher's pseudo-randomness); a seed serves one vector, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secagg.errors import Refused, did_you_mean
from secagg.sealing import derive

Suite = Literal["chacha20", "aes128ctr", "aes256ctr"]
SUITES: tuple[str, ...] = get_args(Suite)
SEED_BYTES = 32
CHUNK_BYTES = 1 << 18
_ZEROS = bytes(CHUNK_BYTES)


class MaskStream:
    """The mask that a seed stands for in one context (spec digest and the two parties' fingerprints)."""

    def __init__(self, seed: bytes, *, suite: str, context: tuple[bytes, ...]) -> None:
        if suite not in SUITES:
            raise Refused(f"unknown mask suite {suite!r}{did_you_mean(suite, SUITES)}")
        if len(seed) != SEED_BYTES:
            raise Refused(f"mask seed of {len(seed)} bytes, expected {SEED_BYTES}")
        # The key is fresh for every mask, so the counter and nonce may start at zero.
        self._cipher = _cipher(suite, derive(seed, f"mask/{suite}", *context))

    def add_to(self, vector: NDArray[np.unsignedinteger[Any]]) -> None:
        """Add the mask to a contiguous vector of uint32 or uint64, in place, modulo the ring."""
        self._apply(vector, np.add)

    def subtract_from(self, vector: NDArray[np.unsignedinteger[Any]]) -> None:
        """Take the mask from a contiguous vector of uint32 or uint64, in place, modulo the ring."""
        self._apply(vector, np.subtract)

    def _apply(self, vector: NDArray[np.unsignedinteger[Any]], operation: np.ufunc) -> None:
        stream = self._cipher.encryptor()
        buffer = bytearray(CHUNK_BYTES + 15)  # `update_into` may ask for a block more than it writes
        window = memoryview(buffer)
        little_endian = vector.dtype.newbyteorder("<")
        step = CHUNK_BYTES // vector.itemsize
        for start in range(0, vector.size, step):
            piece = vector[start : start + step]
            stream.update_into(memoryview(_ZEROS)[: piece.nbytes], window)
            operation(piece, np.frombuffer(buffer, little_endian, piece.size), out=piece)


def apply_masks(
    vector: NDArray[np.unsignedinteger[Any]],
    masks: Sequence[tuple[MaskStream, Literal[1, -1]]],
    *,
    threads: int = 1,
) -> None:
    """Add (1) or take (-1) any number of masks to or from a contiguous vector, in place, modulo the ring."""
    for stream, sign in masks:
        if sign == 1:
            stream.add_to(vector)
        else:
            stream.subtract_from(vector)


def _cipher(suite: str, key: bytes) -> Cipher[Any]:
    if suite == "chacha20":
        return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None)
    return Cipher(algorithms.AES(key[: 16 if suite == "aes128ctr" else 32]), modes.CTR(bytes(16)))
