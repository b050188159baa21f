"""Adding integer vectors in the ring 2^32 or 2^64, in place, as they arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.fixedpoint import FixedPoint, Integers


class WrongLength(ValueError):
    """A vector on the wire has not exactly the bytes that the spec says."""


class RingSum:
    """A running sum of vectors of `length` ring elements, little-endian on the wire. Memory: one vector."""

    def __init__(self, encoding: FixedPoint, length: int) -> None:
        self._wire = encoding.ring.newbyteorder("<")
        self._signed = encoding.dtype
        self._length = length
        # Allocated at the first vector: a spec alone, or a hostile message, costs no memory.
        self._total: NDArray[np.unsignedinteger[Any]] | None = None

    @property
    def wire_bytes(self) -> int:
        """Bytes of one vector on the wire."""
        return self._length * self._wire.itemsize

    def to_wire(self, integers: Integers) -> memoryview:
        """The bytes of an encoding, without a copy on little-endian machines."""
        ring = integers.view(np.dtype(f"u{integers.dtype.itemsize}"))
        return np.ascontiguousarray(ring, self._wire).view(np.uint8).data

    def fold(self, body: bytes | memoryview) -> None:
        """Add one vector. Raises `WrongLength` and changes nothing."""
        if len(body) != self.wire_bytes:
            raise WrongLength(f"vector of {len(body)} bytes, expected exactly {self.wire_bytes}")
        self.fold_ring(np.frombuffer(body, self._wire))

    def fold_ring(self, elements: NDArray[np.unsignedinteger[Any]]) -> None:
        """Add one vector of ring elements. Raises `WrongLength` unless its shape is `(length,)`."""
        if elements.shape != (self._length,):
            raise WrongLength(f"ring elements of shape {elements.shape}, expected ({self._length},)")
        if self._total is None:
            self._total = np.zeros(self._length, self._wire.newbyteorder("="))
        np.add(self._total, elements, out=self._total)

    def signed(self) -> Integers:
        """The sum as signed integers: exact as long as the encoding's overflow proof holds."""
        total = self._total if self._total is not None else np.zeros(self._length, self._wire)
        return total.astype(total.dtype.newbyteorder("="), copy=False).view(self._signed)

    def store(self) -> NDArray[np.unsignedinteger[Any]] | None:
        return self._total

    def load(self, total: NDArray[np.unsignedinteger[Any]] | None) -> None:
        self._total = None if total is None else total.copy()
