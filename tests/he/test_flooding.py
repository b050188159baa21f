"""C6: the size of the noise, that it arrives, and what the query budget counts."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from he.ckks.flooded.cipher import (
    CoefficientSum,
    RingDecryptor,
    RingEncryptor,
    RingPublicKey,
    RingSecretKey,
    flooded,
    generate_pair,
)
from he.ckks.flooded.flooding import TAIL, check_round, flooding, flooding_sigma, fresh_error, worst_error
from he.ckks.flooded.rings import NARROW, RINGS, ROOMY, RingParameters, add_into
from he.ckks.flooded.seal import open_ring
from he.ckks.flooded.wire import pack_sum, sum_error, unpack_fresh, unpack_sum
from he.residues import Residues
from secagg.errors import Refused
from tests.secagg.exact import counting_rng

BOTH = pytest.mark.parametrize("parameters", RINGS.values(), ids=lambda p: p.name)


def centred(residues: Residues, parameters: RingParameters) -> list[int]:
    """The coefficients of a polynomial of shape (2, N) as integers in [-Q/2, Q/2), by the textbook."""
    p, r = parameters.primes
    inverse, whole = pow(p, -1, r), p * r
    out = []
    for low, high in residues.T.tolist():
        value = low + p * ((high - low) * inverse % r)
        out.append(value - whole if value > whole // 2 else value)
    return out


def phase_of(secret: RingSecretKey, both: Residues, parameters: RingParameters) -> Residues:
    """c0 + c1 s of one ciphertext, shape (2, 2, N), without noise: what nobody but a test may look at."""
    phase = secret.times(np.stack((both[1], both[1])))[0].copy()
    add_into(phase, both[0], parameters)
    return phase


def encrypted(public: RingPublicKey, values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A fresh ciphertext as one record."""
    return np.frombuffer(b"".join(RingEncryptor(public).encrypt(values)), np.uint8)[None]


def test_the_worst_error_of_a_fresh_encryption() -> None:
    assert fresh_error(4096, "symmetric") == 21
    assert fresh_error(4096, "public") == 21 * 8193
    assert fresh_error(8192, "public", special=ROOMY.special) == Fraction(21 * 16385, ROOMY.special) + Fraction(8193, 2)
    # e_pk u + e0 + e1 s with everything at its largest and in phase, multiplied out.
    degree = 16
    largest, ones = np.full(degree, 21), np.ones(degree, np.int64)
    product = np.convolve(largest, ones)  # before X^N = -1: folding adds up degree products at most
    folded = np.zeros(degree, np.int64)
    folded += product[:degree]
    folded[:-1] += np.abs(product[degree:])
    assert (2 * folded + 21).max() == fresh_error(degree, "public")


@BOTH
def test_errors_observed_are_far_below_the_worst(parameters: RingParameters) -> None:
    secret, public = generate_pair(parameters)
    seal = open_ring(parameters)
    zero = seal.encrypt_zero(seal.encryptor(seal.public_key(public.residues)))
    errors = centred(phase_of(secret, zero, parameters), parameters)
    assert 0 < max(map(abs, errors)) < fresh_error(parameters.degree, "public", special=parameters.special) / 10


@BOTH
def test_what_a_client_leaves_out_of_a_ciphertext_is_counted_as_its_error(parameters: RingParameters) -> None:
    secret, public = generate_pair(parameters)
    values = np.random.default_rng(0).integers(-(2**30), 2**30, parameters.degree)
    (both,) = unpack_fresh(encrypted(public, values), parameters)
    phase = centred(phase_of(secret, both, parameters), parameters)
    errors = [abs(found - parameters.delta * value) for found, value in zip(phase, values.tolist(), strict=True)]
    left_out = 2 ** (parameters.fresh_drop - 1)
    assert left_out / 2 < max(errors) < worst_error(parameters)
    assert worst_error(parameters) == left_out + fresh_error(parameters.degree, "public", special=parameters.special)


def test_the_formula_gives_the_published_figures() -> None:
    assert round(math.log2(flooding_sigma(1, degree=4096, queries=1, bits=40))) == 28
    assert round(math.log2(flooding_sigma(1, degree=4096, queries=1 << 10, bits=64))) == 45
    by_floats = 3000 * math.sqrt(24 * 8192 * 123_000) * 2**20
    assert flooding_sigma(3000, degree=8192, queries=123_000, bits=40) == pytest.approx(by_floats)
    with pytest.raises(Refused, match="flooding_bits is 39, expected 40 at least"):
        flooding_sigma(1, degree=4096, queries=1, bits=39)
    with pytest.raises(Refused, match="budget of 0"):
        flooding_sigma(1, degree=4096, queries=0, bits=40)


