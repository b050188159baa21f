"""The sampler against the exact distribution, against its slow twin, and against a bad source of randomness."""

from __future__ import annotations

import hashlib
import math
import random
import secrets
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from secagg import gaussian as noise
from secagg.errors import Refused
from tests.secagg.exact import (
    counting_rng,
    discrete_gaussian_by_cks,
    exp_digits,
    finer_than_its_neighbours,
    goodness_of_fit,
    pmf,
)


@pytest.mark.parametrize("sigma", [0.5, 0.75, 0.8493, 1.0, 1.7, 4.0, 20.0, 60.3])
def test_draws_fit_the_exact_distribution_tails_included(sigma: float) -> None:
    draws = noise.discrete_gaussian(sigma, 1_000_000, rng=counting_rng(f"fit {sigma}"))
    assert goodness_of_fit([draws], pmf(sigma)) > 1e-3


def test_the_test_notices_a_sigma_one_percent_off() -> None:
    draws = noise.discrete_gaussian(20.2, 1_000_000, rng=counting_rng("off"))
    assert goodness_of_fit([draws], pmf(20.0)) < 1e-6


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sigma", [0.5, 2.5, 10.0, 1000.0])
def test_a_hundred_million_draws_fit(sigma: float) -> None:
    rng = counting_rng(f"long {sigma}")
    draws = (noise.discrete_gaussian(sigma, 1_000_000, rng=rng) for _ in range(100))
    assert goodness_of_fit(draws, pmf(sigma)) > 1e-3


@pytest.mark.parametrize("sigma", [1e3, 1e6, 1e9, 2.0**40, 2.0**48, 2.0**58])
def test_large_sigma_by_moments_and_by_the_normal_limit(sigma: float) -> None:
    count = 1_000_000
    draws = noise.discrete_gaussian(sigma, count, rng=counting_rng(f"moments {sigma}"))
    scaled = draws / sigma
    error = 1 / math.sqrt(count)
    assert abs(scaled.mean()) < 5 * error
    assert abs((scaled**2).mean() - 1) < 5 * error * math.sqrt(2)
    assert abs((scaled**3).mean()) < 5 * error * math.sqrt(15)
    assert abs((scaled**4).mean() - 3) < 5 * error * math.sqrt(96)
    # A thousand slices of about equal chance, cut between integers, and the far tails by themselves.
    cuts = np.rint(stats.norm.ppf(np.linspace(0, 1, 1001)[1:-1]) * sigma) + 0.5
    seen = np.bincount(np.searchsorted(cuts, draws), minlength=1000)
    chances = np.diff(stats.norm.cdf(cuts / sigma), prepend=0.0, append=1.0)
    assert stats.chisquare(seen, chances * count).pvalue > 1e-3
    for reach in (3.0, 4.0):
        chance = 2 * stats.norm.sf(reach)
        far = int(np.count_nonzero(np.abs(scaled) > reach))
        assert stats.binomtest(far, count, chance).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [1e6, 2.0**48, 2.0**58])
def test_low_bits_are_uniform_at_large_sigma(sigma: float) -> None:
    draws = noise.discrete_gaussian(sigma, 400_000, rng=counting_rng(f"bits {sigma}"))
    assert stats.chisquare(np.bincount(draws & 63, minlength=64)).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [0.5, 3.0, 1000.5])
def test_equal_in_distribution_to_canonne_kamath_steinke(sigma: float) -> None:
    below = random.Random(f"cks {sigma}").randrange
    slow = np.array([discrete_gaussian_by_cks(Fraction(sigma), below) for _ in range(4_000)])
    fast = noise.discrete_gaussian(sigma, 400_000, rng=counting_rng(f"twin {sigma}"))
    cuts = np.unique(np.floor(np.quantile(fast, np.linspace(0.02, 0.98, 30)))) + 0.5
    table = np.array([np.bincount(np.searchsorted(cuts, x), minlength=cuts.size + 1) for x in (slow, fast)])
    assert stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [0.5, 7.3, 1e6, 2.0**48, 2.0**58])
