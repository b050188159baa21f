"""The alias method on whole numbers: draws from any finite distribution, one table look-up a draw.

Walker 1977; built as Vose 1991 does. The chance of every outcome is a multiple of 2^-192. A table of 2^k columns gives
each column the same 2^(192 - k) of these units, shared by at most two outcomes. A uniform word picks the column by its
top k bits and the outcome by comparing the rest with a threshold; a word *on* the threshold, one in 2^(64 - k),
takes 128 more bits. So no chance is rounded when drawing.

Guarantee: given uniform words, every outcome has exactly the chance `weight / 2^192`, independently of other draws.

Leakage: which cache lines are read depends on the outcome. Who shares a cache with the drawer may learn about the
noise; on a machine of one's own nobody does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Refused
from secagg.gaussian import Keystream

UNITS = 1 << 192
_WORD_BITS, _EXTRA_BITS = 64, 128
_CHUNK = 1 << 14


class AliasTable:
    """A distribution over `first`, `first + 1`, ...: outcome i has chance `weights[i] / 2^192`.

    Raises:
        Refused: a weight is negative, they do not sum to 2^192, or there are more than 2^24 of them.
    """

    def __init__(self, weights: Sequence[int], *, first: int) -> None:
        if sum(weights) != UNITS or min(weights) < 0:
            raise Refused("alias table: expected weights of 0 or more that sum to 2^192")
        bits = max(1, (len(weights) - 1).bit_length())
        if bits > 24:
            raise Refused(f"alias table: {len(weights)} outcomes, expected 2^24 at most")
        own, other = _columns(list(weights) + [0] * ((1 << bits) - len(weights)), UNITS >> bits)
        place = _WORD_BITS - bits
        edges = [(column << place) + (share >> _EXTRA_BITS) for column, share in enumerate(own)]
        # A full column's edge is the next one's beginning, for the last past all words: its two outcomes are one.
        self._edges = np.array([min(edge, (1 << _WORD_BITS) - 1) for edge in edges], np.uint64)
        self._rest = own
        self._bits = bits
        outcomes = np.arange(1 << bits) + first
        # Beside each other: the column's own outcome, and the one that shares it.
        self._outcomes = np.stack([outcomes, np.array(other) + first], axis=1).ravel()

    def draw(self, size: int, stream: Keystream) -> NDArray[np.int64]:
        """`size` independent outcomes, int64."""
        out = np.empty(size, np.int64)
        scratch = np.empty(min(size, _CHUNK), np.uint64)
        shift = np.uint64(_WORD_BITS - self._bits)
        for start in range(0, size, _CHUNK):
            piece = out[start : start + _CHUNK]
            words = stream.words(piece.size)
            edges = scratch[: piece.size]
            column = (words >> shift).view(np.int64)
            np.take(self._edges, column, out=edges, mode="clip")
            beyond = words >= edges
            for at in np.flatnonzero(words == edges):
                beyond[at] = self._beyond(int(column[at]), stream)
            column *= 2
            column += beyond
            np.take(self._outcomes, column, out=piece, mode="clip")
        return out

    def _beyond(self, column: int, stream: Keystream) -> bool:
        """Whether a word on the edge of `column` gives the second outcome: 128 more bits say."""
        more = int.from_bytes(stream.bytes(_EXTRA_BITS // 8), "big")
        return more >= self._rest[column] & ((1 << _EXTRA_BITS) - 1)


def rounded(chances: list[int]) -> list[int]:
    """An odd count of chances, of any scale, in multiples of 2^-192: the middle one takes what rounding leaves."""
    total = sum(chances)
    weights = [UNITS * chance // total for chance in chances]
    weights[len(weights) // 2] += UNITS - sum(weights)
    return weights


def _columns(weights: list[int], capacity: int) -> tuple[list[int], list[int]]:
    """How much of each column is its own outcome's, and whose the rest is (Vose 1991). `weights` is used up."""
    other = list(range(len(weights)))
    small = [i for i, weight in enumerate(weights) if weight < capacity]
    large = [i for i, weight in enumerate(weights) if weight > capacity]
    while small:
        poor, rich = small.pop(), large[-1]
        other[poor] = rich
        weights[rich] -= capacity - weights[poor]
        if weights[rich] <= capacity:
            large.pop()
            if weights[rich] < capacity:
                small.append(rich)
    return weights, other
