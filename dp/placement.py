"""Who adds the noise, of which kind, and how much each: at the server, distributed over the clients, or local.

    server        the server, once, all of it: it sees the sum before
    distributed   every client its share, before protection: all but `colluders` of the smallest number of survivors
                  add up to all of it; a sum with more clients carries more
    local         every client all of it: its vector alone is private, whoever sees it

Guarantee: noise that a client adds is drawn from `rng` mixed with the operating system's randomness at the time of use.
So an `rng` that repeats itself - a fixed seed, a snapshot restored, one state for two clients - repeats no noise (D2).
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dp.distributed import check_gaussian, check_skellam
from dp.noise import gaussian as tables
from dp.noise import skellam
from secagg.errors import Refused
from secagg.gaussian import SIGMA_MAX, SIGMA_MIN, Rng, discrete_gaussian
from secagg.spec import MIN_COHORT

Where = Literal["server", "distributed", "local"]
Mechanism = Literal["gaussian", "skellam"]
Sampler = Literal["data-independent", "table"]

# Of all values of a round, 2^40 at most, each is drawn within this distance of what it should be.
MOST_DRAWS = 1 << 40
# A sum's noise exceeds its room with probability 2^-40 at most, over 2^30 coordinates.
_ROOM_BITS = 30 + 40
_SKELLAM_SIGMA = 4096.0


@dataclass(frozen=True)
class Placement:
    """See the module.

    Attributes:
        where: who adds the noise.
        mechanism: discrete Gaussian, or Skellam noise.
        sampler: which sampler of `mechanism`; Skellam noise has only tables.
        survivors: the fewest clients in a sum; 1 unless distributed.
        colluders: how many of them may tell others their share of the noise; 0 unless distributed.

    Raises:
        Refused: fewer survivors than `colluders` + 2, or Skellam noise without the table sampler.
    """

    where: Where
    mechanism: Mechanism = "gaussian"
    sampler: Sampler = "data-independent"
    survivors: int = 1
    colluders: int = 0

    def __post_init__(self) -> None:
        if self.where == "distributed" and self.survivors < max(MIN_COHORT, self.colluders + 2):
            raise Refused(
                f"dp: survivors is {self.survivors}, expected {max(MIN_COHORT, self.colluders + 2)} at least: "
                f"{MIN_COHORT}, and 2 more than colluders = {self.colluders}"
            )
        if self.mechanism == "skellam" and self.sampler != "table":
            raise Refused(
                "dp: Skellam noise is drawn from a table, whose use shows in a shared cache; say sampler = 'table'"
            )

    @property
    def at_client(self) -> bool:
        """Whether clients add noise, each its own."""
        return self.where != "server"

    @property
    def shares(self) -> int:
        """How many shares make up all of the noise."""
        return self.survivors - self.colluders

    def share(self, sigma: float) -> float:
        """The standard deviation of one share, where that of the whole is `sigma`; not rounded down."""
        return sigma / math.sqrt(self.shares) * (1 + 2.0**-50)

    @property
    def distance(self) -> float:
        """The statistical distance of all the draws of a round together from what they should be."""
        distances = {"gaussian": tables.DISTANCE, "skellam": skellam.DISTANCE}
        return MOST_DRAWS * distances[self.mechanism] if self.sampler == "table" else 0.0

    def noise(self, sigma: float, size: int, rng: Rng) -> NDArray[np.int64]:
        """One share of noise whose whole has standard deviation `sigma`: int64 `(size,)`, in grid steps."""
        fresh, share = mixed(rng), self.share(sigma)
        if self.mechanism == "skellam":
            return skellam.skellam(share**2, size, rng=fresh)
        if self.sampler == "table":
            return tables.table_gaussian(share, size, rng=fresh)
        return discrete_gaussian(share, size, rng=fresh)

    def room(self, sigma: float, *, clients: int) -> float:
        """How far the noise of a sum of `clients` may go, in the unit of `sigma`, but for a probability of 2^-40.

        Over 2^30 coordinates; a single share stays within it with far more certainty. Sums of draws of N_Z(0, v) have
        the normal distribution's tail bound (Canonne, Kamath, Steinke 2020). At 2^10 steps and more a Skellam variable
        has it too, with less than the one bit to spare here (Chernoff's bound).
        """
        if not self.at_client:
            return 0.0
        tail = math.sqrt(2 * math.log(2) * (_ROOM_BITS + 2))
        return tail * sigma * math.sqrt(clients / self.shares)

    def most_fraction_bits(self, sigma: float) -> int:
        """The finest grid that the sampler's tables allow, for noise of `sigma` units."""
        if self.mechanism != "skellam":
            return 52
        return math.floor(math.log2(_SKELLAM_SIGMA * math.sqrt(self.shares) / sigma))

    def check(self, sigma: float, *, sensitivity: float, size: int, clients: int) -> None:
        """Raise `Refused` unless noise of `sigma` grid steps, in all, is what `dp.distributed` says it is worth."""
        share = self.share(sigma)
        if self.mechanism == "skellam":
            if not skellam.VARIANCE_MIN <= share**2 <= skellam.VARIANCE_MAX:
                raise Refused(
                    f"dp: shares of Skellam noise of {share:g} grid steps, expected 1 to 2^13; change the ring"
                )
            check_skellam(sigma, sensitivity=sensitivity, size=size)
        elif not SIGMA_MIN <= share <= SIGMA_MAX:
            raise Refused(f"dp: shares of noise of {share:g} grid steps, expected {SIGMA_MIN} to 2^58; change the ring")
        else:
            check_gaussian(share, shares=self.shares, size=size)
        if clients * size > MOST_DRAWS:
            raise Refused(f"dp: {clients} clients x {size} coordinates, expected 2^40 draws a round at most")


def mixed(rng: Rng) -> Rng:
    """`rng` with as many bytes of the operating system's mixed in: uniform if either is.

    Raises:
        Refused: when called, if `rng` gives too few bytes (D3).
    """

    def fresh(count: int) -> bytes:
        given = rng(count)
        if len(given) != count:
            raise Refused(f"rng gave {len(given)} bytes, expected {count}: no secure noise is available")
        return hashlib.shake_256(b"secagg/v1/noise" + given + secrets.token_bytes(count)).digest(count)

    return fresh
