"""The memory that one call shares with one worker: its arguments, and two slots of items in and results out.

Two slots, so that the worker finds the next items while the results of the last are fetched.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np

from he.residues import Bytes
from secagg.errors import Refused

SLOTS = 2
_ALIGNMENT = 64


@dataclass(frozen=True)
class Shape:
    """Sizes in bytes of the arguments, of an item and of its result; `items` of each fill a slot."""

    arguments: int
    items: int
    item: int
    result: int

    @property
    def edges(self) -> list[int]:
        """Where the slots' items and results begin, in turn; at last, where the arena ends."""
        edges = [_aligned(self.arguments)]
        for _ in range(SLOTS):
            edges.append(edges[-1] + _aligned(self.items * self.item))
            edges.append(edges[-1] + _aligned(self.items * self.result))
        return edges


class Arena:
    """A mapping of the memory behind `descriptor`. It is gone when nobody has it mapped any more."""

    def __init__(self, descriptor: int, shape: Shape) -> None:
        *edges, end = shape.edges
        octets = np.frombuffer(mmap.mmap(descriptor, max(end, 1)), np.uint8)
        self.arguments: Bytes = octets[: shape.arguments]
        self.items: list[Bytes] = [
            octets[at : at + shape.items * shape.item].reshape(shape.items, shape.item) for at in edges[0::2]
        ]
        self.results: list[Bytes] = [
            octets[at : at + shape.items * shape.result].reshape(shape.items, shape.result) for at in edges[1::2]
        ]


def allocate(shape: Shape) -> int:
    """A descriptor of memory for an arena of this shape: it has no name, and ends with its last user."""
    if not hasattr(os, "memfd_create"):
        raise Refused("worker processes share memory files, which this system does not have (Linux does)")
    descriptor = os.memfd_create("secagg")
    os.ftruncate(descriptor, max(shape.edges[-1], 1))
    return descriptor


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
