"""Stochastic rounding: a neighbour of the value, with the probability that the fraction says."""

from __future__ import annotations

import math
import secrets
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secagg.errors import Refused
from secagg.rounding import Rounding, largest, rounder


def keys(seed: int) -> bytes:
    return seed.to_bytes(32, "little")


def draws(key: bytes, count: int) -> list[int]:
    """The words that a fresh rounder will draw."""
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * count))
    return np.frombuffer(stream, "<u4").tolist()


def slowly(value: Fraction, word: int) -> int:
    """Up if a uniform word of 32 bits is under the fraction."""
    whole = math.floor(value)
    return whole + (Fraction(word, 2**32) < value - whole)


values = st.floats(-(2.0**62), 2.0**62) | st.floats(-4, 4) | st.sampled_from([0.0, 0.5, -0.5, 1e-300, -1e-300, 3.0])


@given(st.lists(values, max_size=20), st.integers(0, 2**64))
def test_stochastic_rounding_equals_its_slow_twin_draw_by_draw(given_values: list[float], seed: int) -> None:
    rounded = np.array(given_values)
    rounder("stochastic", lambda _: keys(seed), 20).round(rounded)
    words = draws(keys(seed), len(given_values))
    assert rounded.tolist() == [slowly(Fraction(v), word) for v, word in zip(given_values, words, strict=True)]


@given(st.fractions(0, 10**6), st.integers(0, 20), st.integers(0, 2**64))
def test_a_repeated_value_is_rounded_by_the_same_rule(value: Fraction, count: int, seed: int) -> None:
    rounded = rounder("stochastic", lambda _: keys(seed), 20).repeated(value, count, np.dtype(np.int64)).tolist()
    assert rounded == [slowly(value, word) for word in draws(keys(seed), count)]
    assert all(one <= largest(value, "stochastic") for one in rounded)


@pytest.mark.parametrize("short", [b"", bytes(31)])
def test_too_few_random_bytes_are_refused(short: bytes) -> None:
    with pytest.raises(Refused, match=f"rng gave {len(short)} bytes, expected 32"):
        rounder("stochastic", lambda _: short, 5)


@pytest.mark.parametrize("value", [0.25, -0.25, 7.001, -7.999, 2.0**-20])
def test_the_mean_of_many_is_the_value(value: float) -> None:
    """How many are rounded up, against the binomial distribution, exactly: normal it is not where few are."""
    count = 1 << 20
    rounded = np.full(count, value)
    rounder("stochastic", secrets.token_bytes, count).round(rounded)
    assert set(rounded.tolist()) <= {math.floor(value), math.ceil(value)}
    up = int(np.count_nonzero(rounded == math.ceil(value)))
    assert stats.binomtest(up, count, value - math.floor(value)).pvalue > 1e-8


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@given(numbers=st.lists(st.integers(-(2**53), 2**53), max_size=10))
def test_whole_numbers_stay_as_they_are(rounding: Rounding, numbers: list[int]) -> None:
    rounded = np.array(numbers, np.float64)
    rounder(rounding, secrets.token_bytes, 10).round(rounded)
    assert rounded.tolist() == numbers


def test_to_the_nearest_halves_go_to_the_even_one() -> None:
    nearest = rounder("nearest", lambda _: pytest.fail("no chance in it"), 5)
    rounded = np.array([0.5, 1.5, -0.5, -2.5, 2.4999])
    nearest.round(rounded)
    assert rounded.tolist() == [0, 2, 0, -2, 2]
    assert nearest.repeated(Fraction(5, 2), 2, np.dtype(np.int32)).tolist() == [2, 2]
    assert [largest(Fraction(5, 2), rounding) for rounding in ("nearest", "stochastic")] == [2, 3]
