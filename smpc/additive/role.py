"""What client, aggregators and server of `smpc` have in common: steps, shares, and what is bound to what.

The protocol and its guarantee are written down in `smpc.additive.backend`.
"""

from __future__ import annotations

from collections.abc import Collection

from secagg.errors import Aborted, Rejected
from secagg.identity import PartyId
from secagg.protocol import Party
from secagg.ringsum import RingSum
from secagg.session import RoundSession
from secagg.spec import RoundSpec
from smpc.additive.replication import Replication
from smpc.cohort import Malformed, decode_set

KEY, SEED, HELD, GO, SHARE, COHORT, AGREE, SUM = range(1, 9)
# Only where a share has several holders:
CHECK, ASK, MISSING, SPARE = range(9, 13)

DIGEST_BYTES = 32
# Of a seed, for two aggregators to compare. A client that wants two seeds with one mark has 2^64 to try.
MARK_BYTES = 16


class AdditiveRole(RoundSession):
    """Base of the three roles."""

    def __init__(self, spec: RoundSpec, party: Party, threshold: int) -> None:
        super().__init__(spec, party)
        self.sharing = Replication(spec.roster.helpers, threshold)

    def ring_sum(self) -> RingSum:
        """An empty sum of vectors of this spec."""
        return RingSum(self.spec.encoding, self.spec.encoding.length(self.spec.layout.size))

    def pair(self, client: PartyId, helper: PartyId) -> bytes:
        """The context that a client's seeds are sealed in: this spec, this client, this aggregator."""
        fingerprints = self.spec.roster.fingerprints
        return self.spec.digest + fingerprints[client] + fingerprints[helper]

    def share_context(self, client: PartyId, share: int) -> tuple[bytes, ...]:
        """The context that a seed is expanded in: this spec, this client, the holders of this share."""
        fingerprints = self.spec.roster.fingerprints
        return (self.spec.digest, fingerprints[client], *(fingerprints[name] for name in self.sharing.holders[share]))

    def read_set(self, sender: PartyId, body: memoryview) -> frozenset[PartyId]:
        try:
            return decode_set(body, self.spec.roster.client_names)
        except Malformed as error:
            raise Rejected(sender, str(error)) from None

    def require_quorum(self, present: Collection[PartyId]) -> None:
        """Raise `Aborted`, naming the silent, unless enough helpers are `present` to hold every share."""
        silent = [repr(name) for name in self.sharing.helpers if name not in present]
        if len(self.sharing.helpers) - len(silent) >= self.sharing.needed:
            return
        if self.sharing.replicated:
            needed = f"{self.sharing.needed} of the {len(self.sharing.helpers)} aggregators beside the server are"
        else:
            needed = "every aggregator is"
        are = "is" if len(silent) == 1 else "are"
        raise Aborted(f"{', '.join(silent)} {are} silent, and {needed} needed; nothing was revealed")
