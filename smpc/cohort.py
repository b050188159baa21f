"""A set of clients on the wire: one bit for each client of the roster, in the order of their names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from secagg.identity import PartyId


class Malformed(ValueError):
    """The bytes are not a set over this roster."""


def set_bytes(clients: int) -> int:
    """Length of a set over `clients` clients."""
    return (clients + 7) // 8


def encode_set(members: Collection[PartyId], clients: Sequence[PartyId]) -> bytes:
    """`members` as bits over the sorted `clients`, least significant bit first."""
    present = set(members)
    return np.packbits(np.array([name in present for name in clients], bool), bitorder="little").tobytes()


def decode_set(body: bytes | memoryview, clients: Sequence[PartyId]) -> frozenset[PartyId]:
    """Read a set back. Raises `Malformed` for a wrong length or a bit beyond the last client."""
    if len(body) != set_bytes(len(clients)):
        raise Malformed(f"client set of {len(body)} bytes, expected {set_bytes(len(clients))}")
    bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")
    if bits[len(clients) :].any():
        raise Malformed("the client set names a client beyond the roster")
    return frozenset(name for name, bit in zip(clients, bits, strict=False) if bit)
