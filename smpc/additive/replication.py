"""Who holds which share: replicated secret sharing in which the server takes part in every reconstruction.

An update x is the server's vector plus one share for every set of `threshold` - 2 helpers (the aggregators beside the
server), and that share is held by all helpers *outside* the set. This is the construction of Ito, Saito and Nishizeki
(1989) for the access structure "the server and `threshold` - 1 helpers"; it is linear in any ring (Cramer, Damgard and
Ishai 2005, TCC), so holders add their shares without talking to each other. With as many helpers as are needed each
share has one holder, which is plain additive sharing.

Guarantee: the server and any `threshold` - 2 helpers lack one share, and all helpers together lack the server's
vector; what is lacking is uniform, so they learn nothing. The server and any `threshold` - 1 helpers lack nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from math import comb

from secagg.errors import Refused
from secagg.identity import PartyId

MAX_SHARES = 64


def check_threshold(aggregators: int, threshold: int) -> None:
    """Raise `Refused`, with what would do, unless `threshold` of `aggregators` is a sharing of at most 64 shares."""
    if not 2 <= threshold <= aggregators:
        raise Refused(f"smpc: threshold is {threshold}, expected 2 to {aggregators}, the number of aggregators")
    if (shares := comb(aggregators - 1, threshold - 2)) > MAX_SHARES:
        fine = [t for t in range(2, aggregators + 1) if comb(aggregators - 1, t - 2) <= MAX_SHARES]
        raise Refused(
            f"smpc: threshold {threshold} of {aggregators} aggregators takes {shares} shares, expected {MAX_SHARES} at "
            f"most: a threshold of {', '.join(map(str, fine[:-1]))} or {fine[-1]} would do, or fewer aggregators"
        )


class Replication:
    """The shares of one sharing, numbered from 0, and their holders.

    Attributes:
        helpers: the aggregators beside the server, sorted by name.
        needed: how many of them must stay to the end.
        holders: for each share the helpers that hold it, sorted by name.
    """

    def __init__(self, helpers: Iterable[PartyId], threshold: int) -> None:
        self.helpers = tuple(sorted(helpers))
        self.needed = threshold - 1
        copies = len(self.helpers) - self.needed + 1
        self.holders: tuple[tuple[PartyId, ...], ...] = tuple(combinations(self.helpers, copies))
        self._held = {
            helper: tuple(share for share, holders in enumerate(self.holders) if helper in holders)
            for helper in self.helpers
        }

    @property
    def replicated(self) -> bool:
        """Whether a share has more than one holder, so that one may die, and two can be held against each other."""
        return len(self.helpers) > self.needed

    @property
    def each(self) -> int:
        """How many shares every helper holds."""
        return len(self._held[self.helpers[0]])

    def held_by(self, helper: PartyId) -> tuple[int, ...]:
        """The shares of one helper, ascending."""
        return self._held[helper]

    def assign(self, live: Collection[PartyId]) -> Mapping[PartyId, tuple[int, ...]]:
        """Which of the `live` helpers sends which shares: each share once, to helpers alike as far as may be.

        `needed` helpers at least must be live: then each share has a live holder.
        """
        given: dict[PartyId, tuple[int, ...]] = {}
        for share, holders in enumerate(self.holders):
            helper = min((h for h in holders if h in live), key=lambda h: len(given.get(h, ())))
            given[helper] = (*given.get(helper, ()), share)
        return given
