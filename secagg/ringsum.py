"""Adding integer vectors in the ring 2^modulus_bits, in place, as they arrive; and how they stand on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.fixedpoint import FixedPoint, Integers
from secagg.packing import pack, packed_bytes, spare_bits_are_zero, unpack


class WrongLength(ValueError):
    """A vector on the wire has not exactly the bytes, to the last bit, that the spec says."""


class RingSum:
    """A running sum of vectors of `length` ring elements. Memory: one vector.

    On the wire, elements of 32 and 64 bits are little-endian words; narrower ones are packed (`secagg.packing`). The
    sum is kept modulo 2^32 or 2^64, of which a narrower ring is the low bits.
    """

    def __init__(self, encoding: FixedPoint, length: int) -> None:
        self._wire = encoding.ring.newbyteorder("<")
        self._bits = encoding.modulus_bits
        self._signed = encoding.dtype
        self._length = length
        # Allocated at the first vector: a spec alone, or a hostile message, costs no memory.
        self._total: NDArray[np.unsignedinteger[Any]] | None = None

    @property
    def wire_bytes(self) -> int:
        """Bytes of one vector on the wire."""
        return packed_bytes(self._length, self._bits)

    @property
    def _packed(self) -> bool:
        return self._bits < 8 * self._wire.itemsize

    def to_wire(self, integers: Integers) -> memoryview:
        """The bytes of a vector, without a copy where it is not packed and the machine is little-endian."""
        ring = integers.view(np.dtype(f"u{integers.dtype.itemsize}"))
        if self._packed:
            return pack(ring, self._bits).data
        return np.ascontiguousarray(ring, self._wire).view(np.uint8).data

    def fold(self, body: bytes | memoryview) -> None:
        """Add one vector. Raises `WrongLength` and changes nothing."""
        if len(body) != self.wire_bytes:
            raise WrongLength(f"vector of {len(body)} bytes, expected exactly {self.wire_bytes}")
        if not self._packed:
            self.fold_ring(np.frombuffer(body, self._wire))
            return
        # The ring is the low bits, so that whatever else stood there would not change the sum, and could hide anything.
        if not spare_bits_are_zero(body, self._length, self._bits):
            raise WrongLength(f"vector of {self._length} elements of {self._bits} bits goes on behind its last element")
        total = self._allocated()
        for place, elements in unpack(body, self._length, self._bits):
            np.add(total[place], elements, out=total[place])

    def fold_ring(self, elements: NDArray[np.unsignedinteger[Any]]) -> None:
        """Add one vector of ring elements. Raises `WrongLength` unless its shape is `(length,)`."""
        if elements.shape != (self._length,):
            raise WrongLength(f"ring elements of shape {elements.shape}, expected ({self._length},)")
        total = self._allocated()
        np.add(total, elements, out=total)

    def signed(self) -> Integers:
        """The sum as signed integers: exact as long as the encoding's overflow proof holds."""
        total = self._total if self._total is not None else np.zeros(self._length, self._wire)
        signed = total.astype(total.dtype.newbyteorder("="), copy=False).view(self._signed)
        if self._packed:
            # Up to the sign bit of the word, and back with copies of it.
            gap = 32 - self._bits
            signed = (signed << gap) >> gap
        return signed

    def store(self) -> NDArray[np.unsignedinteger[Any]] | None:
        return self._total

    def load(self, total: NDArray[np.unsignedinteger[Any]] | None) -> None:
        self._total = None if total is None else total.copy()

    def _allocated(self) -> NDArray[np.unsignedinteger[Any]]:
        if self._total is None:
            self._total = np.zeros(self._length, self._wire.newbyteorder("="))
        return self._total
