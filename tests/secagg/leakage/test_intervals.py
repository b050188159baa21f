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


def test_the_clustered_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        runs = np.repeat(np.arange(30), 3)
        values = chance.normal(size=30)[runs] + chance.normal(size=90)
        interval = mean_interval(values, runs, resamples=500, seed=seed)
        hits += interval.low <= 0 <= interval.high
    assert 176 <= hits <= 199


def test_one_run_says_nothing_of_the_spread() -> None:
    interval = mean_interval([1.0, 3.0], ["a", "a"])
    assert (interval.value, interval.low, interval.high) == (2, -math.inf, math.inf)


def test_what_is_no_figure_is_refused() -> None:
    for values, clusters in (([], []), ([1.0], [0, 1]), ([math.nan, 1.0], [0, 1])):
        with pytest.raises(Refused, match="values"):
            mean_interval(values, clusters)
    for hits, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(Refused, match="hits"):
            share_interval(hits, trials)
    with pytest.raises(Refused, match="confidence"):
        share_interval(1, 2, confidence=1.0)
