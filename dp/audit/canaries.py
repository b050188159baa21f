"""Canaries: units whose every contribution is known, each in or out by a coin, and what releases say about each.

A canary's contribution has one direction, orthogonal to those of all others in its cohort, so that none disturbs
another, and its sign changes from step to step: noise that comes back cancels, canaries do not. It is four times as
long as the clip. Under a clip that works it is as long as the clip, which is the worst that the claim allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LENGTH = 4.0


@dataclass(frozen=True, eq=False)
class Cohort:
    """Canaries that share one run.

    Attributes:
        present: the coins, bool `(n,)`.
        directions: orthonormal rows, float32 `(n, d)`; d is the power of two from n on.
    """

    present: NDArray[np.bool_]
    directions: NDArray[np.float32]

    @classmethod
    def draw(cls, count: int, *, seed: int, number: int) -> Cohort:
        """Cohort `number` of an audit: coins and directions follow from the seed, the mechanism's noise does not."""
        from scipy.linalg import hadamard

        generator = np.random.default_rng([seed, number])
        size = 1 << max(count - 1, 1).bit_length()
        rows = hadamard(size, dtype=np.float32)[generator.permutation(size)[:count]]
        signs = generator.choice(np.array([-1, 1], np.float32), size)
        return cls(generator.random(count) < 0.5, rows * signs / np.float32(math.sqrt(size)))

    def contributions(self, clip_l2: float, *, absent: float = 0.0) -> NDArray[np.float32]:
        """What each canary contributes at an even step, float32 `(n, d)`; one that is out `absent` times as much."""
        factors = np.where(self.present, 1.0, absent) * LENGTH * clip_l2
        return self.directions * factors[:, None].astype(np.float32)

    def projections(self, released: NDArray[np.float32], clip_l2: float) -> NDArray[np.float64]:
        """How much of each canary is in a released sum, float32 `(d,)`, in units of the clip: float64 `(n,)`."""
        return np.asarray(self.directions @ released, np.float64) / clip_l2


def sign(step: int) -> int:
    """The sign of all contributions at `step`, 0 being the first."""
    return -1 if step % 2 else 1


def scores(projections: NDArray[np.float64], *, noise_multiplier: float, sampling_rate: float) -> NDArray[np.float64]:
    """The log-likelihood ratio of "in" to "out" of each canary: float64 `(n,)`, from projections `(steps, n)`.

    Projections are signed so that a canary in the sum adds 1, under noise of `noise_multiplier`; one that is in takes
    part in each step with chance `sampling_rate`. If all is as claimed, no other score guesses better (Neyman and
    Pearson).
    """
    taken = (2 * projections - 1) / (2 * noise_multiplier**2)
    if sampling_rate == 1:
        # Sums of projections: noise that is the same at every step cancels exactly.
        return np.asarray(taken.sum(0))
    return np.asarray(np.logaddexp(math.log1p(-sampling_rate), math.log(sampling_rate) + taken).sum(0))
