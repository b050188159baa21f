"""A secret key outside its object: not bytes, so that no message takes it by mistake (C1).

What sends asks for `bytes | memoryview`; a `LocalKey` is neither, gives no buffer, and does not print, pickle or copy.
It becomes octets in three places, each named: the state that its party keeps, a worker of this process, and an
envelope that one recipient opens.
"""

from __future__ import annotations

from typing import NoReturn

from secagg.protocol import Rng
from secagg.sealing import seal


class LocalKey:
    """The octets of a secret key. Whoever has these opens every ciphertext under the key, alone."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def for_state(self) -> bytes:
        """For the state of the party that made or was given the key."""
        return self._octets

    def for_worker(self) -> bytes:
        """For `he.workers.run`, which hands it on in memory without a name."""
        return self._octets

    def sealed_to(self, recipient: bytes, *, context: bytes, rng: Rng) -> bytes:
        """In an envelope for whoever has the key to `recipient`, 32 bytes, an X25519 public key."""
        return seal(self._octets, recipient, context=context, rng=rng)

    def __repr__(self) -> str:
        return "<LocalKey, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a LocalKey is neither pickled nor copied")
