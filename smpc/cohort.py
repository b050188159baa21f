"""A set of clients on the wire: one bit for each client of the roster, in the order of their names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from secagg.identity import PartyId


class Malformed(ValueError):
    """The bytes are not a set over this roster."""


def set_bytes(clients: int) -> int:
    """Length of a set over `clients` clients."""
    return (clients + 7) // 8


def encode_set(members: Collection[PartyId], clients: Sequence[PartyId]) -> bytes:
    """`members` as bits over the sorted `clients`, least significant bit first."""
    bits = sum(1 << place for place, name in enumerate(clients) if name in members)
    return bits.to_bytes(set_bytes(len(clients)), "little")


def decode_set(body: bytes | memoryview, clients: Sequence[PartyId]) -> frozenset[PartyId]:
    """Read a set back. Raises `Malformed` for a wrong length or a bit beyond the last client."""
    if len(body) != set_bytes(len(clients)):
        raise Malformed(f"client set of {len(body)} bytes, expected {set_bytes(len(clients))}")
    bits = int.from_bytes(body, "little")
    if bits >> len(clients):
        raise Malformed("the client set names a client beyond the roster")
    return frozenset(name for place, name in enumerate(clients) if bits >> place & 1)
