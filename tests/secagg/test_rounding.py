"""Stochastic rounding: a neighbour of the value, with the probability that the fraction says."""

from __future__ import annotations

import math
import secrets
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.rounding import Rounding, largest, rounder


class Words:
    """Stands in the cipher's place, so that the test knows every draw."""

    def __init__(self, words: list[int]) -> None:
        self.left = np.array(words, "<u4").tobytes()

    def bytes(self, count: int) -> bytes:
        taken, self.left = self.left[:count], self.left[count:]
        assert len(taken) == count
        return taken


def away_from_zero(value: Fraction, word: int) -> int:
    """The module's words: away from zero if a uniform word of 32 bits is under the fraction."""
    magnitude = abs(value)
    whole = math.floor(magnitude)
    return (whole + (Fraction(word, 2**32) < magnitude - whole)) * (1 if value > 0 else -1)


values = st.floats(-(2.0**62), 2.0**62) | st.floats(-4, 4) | st.sampled_from([0.0, 0.5, -0.5, 1e-300, -1e-300, 3.0])
words = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1])


@given(st.lists(st.tuples(values, words), max_size=20))
def test_stochastic_rounding_equals_its_slow_twin_draw_by_draw(cases: list[tuple[float, int]]) -> None:
    stochastic = rounder("stochastic", secrets.token_bytes)
    stochastic._stream = Words([word for _, word in cases])  # type: ignore[union-attr, assignment]
    rounded = np.array([value for value, _ in cases])
    stochastic.round(rounded)
    assert [int(value) for value in rounded] == [away_from_zero(Fraction(value), word) for value, word in cases]


@given(st.fractions(0, 10**6), st.lists(words, max_size=10))
def test_a_repeated_value_is_rounded_by_the_same_rule(value: Fraction, drawn: list[int]) -> None:
    stochastic = rounder("stochastic", secrets.token_bytes)
    stochastic._stream = Words(drawn)  # type: ignore[union-attr, assignment]
    rounded = stochastic.repeated(value, len(drawn), np.dtype(np.int64)).tolist()
    assert rounded == [away_from_zero(value, word) if value else 0 for word in drawn]
    assert all(one <= largest(value, "stochastic") for one in rounded)


@pytest.mark.parametrize("value", [0.25, -0.25, 7.001, -7.999, 2.0**-20])
def test_the_mean_of_many_is_the_value(value: float) -> None:
    """Six standard errors: two in 10^9 by chance."""
    count = 1 << 20
    rounded = np.full(count, value)
    rounder("stochastic", secrets.token_bytes).round(rounded)
    assert set(rounded.tolist()) <= {math.floor(value), math.ceil(value)}
    fraction = abs(value) % 1
    assert abs(rounded.mean() - value) <= 6 * math.sqrt(fraction * (1 - fraction) / count)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@given(numbers=st.lists(st.integers(-(2**53), 2**53), max_size=10))
def test_whole_numbers_stay_as_they_are(rounding: Rounding, numbers: list[int]) -> None:
    rounded = np.array(numbers, np.float64)
    rounder(rounding, secrets.token_bytes).round(rounded)
    assert rounded.tolist() == numbers


def test_to_the_nearest_halves_go_to_the_even_one() -> None:
    nearest = rounder("nearest", lambda _: pytest.fail("no chance in it"))
    rounded = np.array([0.5, 1.5, -0.5, -2.5, 2.4999])
    nearest.round(rounded)
    assert rounded.tolist() == [0, 2, 0, -2, 2]
    assert nearest.repeated(Fraction(5, 2), 2, np.dtype(np.int32)).tolist() == [2, 2]
    assert [largest(Fraction(5, 2), rounding) for rounding in ("nearest", "stochastic")] == [2, 3]
