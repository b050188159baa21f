"""Masks on the CPU, at the speed at which the cipher makes them.

A piece of the vector that fits the processor's cache takes all its masks before the next piece is touched: the
vector is read from memory once, whatever the number of masks, and no mask is ever held as a whole. Threads
share the work by ranges of the vector, since every stream can be entered at any block; the ciphers and the
additions run without the interpreter's lock.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smpc.masks.stream import BLOCK_BYTES, Masks

Ring = NDArray[np.unsignedinteger[Any]]
CHUNK_BYTES = 1 << 18
_ZEROS = memoryview(bytes(CHUNK_BYTES))


def apply(vector: Ring, masks: Masks, threads: int) -> None:
    """What `apply_masks` does, on a checked vector."""
    chunk = CHUNK_BYTES // vector.itemsize
    chunks = -(-vector.size // chunk)
    each = -(-chunks // threads) * chunk
    if each >= vector.size:
        _apply_range(vector, masks, 0)
        return
    starts = range(0, vector.size, each)
    blocks = [start * vector.itemsize // BLOCK_BYTES for start in starts]
    with ThreadPoolExecutor(len(starts)) as pool:
        # A list, so that what a thread raised is raised here.
        list(pool.map(lambda start, block: _apply_range(vector[start : start + each], masks, block), starts, blocks))


def _apply_range(vector: Ring, masks: Masks, block: int) -> None:
    """All masks, from `block` on, on a part of a vector."""
    streams = [(stream.start(block).update_into, np.add if sign == 1 else np.subtract) for stream, sign in masks]
    buffer = np.empty(CHUNK_BYTES + 16, np.uint8)  # `update_into` asks for a block of AES more than it writes
    words = buffer[:CHUNK_BYTES].view(vector.dtype.newbyteorder("<"))
    for start in range(0, vector.size, words.size):
        piece = vector[start : start + words.size]
        zeros, mask = _ZEROS[: piece.nbytes], words[: piece.size]
        for keystream_into, operation in streams:
            keystream_into(zeros, buffer.data)
            operation(piece, mask, out=piece)
