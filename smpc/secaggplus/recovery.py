"""What the server holds of everybody's shares, and how the masks of the survivors' sum are recovered from them.

Everything is by place in the ring and slot: row p of a table belongs to the client at place p, column s to its
neighbour in slot s. The share that this neighbour holds of p stands in the neighbour's own row, in the mirrored slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smpc.cohort import Mask
from smpc.secaggplus.graph import Ring
from smpc.secaggplus.shamir import LIMBS, combine


class Releases:
    """The shares that clients have released so far."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._held = np.zeros((len(ring), ring.degree), bool)
        self._shares = np.zeros((len(ring), ring.degree, LIMBS), np.uint32)

    def add(self, place: int, held: Mask, shares: NDArray[np.uint32]) -> None:
        """The client at `place` releases a share for each slot in `held`: uint32 (count, 9)."""
        self._held[place] = held
        self._shares[place, held] = shares

    def counts(self) -> NDArray[np.int64]:
        """How many shares have been released of the client at each place."""
        return np.count_nonzero(self._held[self._ring.places, self._ring.mirror], axis=1)

    def secrets(self, places: NDArray[np.int64], threshold: int) -> Iterator[bytes | None]:
        """The secrets of the clients at `places`, `threshold` shares of each of whom must be here."""
        mirror = self._ring.mirror
        for start in range(0, places.size, _AT_ONCE):
            holders = self._ring.places[places[start : start + _AT_ONCE]]
            missing = ~self._held[holders, mirror]
            slots = np.argsort(missing, axis=1, kind="stable")[:, :threshold]
            rows = np.take_along_axis(holders, slots, axis=1)
            yield from combine(slots + 1, self._shares[rows, mirror[slots]])

    def store(self) -> list[Any]:
        return [self._held.astype(np.uint8), self._shares]

    def load(self, fields: list[Any]) -> None:
        self._held, self._shares = fields[0].astype(bool), fields[1].copy()


_AT_ONCE = 1024
