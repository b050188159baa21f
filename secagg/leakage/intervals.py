"""How sure a leakage figure is: intervals for means over images of several runs, and for shares.

References: cluster bootstrap: Field & Welsh 2007; exact intervals for shares: Clopper & Pearson 1934.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from secagg.errors import Refused


@dataclass(frozen=True)
class Interval:
    """A figure with the interval that covers the true one with probability `confidence`."""

    value: float
    low: float
    high: float
    confidence: float = 0.95


def mean_interval(
    values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of `values` with a percentile interval from resampling whole clusters.

    Images of one run (one model, one seed) share their luck: resampling them singly would give too narrow an
    interval. With a single cluster nothing is known of the spread between runs, and the interval is infinite.

    Args:
        values: one for each image, shape `(n,)`.
        clusters: the run of each image: any labels, shape `(n,)`.

    Raises:
        Refused: nothing to average, values that are not finite, or clusters of another shape.
    """
    numbers, groups = np.asarray(values, np.float64), np.asarray(clusters)
    if numbers.ndim != 1 or not numbers.size or groups.shape != numbers.shape:
        raise Refused(f"values: expected shape (n,) with a cluster each, got {numbers.shape} and {groups.shape}")
    if not np.isfinite(numbers).all():
        raise Refused("values: NaN or Inf has no mean")
    _check_confidence(confidence)
    mean = float(numbers.mean())
    _, member = np.unique(groups, return_inverse=True)
    count = np.bincount(member)
    if count.size == 1:
        return Interval(mean, -np.inf, np.inf, confidence)
    total = np.bincount(member, weights=numbers)
    drawn = np.random.default_rng(seed).integers(0, count.size, (resamples, count.size))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), confidence)


def share_interval(hits: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """`hits / trials` with the exact binomial interval: 0 of 30 still allows 11.6 %.

    Raises:
        Refused: no trials, or more hits than trials.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise Refused(f"hits: {hits} of {trials} is not a share")
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return Interval(hits / trials, low, high, confidence)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise Refused(f"confidence is {confidence}, expected a number between 0 and 1")
