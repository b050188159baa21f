"""A set of clients on the wire: one bit for each client of the roster, in the order of their names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from secagg.identity import PartyId

Mask = NDArray[np.bool_]


class Malformed(ValueError):
    """The bytes are not a set over this roster."""


def set_bytes(clients: int) -> int:
    """Length of a set over `clients` clients."""
    return (clients + 7) // 8


def encode_set(members: Collection[PartyId], clients: Sequence[PartyId]) -> bytes:
    """`members` as bits over the sorted `clients`, least significant bit first."""
    present = set(members)
    return encode_mask(np.array([name in present for name in clients], bool))


def decode_set(body: bytes | memoryview, clients: Sequence[PartyId]) -> frozenset[PartyId]:
    """Read a set back. Raises `Malformed` for a wrong length or a bit beyond the last client."""
    return frozenset(name for name, bit in zip(clients, decode_mask(body, len(clients)), strict=True) if bit)


def encode_mask(mask: Mask) -> bytes:
    """A mask over the sorted clients as bits, least significant bit first."""
    return np.packbits(mask, bitorder="little").tobytes()


def decode_mask(body: bytes | memoryview, count: int) -> Mask:
    """Read a mask over `count` clients back. Raises `Malformed` as `decode_set` does."""
    if len(body) != set_bytes(count):
        raise Malformed(f"client set of {len(body)} bytes, expected {set_bytes(count)}")
    bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little").view(np.bool_)
    if bits[count:].any():
        raise Malformed("the client set names a client beyond the roster")
    return bits[:count]
