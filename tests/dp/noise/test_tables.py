"""The table samplers against the exact distributions in high precision, and their draws by chi-square."""

from __future__ import annotations

import hashlib
import math
import random
import secrets
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dp.noise import gaussian, skellam
from dp.noise.gaussian import folded, gaussian_table, table_gaussian
from dp.noise.skellam import reach_of, skellam_table
from secagg.errors import Refused
from tests.dp.noise.test_alias import held
from tests.secagg.exact import (
    counting_rng,
    discrete_gaussian_by_cks,
    finer_than_its_neighbours,
    goodness_of_fit,
    pmf,
)

UNITS = Decimal(2**192)
LIMIT = Decimal(2.0**-164)


def distance(chances: dict[int, int], exact: dict[int, Decimal]) -> Decimal:
    """The statistical distance, half the L1 norm, of chances in units of 2^-192 from exact ones."""
    outcomes = chances.keys() | exact.keys()
    return sum((abs(chances.get(x, 0) / UNITS - exact.get(x, Decimal(0))) for x in outcomes), Decimal(0)) / 2


def exact_gaussian(variance: Fraction) -> dict[int, Decimal]:
    """N_Z(0, variance) to 80 digits, up to 18 standard deviations (2^-233 lies beyond)."""
    reach = math.ceil(18 * math.sqrt(variance)) + 1
    scale = Decimal(2 * variance.numerator) / variance.denominator
    half = [(-Decimal(x * x) / scale).exp() for x in range(reach + 1)]
    total = 2 * sum(half) - 1
    return {x: half[abs(x)] / total for x in range(-reach, reach + 1)}


def exact_skellam(variance: int) -> dict[int, Decimal]:
    """The difference of two Poisson variables, straight from the definition: the slow twin."""
    mean = Decimal(variance) / 2
    reach = math.ceil(30 * math.sqrt(variance)) + 60
    poisson = [(-mean).exp()]
    for count in range(1, reach):
        poisson.append(poisson[-1] * mean / count)
    half = [sum(poisson[i] * poisson[i + x] for i in range(reach - x)) for x in range(reach)]
    return {x: half[abs(x)] for x in range(1 - reach, reach)}


@pytest.mark.parametrize("sigma", [0.5, 0.77, 1.0, 2.5, 10.0, 60.3, 510.0, 1024.0])
def test_a_gaussian_table_is_within_2_to_minus_164_of_the_exact_distribution(sigma: float) -> None:
    with localcontext(prec=80):
        variance = Fraction(sigma) ** 2
        assert distance(held(gaussian_table(variance)), exact_gaussian(variance)) < LIMIT


@pytest.mark.parametrize("variance", [1, 3, 20, 100])
def test_a_skellam_table_is_within_2_to_minus_164_of_a_difference_of_poissons(variance: int) -> None:
    with localcontext(prec=80):
        assert distance(held(skellam_table(float(variance))), exact_skellam(variance)) < LIMIT


@pytest.mark.parametrize("variance", [2.5, 1000.0, 123456.789])
def test_cumulants_of_a_skellam_table_are_all_its_variance(variance: float) -> None:
    with localcontext(prec=80):
        chances = held(skellam_table(variance))
        second, fourth, sixth = (Decimal(sum(x**n * p for x, p in chances.items())) / UNITS for n in (2, 4, 6))
        v = Decimal(variance)
        assert abs(second / v - 1) < Decimal(10) ** -25
        assert abs((fourth - 3 * v**2) / v - 1) < Decimal(10) ** -15
        assert abs((sixth - 15 * v**3 - 15 * v**2) / v - 1) < Decimal(10) ** -9


@pytest.mark.parametrize("variance", [Fraction(2**20) + Fraction(1, 3), Fraction(3 * 10**6), Fraction(10**10)])
def test_a_folded_draw_has_the_chances_of_the_discrete_gaussian(variance: Fraction) -> None:
    """P(X2 + k X1 = x) summed over X1 in 80 digits, at places that reach into the tail."""
    step, high, low = folded(variance)
    assert step**2 * high + low == variance
    sigma = math.sqrt(variance)
    with localcontext(prec=80):

        def weight(x: int, of: Fraction) -> Decimal:
            return (-Decimal(x * x * of.denominator) / (2 * of.numerator)).exp()

        centre = Fraction(step) * high / variance
        ratios = []
        for x in (0, 1, step // 2, step, int(sigma), int(3.3 * sigma), -int(6 * sigma)):
            around = round(centre * x)
            total = sum(weight(y, high) * weight(x - step * y, low) for y in range(around - 45, around + 46))
            ratios.append(total / weight(x, variance))
        assert max(abs(ratio / ratios[0] - 1) for ratio in ratios) < Decimal(2.0**-175)


def test_whatever_the_variance_the_fold_is_smooth() -> None:
    sigma = 1024.0
    while sigma < 2.0**58:
        sigma *= 1.0371
        variance = Fraction(sigma) ** 2
        while variance > gaussian._LARGEST_TABLE:
            _, high, low = folded(variance)
            assert high * low / variance >= 6.25
            assert low <= gaussian._LARGEST_TABLE
            variance = high


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 20.0, 60.3])
def test_draws_fit_the_exact_distribution_tails_included(sigma: float) -> None:
    draws = table_gaussian(sigma, 1_000_000, rng=counting_rng(f"table {sigma}"))
    assert goodness_of_fit([draws], pmf(sigma)) > 1e-3


