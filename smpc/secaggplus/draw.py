"""The draw: clients put the ring in an order that no party chooses, by commitment and reveal.

With its keys every client sends a commitment. Once it is settled who is present, some clients, the *drawers*, are shown
each other's commitments, and each reveals its secret under its signature. The order is a hash of all those secrets.

- One honest drawer is enough: its secret is not known before all commitments of the draw are fixed, since it signs
  them together with its secret. Who the drawers are follows from a hash of who is present. An active server may choose
  among ways to leave clients out, offline; the number of drawers is such that 2^64 trials find drawers who are all
  corrupt with probability 2^-40 only.
- If a drawer is lost, its draw is void: a server that could leave a secret out after seeing the others would choose
  among orders. All who are present answer a draw, the drawers with their secret, the others with nothing; so a void
  draw shows who else is lost, and those who answered draw again, sixteen times at most. A client commits to the end
  of a hash chain (Lamport 1981) and reveals one link a draw, so that one commitment serves them all.
- A server that voids draws, or shows different clients different sets, chooses among as many orders as there are
  secrets of honest clients: 16 for each. The calculator allows for that.

Guarantee: each order that a client accepts is a random function of a secret that was fixed and unknown when
everything else that goes into it was fixed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from secagg.identity import Identity, PublicIdentity
from smpc.cohort import Mask, encode_mask
from smpc.secaggplus.calculator import PRIVACY_BITS
from smpc.secaggplus.graph import Indices, shuffled

ATTEMPTS = 16
LINK_BYTES = 32
REVEAL_BYTES = LINK_BYTES + 64
_OFFLINE_BITS = 64


class NotDrawn(ValueError):
    """The evidence does not show that this order was drawn."""


def commitment(secret: bytes) -> bytes:
    """What a client sends with its keys: the end of a chain of hashes that begins with its secret."""
    return _forward(secret, ATTEMPTS)


def link(secret: bytes, attempt: int) -> bytes:
    """What a client reveals in draw `attempt` (from 0). Later draws reveal earlier links."""
    return _forward(secret, ATTEMPTS - 1 - attempt)


def commitment_of(revealed: bytes, attempt: int) -> bytes:
    """The commitment that a link of draw `attempt` belongs to."""
    return _forward(revealed, attempt + 1)


def _forward(value: bytes, steps: int) -> bytes:
    for _ in range(steps):
        value = hashlib.sha256(b"secagg/v1/secaggplus/link" + value).digest()
    return value


@dataclass(frozen=True)
class Draw:
    """One attempt among the clients `present` (a mask over the roster), at most `corrupt` of whom are corrupt.

    `spec` is the digest of the round's spec.
    """

    spec: bytes
    present: Mask
    corrupt: int
    attempt: int

    @cached_property
    def drawers(self) -> Indices:
        """Who draws, by index in the roster, in the order in which commitments and links are written."""
        present = np.flatnonzero(self.present)
        return shuffled(present, b"drawers" + self._context)[: drawer_count(present.size, self.corrupt)]

    def signed(self, commitments: Sequence[bytes], own: bytes) -> bytes:
        """What a drawer signs: the draw, all commitments in it, and its own link."""
        return b"secagg/v1/secaggplus/draw" + self._context + _digest(commitments) + own

    def reveal(self, secret: bytes, commitments: Sequence[bytes], identity: Identity) -> bytes:
        """A drawer's link and its signature."""
        own = link(secret, self.attempt)
        return own + identity.sign(self.signed(commitments, own))

    def seed(self, reveals: Sequence[bytes], identities: Sequence[PublicIdentity]) -> bytes:
        """The seed of the order, from the reveals of all drawers in their order. Raises `NotDrawn`."""
        links = [reveal[:LINK_BYTES] for reveal in reveals]
        commitments = [commitment_of(one, self.attempt) for one in links]
        for place, (reveal, identity) in enumerate(zip(reveals, identities, strict=True)):
            if not identity.verify(reveal[LINK_BYTES:], self.signed(commitments, links[place])):
                raise NotDrawn(f"drawer {place + 1} of {len(reveals)} did not sign this draw")
        return hashlib.sha256(b"secagg/v1/secaggplus/seed" + self._context + b"".join(links)).digest()

    @cached_property
    def _context(self) -> bytes:
        return hashlib.sha256(self.spec + bytes([self.attempt]) + encode_mask(self.present)).digest()


def drawer_count(present: int, corrupt: int) -> int:
    """How many draw, of so many present: 2^64 trials find that many corrupt ones with probability 2^-40 at most."""
    return math.ceil((PRIVACY_BITS + _OFFLINE_BITS) / math.log2(present / corrupt)) if corrupt else 1


def void(present: int, corrupt: int, dropped: int) -> Fraction:
    """A bound on the probability that clients vanish so that every draw is void: at most 1.

    Draw a is void if one of m drawers is among the d_a who vanish in it: with probability m d_a / (present - dropped)
    at most. The d_a add up to `dropped`, and the product is the largest where they are equal.
    """
    drawers, staying = drawer_count(present, corrupt), max(1, present - dropped)
    return min(Fraction(1), Fraction(drawers * dropped, ATTEMPTS * staying)) ** ATTEMPTS


def undrawn_seed(spec: bytes, present: Mask) -> bytes:
    """The seed where nobody draws: under a passive server, and in a complete graph, where the order is nothing."""
    return hashlib.sha256(b"secagg/v1/secaggplus/undrawn" + spec + encode_mask(present)).digest()


def _digest(commitments: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(commitments)).digest()
