"""What the server holds of everybody once the ring is formed: who came how far, envelopes, digests, released shares.

Everything is by place in the ring and slot: row p of a table belongs to the client at place p, column s to its
neighbour in slot s. What p sent *for* that neighbour stands in p's row; what it received from it stands in the
neighbour's row, in the mirrored slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smpc.cohort import Mask
from smpc.secaggplus import steps
from smpc.secaggplus.graph import Indices, Ring
from smpc.secaggplus.shamir import LIMBS, combine
from smpc.secaggplus.sharing import COMMITMENT_BYTES, DIGEST_BYTES

_AT_ONCE = 1024
_MASKS = ("shared", "alive", "agreed", "held")
_ARRAYS = ("parcels", "digests", "seed_commitments", "nonces", "signatures", "released")


class Tables:
    """The tables of one round, for n clients with k neighbours each.

    Attributes:
        place_of: the place in the ring of each client present, by its number in the roster.
        shared, alive, agreed: who sent shares, a vector, a signature; bool (n,).
        parcels: for each neighbour a sealed pair of shares and a digest of each; uint8 (n, k, ...).
        digests: what is left of the parcels once they are delivered; uint8 (n, k, 2, 16).
        seed_commitments, nonces, signatures: of each client; uint8 (n, ...).
        held, released: of which neighbours it released a share, and these; bool (n, k), uint32 (n, k, 9).
    """

    def __init__(self, ring: Ring, threshold: int) -> None:
        n, k = len(ring), ring.degree
        self.ring = ring
        self.threshold = threshold
        self.place_of = {client: place for place, client in enumerate(ring.order.tolist())}
        self.shared, self.alive, self.agreed = (np.zeros(n, bool) for _ in range(3))
        self.parcels = np.zeros((n, k, steps.PARCEL_BYTES), np.uint8)
        self.digests = np.zeros((0, k, 2, DIGEST_BYTES), np.uint8)
        self.seed_commitments = np.zeros((n, COMMITMENT_BYTES), np.uint8)
        self.nonces = np.zeros((n, steps.NONCE_BYTES), np.uint8)
        self.signatures = np.zeros((n, steps.SIGNATURE_BYTES), np.uint8)
        self.held = np.zeros((n, k), bool)
        self.released = np.zeros((n, k, LIMBS), np.uint32)

    def neighbours_among(self, members: Mask) -> Indices:
        """How many neighbours of each client are among `members`."""
        return np.asarray(np.count_nonzero(members[self.ring.places], axis=1))

    def drop_lonely(self) -> None:
        """Take out of `shared` whoever has fewer than `threshold` neighbours in it, until nobody has."""
        while (lonely := self.shared & (self.neighbours_among(self.shared) < self.threshold)).any():
            self.shared &= ~lonely

    def parcels_to(self, place: int) -> tuple[Mask, bytes]:
        """Which neighbours of a client shared, and their parcels for it."""
        neighbours = self.ring.places[place]
        sharing = self.shared[neighbours]
        return sharing, self.parcels[neighbours[sharing], self.ring.mirror[sharing]].tobytes()

    def forget_parcels(self) -> None:
        """Once they are delivered, keep the digests alone."""
        n, k, _ = self.parcels.shape
        self.digests = self.parcels[:, :, steps.ENVELOPE_BYTES :].reshape(n, k, 2, DIGEST_BYTES)
        self.parcels = self.parcels[:0]

    def lost(self) -> Mask:
        """Who shared and vanished, and left masks in the vectors of survivors."""
        return np.asarray(self.shared & ~self.alive & (self.neighbours_among(self.alive) > 0))

    def released_of(self) -> Indices:
        """How many shares of each client have been released."""
        return np.asarray(np.count_nonzero(self.held[self.ring.places, self.ring.mirror], axis=1))

    def secrets(self, members: Mask) -> Iterator[tuple[int, bytes | None]]:
        """The place and the secret of each member, from `threshold` of its shares; None if they make up none."""
        mirror, places = self.ring.mirror, np.flatnonzero(members)
        for start in range(0, places.size, _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            holders = self.ring.places[some]
            slots = np.argsort(~self.held[holders, mirror], axis=1, kind="stable")[:, : self.threshold]
            rows = np.take_along_axis(holders, slots, axis=1)
            yield from zip(some.tolist(), combine(slots + 1, self.released[rows, mirror[slots]]), strict=True)

    def over(self, clients: int, members: Mask) -> Mask:
        """A mask over places as one over a roster of so many clients."""
        over: NDArray[np.bool_] = np.zeros(clients, bool)
        over[self.ring.order[members]] = True
        return over

    def store(self) -> dict[str, Any]:
        fields: dict[str, Any] = {name: getattr(self, name).astype(np.uint8) for name in _MASKS}
        fields |= {name: getattr(self, name) for name in _ARRAYS}
        return {"ring": [self.ring.order, self.ring.degree, self.threshold], **fields}

    @classmethod
    def load(cls, fields: dict[str, Any]) -> Tables:
        order, degree, threshold = fields["ring"]
        tables = cls(Ring(order, degree), threshold)
        for name in _MASKS:
            setattr(tables, name, fields[name].astype(bool))
        for name in _ARRAYS:
            setattr(tables, name, fields[name].copy())
        return tables