@pytest.mark.parametrize("variance", [1, 30])
def test_skellam_draws_fit_tails_included(variance: int) -> None:
    draws = skellam.skellam(variance, 1_000_000, rng=counting_rng(f"skellam {variance}"))
    chances = {x: float(chance) for x, chance in exact_skellam(variance).items()}
    assert goodness_of_fit([draws], chances) > 1e-3


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sigma", [0.5, 10.0, 1000.0, 1500.0])
def test_a_hundred_million_draws_fit(sigma: float) -> None:
    rng = counting_rng(f"long {sigma}")
    draws = (table_gaussian(sigma, 1_000_000, rng=rng) for _ in range(100))
    assert goodness_of_fit(draws, pmf(sigma)) > 1e-3


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_million_skellam_draws_fit() -> None:
    rng = counting_rng("long skellam")
    draws = (skellam.skellam(100.0, 1_000_000, rng=rng) for _ in range(100))
    with localcontext(prec=80):
        chances = {x: float(chance) for x, chance in exact_skellam(100).items()}
    assert goodness_of_fit(draws, chances) > 1e-3


@pytest.mark.parametrize("sigma", [1025.0, 1e5, 1e9, 2.0**58])
def test_large_sigma_by_the_normal_limit(sigma: float) -> None:
    count = 1_000_000
    draws = table_gaussian(sigma, count, rng=counting_rng(f"large {sigma}"))
    cuts = np.rint(stats.norm.ppf(np.linspace(0, 1, 1001)[1:-1]) * sigma) + 0.5
    seen = np.bincount(np.searchsorted(cuts, draws), minlength=1000)
    chances = np.diff(stats.norm.cdf(cuts / sigma), prepend=0.0, append=1.0)
    assert stats.chisquare(seen, chances * count).pvalue > 1e-3
    assert stats.chisquare(np.bincount(draws & 63, minlength=64)).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [3.0, 2000.5])
def test_equal_in_distribution_to_canonne_kamath_steinke(sigma: float) -> None:
    below = random.Random(f"cks {sigma}").randrange
    slow = np.array([discrete_gaussian_by_cks(Fraction(sigma), below) for _ in range(4_000)])
    fast = table_gaussian(sigma, 400_000, rng=counting_rng(f"twin {sigma}"))
    cuts = np.unique(np.floor(np.quantile(fast, np.linspace(0.02, 0.98, 30)))) + 0.5
    table = np.array([np.bincount(np.searchsorted(cuts, x), minlength=cuts.size + 1) for x in (slow, fast)])
    assert stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue > 1e-3


@pytest.mark.parametrize("variance", [1.0, 50.0, 1e4, 2.0**26])
def test_the_reach_of_skellam_noise_is_not_short(variance: float) -> None:
    """Chernoff's bound, against the table's own tail where that is large enough to be seen."""
    reach = reach_of(variance, bits=40)
    beyond = sum(chance for x, chance in held(skellam_table(variance)).items() if abs(x) > reach)
    assert 0 < beyond < 2**192 >> 40
    assert reach < 12 * math.sqrt(variance) + 40


Sampler = Callable[[int], NDArray[np.int64]]
SAMPLERS: list[Sampler] = [
    lambda size: table_gaussian(2.0**16, size),
    lambda size: 2**4 * skellam.skellam(2.0**24, size),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["gaussian", "skellam"])
def test_d4_the_floating_point_attack_finds_nothing_in_draws_from_a_table(sampler: Sampler) -> None:
    naive = np.random.default_rng(1).normal(size=200_000)
    assert finer_than_its_neighbours(0.0 + naive) > 1000
    for value in (0, 1):
        ours = (value * 2**16 + sampler(200_000)) / 2**16
        assert np.count_nonzero(np.abs(ours) < 2**-6) > 1000
        assert finer_than_its_neighbours(ours) == 0


@pytest.mark.parametrize("draw", [table_gaussian, skellam.skellam])
def test_d2_d3_a_bad_source_of_randomness_is_refused(draw: Callable[..., NDArray[np.int64]]) -> None:
    with pytest.raises(Refused, match="same key twice"):
        draw(10.0, 5, rng=lambda count: b"\x07" * count)
    with pytest.raises(Refused, match="rng gave 31 bytes, expected 32"):
        draw(10.0, 5, rng=lambda _: secrets.token_bytes(31))


@pytest.mark.parametrize("sigma", [0.0, 0.49, -1.0, math.nan, math.inf, 2.0**59])
def test_a_sigma_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(Refused, match="sigma is"):
        table_gaussian(sigma, 1)


@pytest.mark.parametrize("variance", [0.0, 0.9, -1.0, math.nan, math.inf, 2.0**27])
def test_a_variance_out_of_range_is_refused(variance: float) -> None:
    with pytest.raises(Refused, match="the variance of Skellam noise is"):
        skellam.skellam(variance, 1)


@pytest.mark.parametrize("draw", [table_gaussian, skellam.skellam])
def test_a_negative_size_is_refused(draw: Callable[..., NDArray[np.int64]]) -> None:
    with pytest.raises(Refused, match="size is -1"):
        draw(10.0, -1)


# SHA-256 of 100,000 draws as little-endian int64 under counting_rng("known answers").
KNOWN = {
    ("gaussian", 1.0): "0a1ccb40500f76c944171f16c753bf62c3a8bbabac13f17c2026a3aa9f0c1168",
    ("gaussian", 1e5): "66d597f28449a79cb176258485602a6a7ce31221a186f381594e8e34f2d7b0b6",
    ("skellam", 100.0): "5d65a7d251cdad4aa5b2e29a2095f04278fe7261b74124381263d07532747b62",
}


@pytest.mark.parametrize(("name", "parameter"), sorted(KNOWN))
def test_known_answers(name: str, parameter: float) -> None:
    draw = {"gaussian": table_gaussian, "skellam": skellam.skellam}[name]
    draws = draw(parameter, 100_000, rng=counting_rng("known answers"))
    assert hashlib.sha256(draws.astype("<i8").tobytes()).hexdigest() == KNOWN[name, parameter]
