"""The rotation against the matrix it stands for, and what it does to norms and to single large coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from secagg.errors import InvalidUpdate
from secagg.fixedpoint import FixedPoint
from secagg.rotation import LARGEST_BLOCK, NORM_ERROR, Rotation, block_size, flat_bound

SIZES = [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 300, 1000, LARGEST_BLOCK + 1]


def matrix(rotation: Rotation, size: int) -> NDArray[np.float64]:
    """The rotation of every unit vector."""
    columns = np.eye(size)
    for column in columns:
        rotation.apply(column)
    return columns.T


@pytest.mark.parametrize("size", [4, 16, 64])
def test_one_block_is_signs_then_hadamard_then_a_transposition(size: int) -> None:
    found = matrix(Rotation(b"seed", size), size) * math.sqrt(size)
    r = math.isqrt(size)
    signs = found[0]
    assert set(signs) == {-1.0, 1.0}
    order = np.arange(size).reshape(r, r).T.reshape(-1)
    np.testing.assert_array_equal(found, hadamard(size)[order] * signs)


@pytest.mark.parametrize("size", [1, 3, 5, 17, 40, 300])
def test_the_rotation_is_orthogonal_at_any_size(size: int) -> None:
    found = matrix(Rotation(b"seed", size), size)
    np.testing.assert_allclose(found.T @ found, np.eye(size), atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_undo_undoes_and_norms_are_kept(size: int, dtype: type) -> None:
    vector = np.random.default_rng(size).normal(size=size).astype(dtype)
    rotation, turned = Rotation(b"seed", size), vector.copy()
    rotation.apply(turned)
    norm = np.linalg.norm(vector.astype(np.float64))
    assert abs(np.linalg.norm(turned.astype(np.float64)) - norm) <= NORM_ERROR * norm
    rotation.undo(turned)
    np.testing.assert_allclose(turned, vector, atol=4e-6)


@pytest.mark.parametrize("size", [64, 1000, 100_000])
def test_the_worst_vector_becomes_flat(size: int) -> None:
    """All of the norm in one coordinate, in the first block, in the last, and where two blocks overlap."""
    for place in (0, size - 1, size - block_size(size) + 1):
        vector = np.zeros(size, np.float32)
        vector[place] = 3.0
        Rotation(b"flat", size).apply(vector)
        assert np.abs(vector).max() <= flat_bound(3.0, size)
    assert flat_bound(3.0, size) == pytest.approx(
        min(1, math.sqrt(2 * math.log(size * 2**21) / block_size(size))) * 3.0
    )


def test_two_seeds_turn_differently_and_one_the_same() -> None:
    vectors = [np.ones(64, np.float32) for _ in range(3)]
    for vector, seed in zip(vectors, (b"a", b"b", b"a"), strict=True):
        Rotation(seed, 64).apply(vector)
    assert not np.array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], vectors[2])


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e31])
def test_what_cannot_be_rotated_is_refused(value: float) -> None:
    with pytest.raises(InvalidUpdate, match=r"over 2\^100, or not a number"):
        Rotation(b"seed", 5).apply(np.array([0, 0, value, 0, 0], np.float32))


@pytest.mark.parametrize("modulus_bits", [20, 32, 64])
def test_rotated_encodings_add_up_to_the_mean(modulus_bits: int) -> None:
    size = 1000
    encoding = FixedPoint.fit(clients=3, value_bound=0.5, modulus_bits=modulus_bits, rotation="ab" * 32)  # type: ignore[arg-type]
    generator = np.random.default_rng(1)
    vectors = [generator.normal(size=size).astype(np.float32) / 40 for _ in range(3)]
    # One coordinate is far beyond the bound, and is not clipped: it was spread.
    vectors[0][7] = 2.0
    encoded = [encoding.encode(vector) for vector in vectors]
    assert sum(part.clipped for part in encoded) == 0
    total = encoding.to_floats(sum(part.integers.astype(np.int64) for part in encoded)[:-1])
    np.testing.assert_allclose(total, sum(vectors), atol=math.sqrt(size) * 2 / encoding.scale + 1e-5)
    assert vectors[0][7] == 2.0
