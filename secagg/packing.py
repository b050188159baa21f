"""Ring elements of 20 to 24 bits on the wire, without a wasted bit.

Element i of a vector stands at bit `i * bits` of one long little-endian number; only the last byte may have bits
to spare, and they are zero. So eight elements are `bits` bytes, and each pair of them lies within eight bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Elements = NDArray[np.uint32]
# A multiple of eight, so that every chunk begins at a byte.
_CHUNK = 1 << 15


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` elements take."""
    return -(-count * bits // 8)


def pack(elements: Elements, bits: int) -> NDArray[np.uint8]:
    """The low `bits` (20 to 24) of every element, shape `(n,)`, as uint8 of shape `(packed_bytes(n, bits),)`."""
    out = np.empty(packed_bytes(elements.size, bits), np.uint8)
    chunk = _Chunk(bits)
    words, high = chunk.elements.view("<u8"), np.empty_like(chunk.pairs)
    for start in range(0, elements.size, _CHUNK):
        piece = elements[start : start + _CHUNK]
        chunk.elements[: piece.size] = piece
        chunk.elements[piece.size :] = 0
        np.right_shift(words, chunk.gap, out=high)
        high &= chunk.second
        np.bitwise_and(words, chunk.first, out=chunk.pairs)
        chunk.pairs |= high
        chunk.octets[:] = 0
        for place, shift, fields in chunk.fields:
            fields |= chunk.pairs[place::4] << shift
        at = start * bits // 8
        out[at : at + chunk.size] = chunk.octets[: min(chunk.size, out.size - at)]
    return out


def unpack(packed: bytes | memoryview, count: int, bits: int) -> Iterator[tuple[slice, Elements]]:
    """The elements again, chunk by chunk: their place in the vector, and a buffer that serves the next chunk too."""
    source = np.frombuffer(packed, np.uint8)
    chunk = _Chunk(bits)
    words, high = chunk.elements.view("<u8"), np.empty_like(chunk.pairs)
    for start in range(0, count, _CHUNK):
        at = start * bits // 8
        piece = source[at : at + chunk.size]
        chunk.octets[: piece.size] = piece
        for place, shift, fields in chunk.fields:
            np.right_shift(fields, shift, out=chunk.pairs[place::4])
        np.bitwise_and(chunk.pairs, chunk.second, out=high)
        high <<= chunk.gap
        np.bitwise_and(chunk.pairs, chunk.first, out=words)
        words |= high
        yield slice(start, min(start + _CHUNK, count)), chunk.elements[: count - start]


def spare_bits_are_zero(packed: bytes | memoryview, count: int, bits: int) -> bool:
    """Whether nothing is hidden behind the last element."""
    spare = -count * bits % 8
    return not spare or packed[-1] >> 8 - spare == 0


class _Chunk:
    """Buffers for `_CHUNK` elements, and how a pair of elements lies in a word.

    `pairs` holds two elements in each word, side by side; `fields` are, for each of the four pairs in a group of eight,
    its number, its first bit in a byte, and the eight bytes around it.
    """

    def __init__(self, bits: int) -> None:
        self.size = _CHUNK * bits // 8
        self.elements = np.zeros(_CHUNK, "<u4")
        self.pairs = np.empty(_CHUNK // 2, "<u8")
        self.octets = np.zeros(self.size + 8, np.uint8)
        self.first = np.uint64((1 << bits) - 1)
        self.second = self.first << np.uint64(bits)
        self.gap = np.uint64(32 - bits)
        self.fields: list[tuple[int, np.uint64, NDArray[Any]]] = []
        for place in range(4):
            byte, bit = divmod(2 * bits * place, 8)
            around = np.ndarray((_CHUNK // 8,), "<u8", buffer=self.octets.data, offset=byte, strides=(bits,))
            self.fields.append((place, np.uint64(bit), around))
