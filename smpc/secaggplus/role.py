"""What client and server of `secaggplus` have in common: numbers of clients, degree and draw, what masks are bound to.

Clients are numbered by the order of their names in the roster; sets of them are masks over those numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np

from secagg.errors import Aborted, Refused, Rejected
from secagg.identity import PartyId
from secagg.protocol import Party
from secagg.session import RoundSession
from secagg.spec import RoundSpec
from smpc.cohort import Malformed, Mask, decode_mask, encode_mask
from smpc.masks import MaskStream
from smpc.secaggplus.calculator import Neighbourhood, quorum
from smpc.secaggplus.draw import Draw
from smpc.secaggplus.parameters import SecAggPlusParameters, cohort, neighbourhood


class Role(RoundSession):
    """Base of the two roles."""

    def __init__(self, spec: RoundSpec, party: Party, parameters: SecAggPlusParameters) -> None:
        super().__init__(spec, party)
        self.parameters = parameters
        self.names = spec.roster.client_names

    @property
    def active(self) -> bool:
        return self.parameters.threat == "active"

    @property
    def length(self) -> int:
        """Ring elements of a vector on the wire."""
        return self.spec.encoding.length(self.spec.layout.size)

    def fingerprint(self, client: int) -> bytes:
        return self.spec.roster.fingerprints[self.names[client]]

    def members(self, mask: Mask) -> tuple[PartyId, ...]:
        """The names behind a mask over the roster."""
        return tuple(self.names[client] for client in np.flatnonzero(mask).tolist())

    def read_mask(self, sender: PartyId, body: memoryview, count: int) -> Mask:
        try:
            return decode_mask(body, count)
        except Malformed as error:
            raise Rejected(sender, str(error)) from None

    def require_present(self, present: Mask) -> None:
        """Raise `Aborted` unless there can be no second ring under this spec, and the minimum cohort is there.

        An honest client is in one ring. Against an active server, which says who is present, so many of the *roster*
        are needed that any two sets of them share an honest client.
        """
        self.require_cohort(np.flatnonzero(present))
        if not self.active:
            return
        roster, count = len(self.names), int(np.count_nonzero(present))
        corrupt = cohort(self.parameters, roster=roster, present=roster).corrupt
        if count < (needed := quorum(roster, corrupt)):
            raise Aborted(
                f"{count} of {roster} clients are said to be present; with {corrupt} corrupt, {needed} are needed so "
                "that a server forms no second ring; nothing was revealed"
            )

    def around(self, present: Mask) -> Neighbourhood:
        """Degree and threshold among those present. Raises `Aborted` where none are private."""
        try:
            return neighbourhood(self.parameters, roster=len(self.names), present=int(np.count_nonzero(present)))
        except Refused as error:
            raise Aborted(f"{error}; nothing was revealed") from None

    def drawn(self, present: Mask) -> bool:
        """Whether the order of the ring matters and must not be the server's choice."""
        return self.active and self.around(present).degree < int(np.count_nonzero(present)) - 1

    def draw(self, present: Mask, attempt: int) -> Draw:
        assumed = cohort(self.parameters, roster=len(self.names), present=int(np.count_nonzero(present)))
        return Draw(self.spec.digest, present, assumed.corrupt, attempt)

    def statement(self, ring: bytes, shared: Mask, alive: Mask) -> bytes:
        """What clients sign before anything is released: the ring (its digest), who shared, who uploaded."""
        sets = encode_mask(shared) + encode_mask(alive)
        return hashlib.sha256(b"secagg/v1/secaggplus/alive" + self.spec.digest + ring + sets).digest()

    def self_mask(self, seed: bytes, client: int, nonce: bytes) -> MaskStream:
        """A client's own mask: of the seed that its neighbours share, and of randomness drawn when it is used."""
        context = (b"self", self.spec.digest, self.fingerprint(client), nonce)
        return MaskStream(seed, suite=self.parameters.suite, context=context)

    def pair_mask(self, secret: bytes, one: int, other: int) -> MaskStream:
        """The mask of a pair, which the lower-numbered client adds and the other subtracts."""
        low, high = sorted((one, other))
        context = (b"pair", self.spec.digest, self.fingerprint(low), self.fingerprint(high))
        return MaskStream(secret, suite=self.parameters.suite, context=context)
