"""The two kinds of share, and what their owner tells the server so that wrong ones are known.

A digest of a share, or a commitment to a seed, says nothing of either: they are too random to be guessed (in the
random oracle model).
"""

from __future__ import annotations

import hashlib

SELF, KEY = 0, 1  # of the seed of the own mask, of the private mask key
DIGEST_BYTES = 16
COMMITMENT_BYTES = 32


def share_digest(spec: bytes, *, owner: bytes, holder: bytes, kind: int, share: bytes) -> bytes:
    """What the owner tells the server of each share, so that an altered one is known by it (M8)."""
    text = b"secagg/v1/secaggplus/share" + spec + owner + holder + bytes([kind]) + share
    return hashlib.sha256(text).digest()[:DIGEST_BYTES]


def seed_commitment(spec: bytes, owner: bytes, seed: bytes) -> bytes:
    """What the owner tells the server of its seed, so that a wrong one is known when it is recovered."""
    return hashlib.sha256(b"secagg/v1/secaggplus/seed commitment" + spec + owner + seed).digest()