def test_floats_decide_nothing_that_exact_arithmetic_decides_otherwise(
    sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = noise.discrete_gaussian(sigma, 3_000, rng=counting_rng("margin"))
    monkeypatch.setattr(noise, "_MARGIN", 2.0)
    assert np.array_equal(fast, noise.discrete_gaussian(sigma, 3_000, rng=counting_rng("margin")))


class Digits(noise.Keystream):
    """A keystream of chosen bytes, to put the coin exactly where a test wants it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def bytes(self, count: int) -> bytes:
        head, self.data = self.data[:count], self.data[count:]
        return head


@pytest.mark.parametrize(("sigma", "bucket", "magnitude"), [(1000.5, 1, 1500), (2.0**48, 3, 2**50), (0.5, 0, 1)])
def test_the_coin_is_compared_to_as_many_digits_as_it_takes(sigma: float, bucket: int, magnitude: int) -> None:
    extra = 6 * 64
    exponent = -(Fraction(magnitude) ** 2) / (2 * Fraction(sigma) ** 2)
    chance = exp_digits(exponent, 63 + extra + bucket * bucket)
    for nudge, accepted in ((-1, True), (+1, False)):
        coin = chance + nudge
        stream = Digits((coin % (1 << extra)).to_bytes(extra // 8, "big") + bytes(64))
        first = coin >> extra
        assert noise.toss_exactly(sigma, bucket, magnitude, coin=first, stream=stream) is accepted


def test_a_coin_that_a_float_cannot_tell_apart_is_tossed_exactly() -> None:
    chance = exp_digits(-Fraction(1500**2, 2 * 1000**2), 63)
    coin = np.array([chance - 40, chance + 40], np.uint64)
    assert len(set(coin.astype(np.float64))) == 1
    bucket, magnitude, possible = np.zeros(2, np.int8), np.full(2, 1500), np.ones(2, np.bool_)
    assert noise._toss(1000.0, bucket, magnitude, coin, possible, Digits(b"")).tolist() == [True, False]


def test_buckets_weigh_what_the_proof_says() -> None:
    edges = (2**64, *noise._EDGES)
    weights = [high - low for high, low in pairwise(edges)]
    assert weights == [noise._UNIT * 2 ** (49 - j * j) for j in range(8)]
    assert noise._EDGES[-1] > 0
    for sigma in (0.5, 0.85, 1.0, 1e3, 2.0**48, 2.0**58):
        dominated = Fraction(noise.bucket_width(sigma)) ** 2 / (2 * Fraction(sigma) ** 2)
        assert dominated > Fraction(math.log(2)) + Fraction(1, 10**6)


def test_the_far_buckets_split_the_word_zero() -> None:
    assert noise.far_bucket(0) == 8
    assert noise.far_bucket(2**320 - 1) is None
    start = 0
    for bucket in range(8, 18):
        width = noise._UNIT * 2 ** (369 - bucket**2)
        assert noise.far_bucket(start) == bucket
        assert noise.far_bucket(start + width - 1) == bucket
        start += width
    assert start < 2**320


def test_the_word_zero_gives_a_draw_beyond_eight_widths() -> None:
    class Zeros(noise.Keystream):
        def __init__(self) -> None: ...

        def bytes(self, count: int) -> bytes:
            return bytes(count)

    # All-zero words: bucket 8, place 0, a coin of 0 and no minus sign; accepted for certain.
    assert list(noise._accepted(1000.0, 3, Zeros())) == [8 * noise.bucket_width(1000.0)] * 3


def test_the_last_incomplete_run_of_places_is_refused() -> None:
    width = noise.bucket_width(1000.0)
    last = 2**64 - 1 - 2**64 % width
    # Bucket 0, the place in question, a coin of 0 and no minus sign: accepted wherever the place is allowed.
    for place, drawn in ((last, [width - 1]), (last + 1, []), (2**64 - 1, [])):
        words = (2**64 - 1).to_bytes(8, "little"), place.to_bytes(8, "little"), bytes(8)
        assert noise._accepted(1000.0, 1, Digits(b"".join(words))).tolist() == drawn


# sigma: (the first eight draws, SHA-256 of 100,000 draws as little-endian int64) under counting_rng("known answers").
KNOWN = {
    0.5: ([1, 1, 0, 0, 0, 0, 0, -1], "acdb25a5ed06fbacdd47b0e19a72bda18199642fe93b8b9f04c3e33bb78ed76e"),
    1.0: ([-1, 2, 2, -1, 0, 0, 0, -1], "399deaebff3c3aa7ad00b244feb09e144213c28d8d4c8874e86e6683b82f617b"),
    1000.0: (
        [-729, 2034, -334, -315, 708, 746, -717, -867],
        "bef7af84e7b27094f77daad00ae8ee1662b321362bf618a46bddd18cfed09730",
    ),
    1e9: (
        [-628852035, 1210135618, 1773025002, -156239978, -269135763, 573403694, 743477388, 192133076],
        "b24e23cc446a96bfc98858fd3e31f841d93acdbd5de6e48e261cbcf77b6e541a",
    ),
}


@pytest.mark.parametrize("sigma", sorted(KNOWN))
def test_known_answers(sigma: float) -> None:
    rng = counting_rng("known answers")
    draws = noise.discrete_gaussian(sigma, 100_000, rng=rng)
    assert draws.dtype == np.int64
    first, digest = KNOWN[sigma]
    assert draws[:8].tolist() == first
    assert hashlib.sha256(draws.astype("<i8").tobytes()).hexdigest() == digest


def test_draws_do_not_repeat_between_calls_and_never_negate_zero() -> None:
    one, two = (noise.discrete_gaussian(1e9, 1000) for _ in range(2))
    assert np.intersect1d(one, two).size < 5
    rng = counting_rng("stream")
    assert not np.array_equal(noise.discrete_gaussian(1e9, 8, rng=rng), noise.discrete_gaussian(1e9, 8, rng=rng))


@pytest.mark.parametrize("size", [0, 1, 2, 16_384, 16_385, 40_001])
def test_any_number_of_draws(size: int) -> None:
    assert noise.discrete_gaussian(2.0, size).shape == (size,)


def test_d4_the_floating_point_attack_succeeds_on_naive_noise_and_finds_nothing_in_ours() -> None:
    naive = np.random.default_rng(1).normal(size=200_000)
    assert finer_than_its_neighbours(0.0 + naive) > 1000
    assert finer_than_its_neighbours(1.0 + naive) == 0
    scale = 2**16
    for value in (0, 1):
        ours = (value * scale + noise.discrete_gaussian(float(scale), 200_000)) / scale
        assert np.count_nonzero(np.abs(ours) < 2**-6) > 1000
        assert finer_than_its_neighbours(ours) == 0


@pytest.mark.parametrize("given", [b"", bytes(31), bytes(33)])
def test_d3_too_few_random_bytes_are_refused(given: bytes) -> None:
    with pytest.raises(Refused, match=f"rng gave {len(given)} bytes, expected 32"):
        noise.discrete_gaussian(10.0, 5, rng=lambda _: given)


def test_d3_a_late_shortage_is_refused_too() -> None:
    answers = [secrets.token_bytes(32), b"short"]
    with pytest.raises(Refused, match="rng gave 5 bytes"):
        noise.discrete_gaussian(10.0, 5, rng=lambda _: answers.pop(0))


def test_d2_a_fixed_seed_is_refused() -> None:
    with pytest.raises(Refused, match="same key twice"):
        noise.discrete_gaussian(10.0, 5, rng=lambda count: b"\x07" * count)


@pytest.mark.parametrize("sigma", [0.0, 0.49, -1.0, math.nan, math.inf, 2.0**59])
def test_a_sigma_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(Refused, match="sigma is"):
        noise.discrete_gaussian(sigma, 1)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(Refused, match="size is -1"):
        noise.discrete_gaussian(1.0, -1)
