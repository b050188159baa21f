"""How sure a leakage figure is: intervals for means and for shares over images of several runs.

References: exact intervals for shares: Clopper & Pearson 1934; for shares in clusters: Korn & Graubard 1998; means over
few clusters: Cameron & Miller 2015.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta
from scipy.stats import t as student

from secagg.errors import Refused


@dataclass(frozen=True)
class Interval:
    """A figure with the interval that covers the true one with probability `confidence`."""

    value: float
    low: float
    high: float
    confidence: float = 0.95


def mean_interval(values: ArrayLike, runs: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The mean of `values` with a t interval that takes whole runs as its observations.

    Images of one run (one model, one seed) share their luck: the spread between runs counts, with one degree of freedom
    less than there are runs. A percentile bootstrap of three runs would cover the mean in 74 % of cases only. With a
    single run nothing is known of that spread, and the interval is infinite.

    Args:
        values: one for each image, shape `(n,)`.
        runs: the run of each image: any labels, shape `(n,)`.

    Raises:
        Refused: nothing to average, values that are not finite, or runs of another shape.
    """
    numbers, groups = np.asarray(values, np.float64), np.asarray(runs)
    if numbers.ndim != 1 or not numbers.size or groups.shape != numbers.shape:
        raise Refused(f"values: expected shape (n,) with a run each, got {numbers.shape} and {groups.shape}")
    if not np.isfinite(numbers).all():
        raise Refused("values: NaN or Inf has no mean")
    _check_confidence(confidence)
    mean, (_, member) = float(numbers.mean()), np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    if count == 1:
        return Interval(mean, -np.inf, np.inf, confidence)
    variance = _between(np.bincount(member, weights=numbers - mean).astype(np.float64), numbers.size)
    reach = float(student.ppf((1 + confidence) / 2, count - 1)) * math.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach, confidence)


def share_interval(hits: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """`hits / trials` with the exact binomial interval: 0 of 30 still allows 11.6 %.

    Given one entry for each run, runs that differ by more than chance explains make it wider: it is that of as few
    trials as would vary so much (Korn & Graubard 1998, without their correction for few degrees of freedom). Three runs
    of ten cover the share in 88 % of cases or more while up to a fifth of the variance is between runs; three runs of
    hundreds in far fewer, since three runs tell little of the spread between runs.

    Args:
        hits, trials: whole numbers, or one of each for every run, shape `(k,)`.

    Raises:
        Refused: no trials, or more hits than trials.
    """
    found, tried = np.atleast_1d(np.asarray(hits, np.float64)), np.atleast_1d(np.asarray(trials, np.float64))
    if found.shape != tried.shape or (found < 0).any() or (found > tried).any() or (tried < 1).any():
        raise Refused(f"hits: {hits!r} of {trials!r} is not a share")
    _check_confidence(confidence)
    count = float(tried.sum())
    share = float(found.sum() / count)
    variance = _between(found - share * tried, count) if len(found) > 1 else 0.0
    if variance > 0:
        count = min(count, share * (1 - share) / variance)
    tail, right = (1 - confidence) / 2, share * count
    low = 0.0 if share == 0 else float(beta.ppf(tail, right, count - right + 1))
    high = 1.0 if share == 1 else float(beta.ppf(1 - tail, right + 1, count - right))
    return Interval(share, low, high, confidence)


def _between(beyond: NDArray[np.float64], count: float) -> float:
    """The variance of a mean over `count` items, from what each run's sum is beyond its part of the total."""
    runs = len(beyond)
    return float(runs / (runs - 1) * np.square(beyond).sum() / count**2)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise Refused(f"confidence is {confidence}, expected a number between 0 and 1")
