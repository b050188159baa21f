"""C2 and the arithmetic of the presets."""

import dataclasses
import math

import pytest
from tenseal import sealapi

from he.ckks.slots.parameters import COMPACT, PRESETS, WIDE, Parameters, preset
from he.security import MAX_LOG2_Q, check_security
from secagg.errors import Refused


@pytest.mark.parametrize("parameters", PRESETS.values(), ids=lambda p: p.name)
def test_preset_primes_are_those_that_seal_would_choose(parameters: Parameters) -> None:
    (prime,) = sealapi.CoeffModulus.Create(parameters.degree, [parameters.modulus_bits])
    assert prime.value() == parameters.modulus


@pytest.mark.parametrize(("degree", "limit"), [(4096, 106), (8192, 214), (16384, 430)])
def test_security_table_counts_every_prime(degree: int, limit: int) -> None:
    assert MAX_LOG2_Q[degree] == limit
    check_security(degree, [2**limit - 1])
    check_security(degree, [2 ** (limit // 2), 2 ** (limit - limit // 2) - 1])
    with pytest.raises(Refused, match=f"allows {limit}"):
        check_security(degree, [2**limit])
    with pytest.raises(Refused, match="log2 Q"):
        check_security(degree, [2**60 - 1] * (limit // 60 + 1))


def test_the_popular_36_36_37_chain_is_over_the_table() -> None:
    with pytest.raises(Refused, match="109 at degree 4096"):
        check_security(4096, [2**36 - 1, 2**36 - 1, 2**37 - 1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"degree": 2048}, "polynomial degree"),
        ({"modulus": COMPACT.modulus + 2}, "not 1 modulo"),
        ({"modulus": 2**55 + 1}, "no room for sums"),
        ({"modulus": 2**48 + 1}, "49 bits"),
        ({"scale_bits": 24}, "no room for sums"),
    ],
)
def test_bad_parameters_cannot_be_made(change: dict[str, int], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        dataclasses.replace(COMPACT, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", PRESETS.values(), ids=lambda p: p.name)
def test_scale_is_the_largest_that_never_wraps(parameters: Parameters) -> None:
    assert math.sqrt(2) * 2 ** (31 + parameters.scale_bits) < parameters.modulus / 2
    with pytest.raises(Refused):
        dataclasses.replace(parameters, scale_bits=parameters.scale_bits + 1)


def test_wire_lengths() -> None:
    assert COMPACT.polynomial_bytes == 4096 * 7
    assert WIDE.polynomial_bytes == 4096 * 15 // 2
    assert [COMPACT.ciphertexts(n) for n in (1, 4095, 4096, 4097)] == [1, 1, 1, 2]
    assert COMPACT.fresh_bytes(4097, "public") == COMPACT.sum_bytes(4097) == 4 * 4096 * 7
    assert COMPACT.fresh_bytes(4097, "symmetric") == 2 * (4096 * 7 + 64)
    with pytest.raises(Refused):
        COMPACT.ciphertexts(0)


def test_presets_by_name() -> None:
    assert preset("n4096-q56") is COMPACT
    with pytest.raises(Refused, match="did you mean 'n4096-q60'"):
        preset("n4096-q6o")