@BOTH
@pytest.mark.parametrize("bits", [40, 44])
def test_the_divergence_of_all_queries_together_is_below_2_to_minus_s(parameters: RingParameters, bits: int) -> None:
    noise = flooding(parameters, clients=7, length=20_000, rounds=50, bits=bits)
    assert noise.bound >= 7 * worst_error(parameters)
    assert noise.queries == 50 * -(-20_000 // parameters.degree)
    one = Fraction(parameters.degree * noise.bound**2, 2 * noise.sigma**2)
    assert noise.queries * one <= Fraction(1, 48 << bits)
    assert noise.sigma_float >= noise.sigma


def test_room_for_the_noise() -> None:
    """The defaults, and the largest federation that was asked for."""
    assert flooding(ROOMY, clients=10, length=1_000_001, rounds=500, bits=40)
    assert flooding(ROOMY, clients=100, length=10_000_001, rounds=500, bits=40)
    assert flooding(ROOMY, clients=1000, length=1_000_001, rounds=80, bits=40)
    assert flooding(NARROW, clients=10, length=1_000_001, rounds=500, bits=40)
    with pytest.raises(Refused, match="preset n8192-q96 would do"):
        flooding(NARROW, clients=100, length=1_000_001, rounds=500, bits=40)
    with pytest.raises(Refused, match=r"query_budget = \d+ would do") as refused:
        flooding(ROOMY, clients=1000, length=1_000_001, rounds=1 << 20, bits=40)
    most = int(str(refused.value).split("query_budget = ")[1].split()[0])
    assert flooding(ROOMY, clients=1000, length=1_000_001, rounds=most, bits=40)
    with pytest.raises(Refused, match="query_budget"):
        flooding(ROOMY, clients=1000, length=1_000_001, rounds=most + 1, bits=40)


@BOTH
def test_the_noise_arrives_in_every_coefficient(parameters: RingParameters) -> None:
    """Flooded minus unflooded, coefficient by coefficient, is N(0, sigma^2) and fills the low bits too."""
    secret, public = generate_pair(parameters)
    values = np.arange(2 * parameters.degree)
    total = CoefficientSum(parameters, values.size)
    total.fold(b"".join(RingEncryptor(public).encrypt(values)))
    noise = flooding(parameters, clients=3, length=values.size, rounds=500, bits=40)
    rows = np.frombuffer(total.to_bytes(), np.uint8).reshape(2, -1)
    keys = np.frombuffer(counting_rng(parameters.name)(128), np.uint8).reshape(2, 64)
    phases = flooded(rows, secret, noise.sigma_float, keys=keys)
    found = []
    for both, phase in zip(unpack_sum(rows, parameters), phases, strict=True):
        exact = centred(phase_of(secret, both, parameters), parameters)
        found += [a - b for a, b in zip(centred(phase, parameters), exact, strict=True)]
    scaled = np.array(found, np.float64) / noise.sigma
    error = 1 / math.sqrt(len(found))
    assert abs(scaled.mean()) < 4 * error
    assert abs(scaled.std() - 1) < 4 * error
    assert stats.kstest(scaled, "norm").pvalue > 1e-3
    assert stats.chisquare(np.bincount([value & 63 for value in found], minlength=64)).pvalue > 1e-3
    assert len(set(found)) == len(found)


def test_two_decryptions_have_two_noises() -> None:
    secret, public = generate_pair(NARROW)
    rows = np.frombuffer(pack_sum(unpack_fresh(encrypted(public, np.arange(10)), NARROW)[0], NARROW), np.uint8)[None]
    noise = flooding(NARROW, clients=3, length=10, rounds=10, bits=40)
    decryptor = RingDecryptor(secret, noise)
    keys = [np.frombuffer(decryptor._noise_keys(), np.uint8)[None] for _ in range(2)]
    first, second = (flooded(rows, secret, noise.sigma_float, keys=drawn) for drawn in keys)
    assert not (first == second).all(axis=1).any()


def test_d2_d3_a_stuck_or_short_generator_floods_nothing() -> None:
    secret, public = generate_pair(NARROW)
    total = CoefficientSum(NARROW, 10)
    total.fold(encrypted(public, np.arange(10)).tobytes())
    noise = flooding(NARROW, clients=3, length=10, rounds=10, bits=40)
    for rng, why in ((lambda count: bytes(range(count)), "the same key twice"), (lambda count: b"short", "too few")):
        with pytest.raises(Refused, match=why):
            RingDecryptor(secret, noise, rng=rng).decrypt(total.to_bytes(), length=10, clients=1)


@BOTH
def test_sums_are_exact_under_the_widest_noise_that_fits(parameters: RingParameters) -> None:
    """At the edge of the 32-bit grid, with sigma as large as is ever allowed."""
    secret, public = generate_pair(parameters)
    rounds = 1
    while True:
        try:
            noise = flooding(parameters, clients=2, length=4, rounds=2 * rounds, bits=40)
            rounds *= 2
        except Refused:
            break
    edge = np.array([2**30, -(2**30), 2**30 - 1, 0])
    total = CoefficientSum(parameters, 4)
    for values in (edge - np.sign(edge), edge):
        total.fold(b"".join(RingEncryptor(public).encrypt(values)))
    opened = RingDecryptor(secret, noise).decrypt(total.to_bytes(), length=4, clients=2)
    assert opened.tolist() == (2 * edge - np.sign(edge)).tolist()
    assert 2 * (noise.reach + sum_error(parameters)) < parameters.delta
    assert TAIL * noise.sigma > parameters.delta / 16 or noise.sigma > 2**56


def test_a_budget_counts_rounds() -> None:
    for number in (0, 4):
        with pytest.raises(Refused, match=f"round {number} is over the query budget of 3 rounds"):
            check_round(number, 3)
    check_round(1, 3)
    check_round(3, 3)
