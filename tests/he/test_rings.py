"""Presets, residues and wire form of the key-holder mode, each against its slow twin, and hostile bytes."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from he.ckks.flooded.cipher import (
    CoefficientSum,
    RingDecryptor,
    RingEncryptor,
    RingPublicKey,
    RingSecretKey,
    generate_pair,
)
from he.ckks.flooded.flooding import flooding
from he.ckks.flooded.rings import (
    NARROW,
    RINGS,
    ROOMY,
    RingParameters,
    _times,
    add_integers,
    add_into,
    add_message,
    ring,
    split,
)
from he.ckks.flooded.wire import unpack_fresh
from he.residues import Malformed
from he.security import MAX_LOG2_Q
from secagg.errors import Refused

BOTH = pytest.mark.parametrize("parameters", RINGS.values(), ids=lambda p: p.name)


def is_prime(number: int) -> bool:
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11, 13, 17))


@BOTH
def test_presets_are_within_the_table_with_every_prime_counted(parameters: RingParameters) -> None:
    primes = [*parameters.primes, parameters.special]
    assert all(map(is_prime, primes))
    assert len(set(primes)) == 3
    assert parameters.key_bits == math.prod(primes).bit_length() <= MAX_LOG2_Q[parameters.degree]
    assert (2 * (2**31 - 1) + 1) * parameters.delta <= math.prod(parameters.primes)


def test_bad_parameters_cannot_be_made() -> None:
    with pytest.raises(Refused, match="log2 Q"):
        dataclasses.replace(NARROW, special=ROOMY.special)
    with pytest.raises(Refused, match="polynomial degree"):
        dataclasses.replace(NARROW, degree=2048)
    with pytest.raises(Refused, match="not 1 modulo"):
        dataclasses.replace(NARROW, special=NARROW.special + 2)
    with pytest.raises(Refused, match="40 and 48 bits"):
        dataclasses.replace(NARROW, primes=(NARROW.primes[0], NARROW.special))
    assert ring("n4096-q88") is NARROW
    with pytest.raises(Refused, match="did you mean 'n4096-q88'"):
        ring("n4096-q8")


@given(
    st.integers(-(2**48) + 1, 2**48 - 1),
    st.integers(0, NARROW.primes[1] - 1),
    st.sampled_from([*NARROW.primes, *ROOMY.primes]),
)
def test_products_equal_those_of_integers(value: int, factor: int, prime: int) -> None:
    assert _times(np.array([value]), factor % prime, prime).tolist() == [value * (factor % prime) % prime]


@BOTH
def test_arithmetic_equals_that_of_integers(parameters: RingParameters) -> None:
    rng = np.random.default_rng(0)
    primes = np.array(parameters.primes)[:, None]
    one, two = (rng.integers(0, primes, (2, parameters.degree)).astype(np.uint64) for _ in range(2))
    noise = rng.integers(-(2**63), 2**63 - 1, parameters.degree)
    values = rng.integers(-(2**30), 2**30 + 1, parameters.degree - 5)
    found = one.copy()
    add_into(found, two, parameters)
    add_integers(found, noise, parameters)
    add_message(found, values, parameters)
    padded = [*values.tolist(), *[0] * 5]
    for k, prime in enumerate(parameters.primes):
        rows = zip(one[k].tolist(), two[k].tolist(), noise.tolist(), padded, strict=True)
        assert found[k].tolist() == [(a + b + c + parameters.delta * d) % prime for a, b, c, d in rows]


@BOTH
def test_split_equals_the_chinese_remainder(parameters: RingParameters) -> None:
    p, r = parameters.primes
    wanted = np.random.default_rng(1).integers(-(r // 2), r // 2, parameters.degree).tolist()
    lows = np.random.default_rng(2).integers(0, p, parameters.degree).tolist()
    whole = [low + p * high for low, high in zip(lows, wanted, strict=True)]
    residues = np.array([[x % p for x in whole], [x % r for x in whole]], np.uint64)
    assert split(residues, parameters).tolist() == wanted


class House:
    """A key pair and what opens its sums."""

    def __init__(self, parameters: RingParameters) -> None:
        self.parameters = parameters
        self.secret, self.public = generate_pair(parameters)
        noise = flooding(parameters, clients=10, length=10_000, rounds=100, bits=40)
        self.decryptor = RingDecryptor(self.secret, noise)

    def encrypt(self, values: np.ndarray) -> bytes:
        return b"".join(RingEncryptor(self.public).encrypt(values))


@pytest.fixture(scope="module", params=RINGS.values(), ids=lambda p: p.name)
def house(request: pytest.FixtureRequest) -> House:
    return House(request.param)


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 8192, 8193, 20_000])
def test_sums_at_odd_lengths_are_exact(house: House, length: int) -> None:
    vectors = np.random.default_rng(length).integers(-(2**29), 2**29, (3, length)).astype(np.int32)
    total = CoefficientSum(house.parameters, length)
    for vector in vectors:
        total.fold(memoryview(house.encrypt(vector)))
    again = CoefficientSum(house.parameters, length)
    again.restore(total.state(), count=3)
    opened = house.decryptor.decrypt(again.to_bytes(), length=length, clients=3)
    assert np.array_equal(opened, vectors.sum(axis=0, dtype=np.int64))


def test_hostile_bytes_change_nothing(house: House) -> None:
    parameters, degree = house.parameters, house.parameters.degree
    total = CoefficientSum(parameters, 2 * degree)
    body = house.encrypt(np.arange(2 * degree))
    total.fold(body)
    before = total.state()
    record = len(body) // 2
    second = record - degree * sum(prime.bit_length() for prime in parameters.primes) // 8
    bad = [b"", body[:-1], body + b"\0", body[:record], body[:record] + b"\xff" * record]
    bad += [body[: record + second] + bytes(record - second), body[:second] + bytes(record - second) + body[record:]]
    for content in bad:
        with pytest.raises(Malformed):
            total.fold(content)
    assert total.count == 1
    assert total.state() == before


def test_flipped_bits_and_the_wrong_key_are_no_honest_sum(house: House) -> None:
    degree = house.parameters.degree
    total = CoefficientSum(house.parameters, degree)
    total.fold(house.encrypt(np.arange(degree)))
    body, rng = total.to_bytes(), np.random.default_rng(0)
    for _ in range(10):
        flipped = bytearray(body)
        flipped[int(rng.integers(len(body) // 2, len(body)))] ^= 1 << int(rng.integers(8))
        with pytest.raises(Malformed):
            house.decryptor.decrypt(bytes(flipped), length=degree, clients=1)
    with pytest.raises(Malformed, match="honest"):
        House(house.parameters).decryptor.decrypt(body, length=degree, clients=1)
    with pytest.raises(Malformed, match="honest"):
        house.decryptor.decrypt(body, length=degree - 1, clients=1)


def test_a_sum_over_the_ring_is_refused(house: House) -> None:
    total = CoefficientSum(house.parameters, 1)
    for _ in range(2):
        total.fold(house.encrypt(np.array([2**30])))
    with pytest.raises(Malformed, match="honest"):
        house.decryptor.decrypt(total.to_bytes(), length=1, clients=2)


def test_ciphertexts_of_one_value_share_nothing(house: House) -> None:
    values = np.zeros(house.parameters.degree, np.int64)
    one, two = (unpack_fresh(np.frombuffer(house.encrypt(values), np.uint8)[None], house.parameters) for _ in "ab")
    assert np.count_nonzero(one == two) <= 2


def test_keys_travel_where_they_may(house: House) -> None:
    parameters = house.parameters
    body = house.public.to_bytes()
    assert len(body) == parameters.public_key_bytes
    assert RingPublicKey.from_bytes(body, parameters).to_bytes() == body
    for bad in (b"", body[:-1], body + b"\0", b"\xff" * len(body), bytes(len(body))):
        with pytest.raises(Malformed):
            RingPublicKey.from_bytes(bad, parameters)
    kept = house.secret.local().for_state()
    assert RingSecretKey.load_for_client(kept, parameters).local().for_state() == kept
    assert "not shown" in repr(house.secret)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leave(house.secret)
