"""The packing against an obvious twin on Python integers, and what it turns away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from he.ckks.slots.parameters import COMPACT, PRESETS, Parameters
from he.residues import Malformed, add_into, ciphertext_residues, pack, records, unpack

BOTH = pytest.mark.parametrize("parameters", PRESETS.values(), ids=lambda p: p.name)


def pack_slowly(residues: NDArray[np.uint64], parameters: Parameters) -> bytes:
    """One huge little-endian integer: residue i at bit i * modulus_bits."""
    huge = sum(int(r) << (i * parameters.modulus_bits) for i, r in enumerate(residues.tolist()))
    return huge.to_bytes(parameters.polynomial_bytes, "little")


def random_residues(parameters: Parameters, *shape: int, seed: int = 7) -> NDArray[np.uint64]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, parameters.modulus, (*shape, parameters.degree), np.uint64)


@BOTH
def test_pack_equals_its_slow_twin(parameters: Parameters) -> None:
    residues = random_residues(parameters)
    residues[:4] = [0, 1, parameters.modulus - 1, 0]
    residues[-1] = parameters.modulus - 1
    assert pack(residues, parameters).tobytes() == pack_slowly(residues, parameters)


@BOTH
def test_unpack_inverts_pack_in_any_shape(parameters: Parameters) -> None:
    residues = random_residues(parameters, 3, 2)
    packed = pack(residues, parameters)
    assert packed.shape == (3, 2, parameters.polynomial_bytes)
    assert np.array_equal(unpack(packed, parameters), residues)
    assert np.array_equal(unpack(packed[:, 1], parameters), residues[:, 1])
    assert np.array_equal(unpack(packed[::2], parameters), residues[::2])


@BOTH
@pytest.mark.parametrize("position", [0, 1, 2, 4094, 4095])
def test_a_residue_of_q_or_more_is_malformed(parameters: Parameters, position: int) -> None:
    residues = random_residues(parameters)
    for value in (parameters.modulus, 2**parameters.modulus_bits - 1):
        residues[position] = value
        with pytest.raises(Malformed, match="below the modulus"):
            unpack(pack(residues, parameters), parameters)


@BOTH
def test_add_is_addition_modulo_q(parameters: Parameters) -> None:
    left, right = random_residues(parameters, seed=1), random_residues(parameters, seed=2)
    left[:3] = [0, parameters.modulus - 1, parameters.modulus - 1]
    right[:3] = [0, 1, parameters.modulus - 1]
    expected = [(int(a) + int(b)) % parameters.modulus for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    add_into(left, right, parameters)
    assert left.tolist() == expected


@given(size=st.integers(0, 60))
@settings(max_examples=30)
def test_records_wants_the_exact_length(size: int) -> None:
    if size == 21:
        assert records(bytes(size), count=3, record_bytes=7).shape == (3, 7)
    else:
        with pytest.raises(Malformed, match="expected exactly 21"):
            records(bytes(size), count=3, record_bytes=7)


def test_transparent_is_malformed_anywhere() -> None:
    residues = random_residues(COMPACT, 3, 2)
    residues[1, 1] = 0
    with pytest.raises(Malformed, match="transparent"):
        ciphertext_residues(pack(residues, COMPACT).reshape(3, -1), COMPACT)
    residues[1, 1, 4095] = 1
    ciphertext_residues(pack(residues, COMPACT).reshape(3, -1), COMPACT)
