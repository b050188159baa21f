"""The steps of `secaggplus` by number, and the exact length of every message, in bytes."""

from __future__ import annotations

from smpc.cohort import set_bytes
from smpc.masks import SEED_BYTES
from smpc.secaggplus.draw import LINK_BYTES, REVEAL_BYTES
from smpc.secaggplus.keys import ADVERT_BYTES, SEAL_OVERHEAD
from smpc.secaggplus.shamir import SHARE_BYTES
from smpc.secaggplus.sharing import COMMITMENT_BYTES, DIGEST_BYTES

ADVERTISE, GRAPH, SHARES, DELIVER, MASKED, ALIVE, AGREE, QUORUM, RELEASE = range(1, 10)
_FIRST_DRAW = 16
ENVELOPE_BYTES = SEAL_OVERHEAD + 2 * SHARE_BYTES
PARCEL_BYTES = ENVELOPE_BYTES + 2 * DIGEST_BYTES
SIGNATURE_BYTES = 64
NONCE_BYTES = SEED_BYTES


def draw_step(attempt: int) -> int:
    """The step in which the server asks the drawers of an attempt; they answer in the next."""
    return _FIRST_DRAW + 2 * attempt


def reveal_step(attempt: int) -> int:
    return draw_step(attempt) + 1


def graph_bytes(roster: int, drawers: int, degree: int) -> int:
    """Length of a GRAPH: who is present, the attempt, the reveals of the drawers, the neighbours' adverts."""
    return set_bytes(roster) + 1 + drawers * REVEAL_BYTES + degree * ADVERT_BYTES


def draw_bytes(roster: int, drawers: int) -> int:
    """Length of a DRAW: who is present, the drawers' commitments."""
    return set_bytes(roster) + drawers * LINK_BYTES


def shares_bytes(degree: int) -> int:
    """Length of a SHARES: a commitment to the seed, for each neighbour an envelope and a digest of each share."""
    return COMMITMENT_BYTES + degree * PARCEL_BYTES


def deliver_bytes(degree: int, sharing: int) -> int:
    """Length of a DELIVER: which neighbours shared, their parcels."""
    return set_bytes(degree) + sharing * PARCEL_BYTES


def quorum_bytes(degree: int, threshold: int) -> int:
    """Length of a QUORUM: whose signatures follow, and these."""
    return set_bytes(degree) + threshold * SIGNATURE_BYTES


def release_bytes(degree: int, held: int) -> int:
    """Length of a RELEASE: of which neighbours a share follows, and these."""
    return set_bytes(degree) + held * SHARE_BYTES
