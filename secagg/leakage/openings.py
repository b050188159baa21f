"""Whether bytes on the wire hold integers that should be secret: read by looking for them.

A frame is searched for a known vector as it would stand there in the clear: whole, or as words at any alignment of
which at least eight in a row are, in this order, coordinates of the vector. That is what an observer finds who knows
where to look, and it needs no knowledge of any protocol. A run of eight random 32-bit words matches a vector of 10^6
coordinates with a probability below 10^-28 at each place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.fixedpoint import FixedPoint, Integers
from secagg.frames import HEADER_BYTES
from secagg.ringsum import RingSum

MIN_RUN = 8
Coordinates = NDArray[np.bool_]


def open_coordinates(frame: bytes | memoryview, integers: Integers, encoding: FixedPoint) -> Coordinates:
    """Which coordinates of `integers` lie open in the body of `frame`: bool of shape `(n,)`.

    Vectors of a ring that travels packed (20 to 24 bits) are found whole or not at all, and so are those of fewer than
    eight coordinates.
    """
    body = bytes(frame[HEADER_BYTES:])
    found = np.zeros(integers.size, bool)
    if bytes(RingSum(encoding, integers.size).to_wire(integers)) in body:
        found[:] = True
        return found
    if encoding.modulus_bits < 32:
        return found
    ring = integers.view(encoding.ring)
    places: dict[int, list[int]] = defaultdict(list)
    values = np.unique(ring)
    for offset in range(min(encoding.ring.itemsize, len(body))):
        count = (len(body) - offset) // encoding.ring.itemsize
        words = np.frombuffer(body, encoding.ring.newbyteorder("<"), count=count, offset=offset)
        nearest = values[np.minimum(np.searchsorted(values, words), values.size - 1)]
        for start, stop in _runs(nearest == words):
            if not places:
                for place, value in enumerate(ring.tolist()):
                    places[value].append(place)
            matched = _in_order(words[start:stop], places)
            if len(matched) >= MIN_RUN:
                found[matched] = True
    return found


def _runs(mask: Coordinates) -> list[tuple[int, int]]:
    """Where `mask` is true at least `MIN_RUN` times in a row: starts and stops."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= MIN_RUN]


def _in_order(words: NDArray[np.unsignedinteger[Any]], places: dict[int, list[int]]) -> list[int]:
    """The coordinates that the words stand for, each the next of its value behind the one before."""
    matched: list[int] = []
    for word in words.tolist():
        candidates = places[word]
        at = bisect_right(candidates, matched[-1]) if matched else 0
        if at == len(candidates):
            break
        matched.append(candidates[at])
    return matched
