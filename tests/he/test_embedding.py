"""The embedding against its definition, and against SEAL's encoder."""

import cmath

import numpy as np

from he.ckks.slots.embedding import to_coefficients, to_slots
from he.ckks.slots.parameters import COMPACT
from he.ckks.slots.seal import open_seal


def slots_slowly(coefficients: list[float]) -> list[complex]:
    """The polynomial at zeta^(3^k), term by term."""
    degree = len(coefficients)
    zeta = cmath.exp(1j * cmath.pi / degree)
    roots = [zeta ** pow(3, k, 2 * degree) for k in range(degree // 2)]
    return [sum(c * root**j for j, c in enumerate(coefficients)) for root in roots]


def test_to_slots_equals_its_slow_twin() -> None:
    coefficients = np.random.default_rng(0).normal(size=32)
    assert np.allclose(to_slots(coefficients), slots_slowly(coefficients.tolist()))


def test_round_trip() -> None:
    coefficients = np.random.default_rng(1).normal(size=4096)
    assert np.allclose(to_coefficients(to_slots(coefficients)), coefficients)


def test_seal_has_the_same_order_of_slots() -> None:
    seal = open_seal(COMPACT)
    coefficients = np.random.default_rng(2).integers(-1000, 1000, 4096).astype(np.float64)
    plaintext = seal.encode(to_slots(coefficients).tolist(), 1.0)
    assert np.allclose(to_coefficients(seal.slots_of(plaintext)), coefficients, atol=1e-6)
