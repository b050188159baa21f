"""The theorem behind the audit: exact twins, mechanisms whose epsilon is known, and what the bound may not do."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dp.audit.one_run import lower_bound, p_value, right_guesses
from secagg.errors import Refused


def exact_p_value(*, canaries: int, guesses: int, right: int, ratio: Fraction, delta: Fraction) -> Fraction:
    """The theorem as it is written, in fractions; `ratio` stands for e^epsilon."""
    chance = ratio / (ratio + 1)

    def tail(least: int) -> Fraction:
        return sum(
            (
                math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k)
                for k in range(max(0, least), guesses + 1)
            ),
            Fraction(0),
        )

    most = max((Fraction(tail(right - i) - tail(right)) / i for i in range(1, right + 1)), default=Fraction(0))
    return min(Fraction(1), tail(right) + 2 * canaries * delta * most)


@given(
    st.integers(1, 12).flatmap(lambda guesses: st.tuples(st.just(guesses), st.integers(0, guesses))),
    st.integers(0, 8),
    st.fractions(1, 9, max_denominator=8),
    st.fractions(0, Fraction(1, 10), max_denominator=1000),
)
def test_the_p_value_is_that_of_the_theorem(
    counts: tuple[int, int], silent: int, ratio: Fraction, delta: Fraction
) -> None:
    guesses, right = counts
    found = p_value(
        canaries=guesses + silent, guesses=guesses, right=right, epsilon=math.log(ratio), delta=float(delta)
    )
    expected = exact_p_value(canaries=guesses + silent, guesses=guesses, right=right, ratio=ratio, delta=delta)
    assert found == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(("epsilon", "canaries"), [(0.5, 1000), (1.0, 1000), (3.0, 1000), (1.0, 100)])
def test_the_bound_of_randomised_response_holds_and_is_near(epsilon: float, canaries: int) -> None:
    """Each coin is told truly with chance e^epsilon / (1 + e^epsilon): no mechanism with this epsilon tells more."""
    generator = np.random.default_rng(42)
    rights = generator.binomial(canaries, 1 / (1 + math.exp(-epsilon)), 2000)
    bounds = {
        int(right): lower_bound(canaries=canaries, guesses=canaries, right=int(right), delta=0.0, confidence=0.95)
        for right in set(rights)
    }
    found = np.array([bounds[int(right)] for right in rights])
    # 5 % of 2000, and four standard deviations.
    assert np.count_nonzero(found > epsilon) <= 140
    # Two standard deviations of the estimate under it, half of the time.
    spread = 1 / math.sqrt(canaries / (2 + 2 * math.cosh(epsilon)))
    assert np.median(found) > epsilon - 2 * spread


@pytest.mark.parametrize("delta", [0.001, 0.01])
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_d9_a_mechanism_that_tells_all_with_chance_delta_is_not_accused(epsilon: float, delta: float) -> None:
    """Exactly: the chance of so many right guesses is at most the p-value, for every number of them."""
    canaries, guesses = 60, 40
    counts = np.arange(guesses + 1)
    told = delta + (1 - delta) * binom.sf(counts - 1, guesses, 1 / (1 + math.exp(-epsilon)))
    for right, chance in zip(counts, told, strict=True):
        bound = p_value(canaries=canaries, guesses=guesses, right=int(right), epsilon=epsilon, delta=delta)
        assert chance <= bound + 1e-12


def test_all_right_has_a_closed_form() -> None:
    bound = lower_bound(canaries=500, guesses=100, right=100, delta=0.0, confidence=0.95)
    chance = 0.05 ** (1 / 100)
    assert bound == pytest.approx(math.log(chance / (1 - chance)), abs=2e-6)


def test_more_right_guesses_give_a_larger_bound_and_more_delta_or_confidence_a_smaller_one() -> None:
    def bound(right: int, delta: float = 1e-5, confidence: float = 0.95) -> float:
        return lower_bound(canaries=1000, guesses=100, right=right, delta=delta, confidence=confidence)

    bounds = [bound(right) for right in range(50, 101)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0.0
    assert bound(90, delta=1e-4) < bound(90) < bound(90, delta=0.0)
    assert bound(90, confidence=0.99) < bound(90)


def test_guesses_are_of_the_highest_and_the_lowest_scores() -> None:
    present = np.array([True, False, True, False, True, False])
    scores = np.array([0.2, 0.1, 9.0, -9.0, -8.0, 8.0])
    assert right_guesses(scores, present, guesses=2) == 2
    assert right_guesses(scores, present, guesses=4) == 2
    assert right_guesses(scores, present, guesses=6) == 4


@pytest.mark.parametrize("guesses", [0, 1, 3, 8])
def test_a_number_of_guesses_that_is_none_is_refused(guesses: int) -> None:
    with pytest.raises(Refused, match=f"guesses is {guesses}, expected an even number from 2 to the 6 canaries"):
        right_guesses(np.zeros(6), np.zeros(6, np.bool_), guesses=guesses)


def test_figures_out_of_range_are_refused() -> None:
    with pytest.raises(Refused, match="7 right of 6 guesses about 8 canaries"):
        p_value(canaries=8, guesses=6, right=7, epsilon=1.0, delta=0.0)
    with pytest.raises(Refused, match="epsilon is -1"):
        p_value(canaries=8, guesses=6, right=6, epsilon=-1.0, delta=0.0)
    with pytest.raises(Refused, match="confidence is 1"):
        lower_bound(canaries=8, guesses=6, right=6, delta=0.0, confidence=1.0)
