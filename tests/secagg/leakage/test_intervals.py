from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from secagg.errors import Refused
from secagg.leakage import mean_interval, share_interval


def test_no_hit_of_thirty_is_not_zero() -> None:
    interval = share_interval(0, 30)
    assert (interval.value, interval.low) == (0, 0)
    # The largest share that still shows no hit with chance 2.5 %.
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 30))


@pytest.mark.parametrize("hits", [1, 7, 29])
def test_the_exact_interval_leaves_its_tails(hits: int) -> None:
    interval = share_interval(hits, 30)
    assert binom.sf(hits - 1, 30, interval.low) == pytest.approx(0.025)
    assert binom.cdf(hits, 30, interval.high) == pytest.approx(0.025)


def test_images_of_one_run_do_not_count_as_many_runs() -> None:
    chance = np.random.default_rng(0)
    runs = np.repeat(np.arange(8), 50)
    values = chance.normal(size=8)[runs] + 0.01 * chance.normal(size=400)
    clustered, single = mean_interval(values, runs), mean_interval(values, np.arange(400))
    assert clustered.value == single.value == pytest.approx(values.mean())
    assert clustered.low < clustered.value < clustered.high
    assert clustered.high - clustered.low > 3 * (single.high - single.low)


@pytest.mark.parametrize("runs", [3, 30])
def test_the_interval_of_a_mean_covers_it_as_often_as_it_says(runs: int) -> None:
    chance = np.random.default_rng(1)
    labels, hits = np.repeat(np.arange(runs), 10), 0
    for _ in range(1000):
        values = chance.normal(size=runs)[labels] + chance.normal(size=labels.size)
        interval = mean_interval(values, labels)
        hits += interval.low <= 0 <= interval.high
    assert 930 <= hits <= 970


def test_means_of_unequal_runs_weigh_by_their_images() -> None:
    interval = mean_interval([1.0, 1.0, 1.0, 5.0], [0, 0, 0, 1])
    assert interval.value == 2.0
    assert interval.low < 1.0


def test_runs_that_agree_leave_a_share_its_exact_interval() -> None:
    assert share_interval([5, 5, 5], [10, 10, 10]) == share_interval(15, 30)
    assert share_interval([0, 0, 0], [10, 10, 10]) == share_interval(0, 30)


def test_runs_that_differ_widen_the_interval_of_a_share() -> None:
    apart, together = share_interval([10, 5, 0], [10, 10, 10]), share_interval(15, 30)
    assert apart.value == together.value
    assert apart.low < together.low < together.high < apart.high


def test_the_interval_of_a_share_covers_it_though_runs_differ() -> None:
    chance, exact, clustered = np.random.default_rng(2), 0, 0
    for _ in range(1000):
        # A fifth of the variance of a hit is between runs.
        hits = chance.binomial(10, chance.beta(2.0, 2.0, size=3))
        both = share_interval(int(hits.sum()), 30), share_interval(hits, [10, 10, 10])
        exact, clustered = (n + (i.low <= 0.5 <= i.high) for n, i in zip((exact, clustered), both, strict=True))
    assert exact < 800
    assert clustered > 870


def test_one_run_says_nothing_of_the_spread() -> None:
    interval = mean_interval([1.0, 3.0], ["a", "a"])
    assert (interval.value, interval.low, interval.high) == (2, -math.inf, math.inf)


def test_what_is_no_figure_is_refused() -> None:
    for values, clusters in (([], []), ([1.0], [0, 1]), ([math.nan, 1.0], [0, 1])):
        with pytest.raises(Refused, match="values"):
            mean_interval(values, clusters)
    for hits, trials in ((1, 0), (3, 2), (-1, 2), ([1, 3], [2, 2]), ([1], [2, 2]), ([1, 0], [2, 0])):
        with pytest.raises(Refused, match="hits"):
            share_interval(hits, trials)
    with pytest.raises(Refused, match="confidence"):
        share_interval(1, 2, confidence=1.0)
