"""Who is whose neighbour: a ring in random order, where everybody knows the nearest on either side.

Clients stand in a ring in the order of a permutation; the neighbours of one are the degree // 2 before it and
after it, and for an odd degree also the one opposite. That is the Harary graph, which stays connected
until two runs of degree // 2 clients are lost (Harary 1962). With degree n - 1 it is complete, and the order does not
matter.

A client's neighbours have *slots* 0 .. degree - 1, in the order of the ring. If b has slot s with a, then a has
slot degree - 1 - s with b.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def shuffled(clients: Indices, seed: bytes) -> Indices:
    """`clients` in the random order that `seed` stands for, the same at every party."""
    stream = hashlib.shake_256(b"secagg/v1/secaggplus/order" + seed).digest(8 * clients.size)
    return clients[np.argsort(np.frombuffer(stream, "<u8"), kind="stable")]


class Ring:
    """Clients (by index in the roster) in the order of the ring, `degree` neighbours each.

    `degree` times the number of clients must be even.
    """

    def __init__(self, order: Indices, degree: int) -> None:
        self.order = order
        self.degree = degree
        half = degree // 2
        opposite = [order.size // 2] if degree % 2 else []
        self._offsets = np.array([*range(-half, 0), *opposite, *range(1, half + 1)], np.int64)

    def __len__(self) -> int:
        return self.order.size

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for the order and the degree."""
        return hashlib.sha256(self.degree.to_bytes(4, "big") + self.order.astype("<i8").tobytes()).digest()

    def of(self, client: int) -> Indices:
        """The neighbours of a client, by slot."""
        place = int(np.flatnonzero(self.order == client)[0])
        return self.order[(place + self._offsets) % self.order.size]

    @cached_property
    def places(self) -> Indices:
        """The places in the ring of everybody's neighbours: int64 of shape (clients, degree), by place and slot."""
        return np.asarray((np.arange(self.order.size)[:, None] + self._offsets) % self.order.size)

    @cached_property
    def mirror(self) -> Indices:
        """For each slot, the slot that one has with that neighbour."""
        return np.arange(self.degree)[::-1].copy()
