"""Clipping holds in exact arithmetic, for vectors that were made to break it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dp.clipping import clip, clip_to_grid, grid_bound, l2_norm
from secagg.errors import InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint
from secagg.rotation import NORM_ERROR

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = arrays.arrays(np.float32, st.integers(1, 60), elements=FLOATS)


def exact_square(vector: NDArray[np.float32]) -> Fraction:
    """The slow twin of the norm: whole numbers all the way."""
    return sum((Fraction(float(x)) ** 2 for x in vector), Fraction(0))


def integer_square(vector: NDArray[np.float32], scale: float) -> int:
    return sum(int(q) ** 2 for q in np.rint(vector.astype(np.float64) * scale))


@given(VECTORS, st.floats(1e-6, 1e6))
def test_the_exact_norm_never_exceeds_the_clip(vector: NDArray[np.float32], clip_l2: float) -> None:
    clipped = clip(vector, clip_l2)
    assert clipped.vector.dtype == np.float32
    assert exact_square(clipped.vector) <= Fraction(clip_l2) ** 2
    assert 0 <= clipped.factor <= 1


def test_a_norm_that_a_float_rounds_down_to_the_clip_is_clipped() -> None:
    vector = np.array([1, 2**-30], np.float32)
    assert l2_norm(vector) == 1
    assert exact_square(vector) > 1
    assert exact_square(clip(vector, 1.0).vector) <= 1


@given(VECTORS, st.floats(1e-6, 1e6))
def test_clipping_twice_changes_nothing(vector: NDArray[np.float32], clip_l2: float) -> None:
    once = clip(vector, clip_l2)
    twice = clip(once.vector, clip_l2)
    assert twice.factor == 1
    assert twice.vector is once.vector


@given(VECTORS, st.floats(1e-6, 1e6))
def test_a_short_vector_is_left_alone_and_a_long_one_keeps_its_direction(
    vector: NDArray[np.float32], clip_l2: float
) -> None:
    norm = math.sqrt(exact_square(vector))
    clipped = clip(vector, clip_l2)
    assert clipped.norm == pytest.approx(norm, rel=1e-9)
    if norm <= clip_l2 * (1 - 2**-22):
        assert clipped.vector is vector
        assert clipped.factor == 1
    else:
        wanted = vector.astype(np.float64) * min(1.0, clip_l2 / norm)
        assert np.allclose(clipped.vector, wanted, rtol=1e-6, atol=1e-37)


@settings(max_examples=300)
@given(VECTORS, st.floats(1e-2, 1e3), st.integers(8, 30))
def test_the_integers_never_exceed_the_clip(vector: NDArray[np.float32], clip_l2: float, bits: int) -> None:
    scale = 2.0**bits
    assume(clip_l2 > math.sqrt(vector.size) / scale)
    clipped = clip_to_grid(vector, clip_l2, scale=scale)
    assert integer_square(clipped.vector, scale) <= (Fraction(clip_l2) * Fraction(scale)) ** 2


@pytest.mark.parametrize("size", [1, 3, 100, 4097, 70_001])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_vectors_that_all_round_up_stay_under_the_clip(size: int, bits: int) -> None:
    # Every coordinate sits just over half a step, so that rounding adds as much as it ever can.
    scale = 2.0**bits
    for clip_l2 in (math.sqrt(size) / (2 * scale) * 1.001, math.sqrt(size) / scale, 1.0, 7.3):
        if clip_l2 <= math.sqrt(size) / (2 * scale):
            continue
        bound = grid_bound(clip_l2, size=size, scale=scale)
        for steps in (0.5 + 1e-6, math.floor(bound * scale / math.sqrt(size)) + 0.5 + 1e-6, 1e6):
            vector = np.full(size, steps / scale, np.float32)
            clipped = clip_to_grid(vector, clip_l2, scale=scale)
            assert integer_square(clipped.vector, scale) <= (Fraction(clip_l2) * Fraction(scale)) ** 2


def test_without_the_margin_rounding_does_exceed_the_clip() -> None:
    # Keeps the test above honest: plain clipping, on the same kind of vector, breaks the integer bound.
    scale, size = 2.0**8, 10_000
    vector = np.full(size, 0.51 / scale, np.float32)
    clip_l2 = 0.6 / scale * math.sqrt(size)
    plain = clip(vector, clip_l2)
    assert plain.factor == 1
    assert integer_square(plain.vector, scale) > (clip_l2 * scale) ** 2


@given(st.integers(1, 10**9), st.floats(1e-3, 1e3), st.integers(8, 40))
def test_the_grid_bound_is_the_formula_rounded_down(size: int, clip_l2: float, bits: int) -> None:
    scale = 2.0**bits
    wanted = clip_l2 - math.sqrt(size) / (2 * scale)
    assume(wanted > 1e-9)
    bound = grid_bound(clip_l2, size=size, scale=scale)
    assert bound == pytest.approx(wanted, rel=1e-6)
    # bound + sqrt(size) / (2 scale) <= clip_l2, with the root on one side of an exact inequality.
    room = Fraction(clip_l2) - Fraction(bound)
    assert room >= 0
    assert Fraction(size) <= (2 * Fraction(scale) * room) ** 2


def test_a_grid_too_coarse_is_refused_with_what_would_do() -> None:
    with pytest.raises(Refused, match=r"clip_l2 = 1 .* 1000000 coordinates at scale 256: .* above 500 .* above 1\.953"):
        clip_to_grid(np.zeros(1_000_000, np.float32), 1.0, scale=256.0)
    assert grid_bound(1.0, size=1_000_000, scale=501.0) > 0
    assert grid_bound(1.954, size=1_000_000, scale=256.0) > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", [0, 65_535, 65_536, 99_999])
def test_a_coordinate_that_is_no_number_is_named(bad: float, index: int) -> None:
    vector = np.zeros(100_000, np.float32)
    vector[index] = bad
    with pytest.raises(InvalidUpdate, match=f"coordinate {index} of the update"):
        clip(vector, 1.0)


def test_the_largest_floats_do_not_overflow() -> None:
    vector = np.full(200_000, np.finfo(np.float32).max, np.float32)
    assert l2_norm(vector) == pytest.approx(float(np.finfo(np.float32).max) * math.sqrt(200_000))
    assert l2_norm(clip(vector, 1.0).vector) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("clip_l2", [0.0, -1.0, math.nan, math.inf, 1e-40])
def test_a_clip_out_of_range_is_refused(clip_l2: float) -> None:
    with pytest.raises(Refused, match="clip_l2 is"):
        clip(np.ones(3, np.float32), clip_l2)


@pytest.mark.parametrize("vector", [np.ones(3), np.ones((2, 2), np.float32)])
def test_another_type_or_shape_is_refused(vector: NDArray[np.float32]) -> None:
    with pytest.raises(Refused, match="expected float32 of shape"):
        clip(vector, 1.0)


@pytest.mark.parametrize(("size", "scale"), [(0, 1.0), (5, 0.0), (5, math.nan), (5, -2.0)])
def test_a_grid_that_is_none_is_refused(size: int, scale: float) -> None:
    with pytest.raises(Refused, match=r"size is 0|scale is"):
        grid_bound(1.0, size=size, scale=scale)


@pytest.mark.parametrize("size", [1, 100, 10_000, 200_000])
def test_rounding_by_chance_keeps_within_the_clip(size: int) -> None:
    """Vectors at the bound, all of whose coordinates lie between two steps: at each of many tries."""
    encoding = FixedPoint(clients=3, value_bound=1.0, fraction_bits=8, rounding="stochastic", divisor=3)
    clip_l2 = (20 + 1.5 * math.sqrt(size)) / encoding.scale
    bound = grid_bound(clip_l2, size=size, scale=encoding.scale, rounding="stochastic")
    vector = np.full(size, bound / math.sqrt(size), np.float32)
    norms = []
    for _ in range(20):
        integers = encoding.encode(clip(vector, bound).vector).integers.astype(np.int64)
        norms.append(math.sqrt(int(integers @ integers)))
    assert max(norms) <= clip_l2 * encoding.scale
    # Most of the clip is kept: without regard to chance sqrt(size) would have to be left, or sqrt(size) / 2.
    assert bound * encoding.scale >= clip_l2 * encoding.scale - 10 - 0.25 * math.sqrt(size)


@given(st.integers(1, 10**9), st.floats(1e-3, 1e3), st.integers(8, 40))
def test_the_bound_for_rounding_by_chance_solves_the_papers_inequality(size: int, clip_l2: float, bits: int) -> None:
    scale = 2.0**bits
    chance = math.sqrt(2 * 128 * math.log(2))
    half = math.sqrt(size) / 2
    assume((clip_l2 * scale) ** 2 > (size / 4 + chance * half) * 1.01)
    norm = grid_bound(clip_l2, size=size, scale=scale, rounding="stochastic") * scale
    attained = norm**2 + size / 4 + chance * (norm + half)
    assert attained == pytest.approx((clip_l2 * scale) ** 2, rel=1e-2)
    assert attained <= (clip_l2 * scale) ** 2 * (1 + 1e-12)


def test_rotated_the_bound_is_lower_by_what_float32_errs() -> None:
    plain = grid_bound(1.0, size=100, scale=2.0**30)
    rotated = grid_bound(1.0, size=100, scale=2.0**30, rotated=True)
    assert rotated / plain == pytest.approx(1 - NORM_ERROR, rel=1e-12)


@pytest.mark.parametrize("size", [5, 1000, 70_000])
def test_a_clipped_vector_stays_within_the_clip_when_it_is_rotated(size: int) -> None:
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, divisor=3, rotation="ab" * 32)
    for seed in range(5):
        vector = np.random.default_rng(seed).normal(size=size).astype(np.float32)
        clipped = clip_to_grid(vector, 1.0, scale=encoding.scale, rotated=True)
        integers = encoding.encode(clipped.vector).integers.astype(object)
        assert int(integers @ integers) <= encoding.scale**2
