"""How many neighbours a client needs, and how many of them must come together to recover a secret.

Among `clients` parties `corrupt` pool what they see with the server and `dropped` vanish; which ones is not
known, but neighbours are drawn at random, so the corrupt and the dropped neighbours of a client are
hypergeometric. All probabilities here are exact fractions: every party computes the same numbers.

    passive server   learns a client if `threshold` of its neighbours are corrupt, or if corrupt and dropped
                     clients cut the ring of neighbours in two
    active server    tells some neighbours that a client is alive and others that it is not. An honest neighbour
                     releases one kind of share, so both kinds reach the threshold t among k neighbours only if
                     corrupt >= 2t - k; or forms several rings under one spec, unless each must hold
                     a `quorum` of the roster: then some honest client would be in two
    loss             fewer than `threshold` neighbours of some client are left

Each is bounded over all clients together (union bound), and for an active server over all draws of the graph that
it could choose from (`smpc.secaggplus.draw`). In a complete graph (degree `clients` - 1) nothing is left to chance: the
bounds are 0 or 1. Sources: Bonawitz et al. 2017 (IACR ePrint 2017/281), Bell et al. 2020 (IACR ePrint 2020/704).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from secagg.errors import Refused

Threat = Literal["passive", "active"]
PRIVACY_BITS = 40
LOSS_BITS = 20
COMPLETE_UP_TO = 64
MAX_DEGREE = 512


@dataclass(frozen=True)
class Cohort:
    """Who takes part: how many clients, how many of them at most corrupt and at most dropped, against what server.

    `draws` is among how many random graphs an active server may choose.
    """

    clients: int
    corrupt: int
    dropped: int
    threat: Threat
    draws: int = 1


@dataclass(frozen=True)
class Neighbourhood:
    """`degree` neighbours for each client, any `threshold` of whom recover a secret of it."""

    degree: int
    threshold: int


def quorum(clients: int, corrupt: int) -> int:
    """How many of `clients` any two sets must have for an honest one to be in both: over (clients + corrupt) / 2."""
    return (clients + corrupt) // 2 + 1


def share_of(rate: float, clients: int) -> int:
    """How many of `clients` a rate stands for, rounded up: 5 % of 10 clients are one. The rate is read as decimal."""
    return math.ceil(Fraction(repr(rate)) * clients)


def tail(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """P(X >= at_least) for X marked ones among `drawn` of `population`, drawn without putting back. Exact."""
    least, most = max(at_least, 0, drawn - (population - marked)), min(marked, drawn)
    ways = sum(math.comb(marked, hit) * math.comb(population - marked, drawn - hit) for hit in range(least, most + 1))
    return Fraction(ways, math.comb(population, drawn))


def privacy_failure(cohort: Cohort, around: Neighbourhood) -> Fraction:
    """A bound on the probability that any honest client can be singled out. At most 1."""
    n, k, t = cohort.clients, around.degree, around.threshold
    needed = t if cohort.threat == "passive" else 2 * t - k
    singled_out = n * tail(n - 1, cohort.corrupt, k, needed)
    return min(Fraction(1), cohort.draws * (singled_out + _cut(cohort, k)))


def loss(cohort: Cohort, around: Neighbourhood) -> Fraction:
    """A bound on the probability that some client has fewer than `threshold` neighbours left. At most 1."""
    n, k = cohort.clients, around.degree
    return min(Fraction(1), n * tail(n - 1, cohort.dropped, k, k - around.threshold + 1))


def bits(probability: Fraction) -> float:
    """-log2 of a probability; infinity for 0."""
    if not probability:
        return math.inf
    return math.log2(probability.denominator) - math.log2(probability.numerator)


@lru_cache(maxsize=256)
def choose(cohort: Cohort) -> Neighbourhood:
    """The fewest neighbours with failures of at most 2^-40 (privacy) and 2^-20 (loss).

    Up to 64 clients the graph is complete, and the threshold the smallest that is private and a majority of the
    neighbours. Raises `Refused` where nothing does.
    """
    n = cohort.clients
    if n > COMPLETE_UP_TO:
        for degree in range(2, min(n - 2, MAX_DEGREE) + 1):
            if degree * n % 2:
                continue  # no such graph: every edge has two ends
            threshold = smallest_private_threshold(cohort, degree)
            if threshold is None:
                continue
            found = Neighbourhood(degree, threshold)
            if loss(cohort, found) <= Fraction(1, 2**LOSS_BITS):
                return found
    if n - 1 <= MAX_DEGREE:
        threshold = smallest_private_threshold(cohort, n - 1)
        if threshold is not None:
            return Neighbourhood(n - 1, max(threshold, (n - 1) // 2 + 1))
    raise Refused(
        f"secaggplus: with {cohort.corrupt} of {n} clients corrupt and {cohort.dropped} dropped, no neighbourhood of "
        f"up to {min(n - 1, MAX_DEGREE)} is private against {_SERVERS[cohort.threat]}; state lower rates"
    )


def smallest_private_threshold(cohort: Cohort, degree: int) -> int | None:
    """The smallest threshold, 2 at least, that is private among `degree` neighbours to 2^-40; None if none is."""
    allowed = Fraction(1, 2**PRIVACY_BITS)
    low, high = 2, degree + 1
    while low < high:  # the failure falls as the threshold rises
        middle = (low + high) // 2
        if privacy_failure(cohort, Neighbourhood(degree, middle)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low if low <= degree else None


_SERVERS = {"passive": "a passive server", "active": "an active server"}


def _cut(cohort: Cohort, degree: int) -> Fraction:
    """A bound on the probability that the lost clients cut the ring of neighbours in two.

    That takes two separate runs of degree // 2 lost clients each; they can lie in at most n (n - degree - 1) / 2 ways.
    """
    n, run = cohort.clients, 2 * (degree // 2)
    lost = min(n, cohort.corrupt + cohort.dropped)
    if run > lost or degree >= n - 1:
        return Fraction(0)
    return Fraction(n * (n - degree - 1), 2) * Fraction(math.perm(lost, run), math.perm(n, run))
