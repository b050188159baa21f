"""Encrypt, fold, decrypt: exact sums, hostile bytes, and SEAL's own addition as the slow twin."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from tenseal import sealapi

from he.ckks.slots.decryption import Decryptor
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import SecretKey, generate
from he.ckks.slots.parameters import COMPACT, WIDE, Parameters
from he.ckks.slots.scheme import CkksScheme
from he.ckks.slots.seal import open_seal
from he.residues import Malformed, pack, unpack
from he.sums import CiphertextSum
from secagg.errors import InvalidUpdate, Refused


@dataclass
class House:
    """One key of a shared-key mode."""

    parameters: Parameters
    secret: SecretKey

    @property
    def encryptor(self) -> SeededEncryptor:
        return SeededEncryptor(self.secret)

    def total(self, length: int) -> CiphertextSum:
        return CkksScheme(self.parameters).empty_sum(length)

    def encrypt(self, values: NDArray[np.signedinteger]) -> bytes:
        return b"".join(self.encryptor.encrypt(values))

    def decrypt(self, body: bytes, *, length: int, clients: int) -> NDArray[np.int64]:
        return Decryptor(self.secret).decrypt(body, length=length, clients=clients)


@pytest.fixture(scope="module", params=[COMPACT, WIDE], ids=lambda p: p.name)
def house(request: pytest.FixtureRequest) -> House:
    return House(request.param, generate(request.param))


@pytest.mark.parametrize("length", [1, 2047, 2048, 2049, 4095, 4096, 4097, 10_000])
def test_three_clients_at_odd_lengths(house: House, length: int) -> None:
    rng = np.random.default_rng(length)
    vectors = rng.integers(-(2**29), 2**29, (3, length)).astype(np.int32)
    total = house.total(length)
    for vector in vectors:
        records = list(house.encryptor.encrypt(vector))
        assert {len(r) for r in records} == {house.parameters.record_bytes("symmetric")}
        body = b"".join(records)
        assert len(body) == house.parameters.fresh_bytes(length, "symmetric")
        total.fold(memoryview(body))
    body = total.to_bytes()
    assert total.count == 3
    assert len(body) == house.parameters.sum_bytes(length)
    opened = house.decrypt(body, length=length, clients=3)
    assert opened.dtype == np.int64
    assert np.array_equal(opened, vectors.sum(axis=0, dtype=np.int64))


@pytest.mark.parametrize("clients", [2, 7, 100])
@pytest.mark.parametrize("pattern", ["maximum", "minimum", "alternating", "random"])
def test_the_edge_of_the_ring(house: House, clients: int, pattern: str) -> None:
    largest = (2**31 - 1) // clients
    rng = np.random.default_rng(clients)
    vector = {
        "maximum": np.full(4097, largest),
        "minimum": np.full(4097, -largest),
        "alternating": np.where(np.arange(4097) % 2, largest, -largest),
        "random": rng.choice([-largest, largest], 4097),
    }[pattern].astype(np.int64)
    total = house.total(4097)
    for _ in range(clients):
        total.fold(house.encrypt(vector))
    assert np.array_equal(house.decrypt(total.to_bytes(), length=4097, clients=clients), clients * vector)


def test_one_client_at_its_limit_in_the_worst_phase(house: House) -> None:
    # All slots in phase with one power of X: one coefficient is as large as the bound allows, sqrt(2) 2^30 scale.
    half = 2048
    powers = np.array([pow(3, k, 8192) for k in range(half)])
    angle = np.exp(1j * np.pi * powers / 4)
    vector = np.concatenate((np.sign(angle.real), np.sign(angle.imag))).astype(np.int64) * 2**30
    total = house.total(4096)
    total.fold(house.encrypt(vector))
    assert np.array_equal(house.decrypt(total.to_bytes(), length=4096, clients=1), vector)


@pytest.mark.parametrize("house", [COMPACT], indirect=True, ids=[COMPACT.name])
def test_a_million_and_three(house: House) -> None:
    length = 1_000_003
    vectors = np.random.default_rng(5).integers(-(2**28), 2**28, (2, length), np.int32)
    total = house.total(length)
    for vector in vectors:
        total.fold(house.encrypt(vector))
    assert np.array_equal(house.decrypt(total.to_bytes(), length=length, clients=2), vectors.sum(axis=0))


def test_the_sum_equals_what_seal_itself_adds(house: House) -> None:
    seal, parameters = open_seal(house.parameters), house.parameters
    bodies = [house.encrypt(np.arange(i, i + 4096)) for i in range(3)]
    terms = []
    for body in bodies:
        row = np.frombuffer(body, np.uint8)
        terms.append(seal.seeded_ciphertext(unpack(row[:-64], parameters), row[-64:], scale=parameters.scale))
    evaluator = sealapi.Evaluator(seal.context)
    evaluator.add_inplace(terms[0], terms[1])
    evaluator.add_inplace(terms[0], terms[2])
    total = house.total(4096)
    for body in bodies:
        total.fold(body)
    assert total.to_bytes() == pack(seal.ciphertext_residues(terms[0]), parameters).tobytes()


def test_a_sum_is_restored(house: House) -> None:
    vector = np.arange(5000)
    first, second = house.total(5000), house.total(5000)
    first.fold(house.encrypt(vector))
    second.restore(first.to_bytes(), count=1)
    second.fold(house.encrypt(vector))
    assert second.count == 2
    assert np.array_equal(house.decrypt(second.to_bytes(), length=5000, clients=2), 2 * vector)


def test_an_empty_sum_has_no_bytes(house: House) -> None:
    with pytest.raises(Refused, match="nothing was added"):
        house.total(1).to_bytes()


def put(position: int, content: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body[:position] + content + body[position + len(content) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"",
        lambda body: body[:-1],
        lambda body: body + b"\0",
        lambda body: body[: len(body) // 2],
        lambda body: body * 2,
        put(0, b"\xff" * 15),
        put(28672 - 14, b"\xff" * 15),
    ],
)
def test_hostile_bytes_change_nothing(house: House, damage: Callable[[bytes], bytes]) -> None:
    vector = np.arange(8192)
    total = house.total(8192)
    total.fold(house.encrypt(vector))
    before = total.to_bytes()
    with pytest.raises(Malformed):
        total.fold(damage(house.encrypt(vector)))
    # The damage may be in the last record only: nothing of the first was added either.
    last = house.encrypt(vector)
    start = house.parameters.record_bytes("symmetric")
    with pytest.raises(Malformed):
        total.fold(last[:start] + damage(last[start:]))
    assert total.count == 1
    assert total.to_bytes() == before


def test_random_bytes_never_crash(house: House) -> None:
    rng = np.random.default_rng(3)
    vector = np.arange(4096)
    for _ in range(40):
        body = bytearray(house.encrypt(vector))
        for position in rng.integers(0, len(body), 3):
            body[position] ^= 1 << int(rng.integers(8))
        total = house.total(4096)
        total.fold(bytes(body))
        # In transform form, a flipped bit is noise in every slot.
        with pytest.raises(Malformed, match="honest"):
            house.decrypt(total.to_bytes(), length=4096, clients=1)


def test_a_transparent_sum_is_malformed(house: House) -> None:
    total = house.total(4096)
    total.fold(house.encrypt(np.arange(4096)))
    half = house.parameters.polynomial_bytes
    body = total.to_bytes()[:half] + bytes(half)
    with pytest.raises(Malformed, match="transparent"):
        house.total(4096).restore(body, count=1)
    with pytest.raises(Malformed, match="transparent"):
        house.decrypt(body, length=4096, clients=1)


def test_a_repeated_seed_is_malformed(house: House) -> None:
    record = house.encrypt(np.arange(4096))
    with pytest.raises(Malformed, match="same seed"):
        house.total(8192).fold(record * 2)


@pytest.mark.parametrize("probe", ["scale", "one", "half"])
def test_a_probe_for_the_secret_key_is_not_answered(house: House, probe: str) -> None:
    """(0, Delta) decrypts to s itself; anything that yields more than zeros is refused (C5)."""
    parameters, seal = house.parameters, open_seal(house.parameters)
    residues = np.zeros((2, 4096), np.uint64)
    residues[1] = {"scale": 2**parameters.scale_bits, "one": 1, "half": parameters.modulus // 2}[probe]
    body = pack(residues, parameters).tobytes()
    slots = seal.decrypt(seal.ciphertext(residues, scale=parameters.scale), house.secret.to_seal())
    if probe == "one":
        assert np.abs(slots).max() < 0.01
        assert not house.decrypt(body, length=4096, clients=1).any()
    else:
        assert np.abs(slots).max() > 1
        with pytest.raises(Malformed, match="not a sum of 1 honest"):
            house.decrypt(body, length=4096, clients=1)


def test_a_sum_with_something_in_the_padding_is_refused(house: House) -> None:
    body = house.encrypt(np.arange(4096))
    total = house.total(4096)
    total.fold(body)
    with pytest.raises(Malformed, match="honest"):
        house.decrypt(total.to_bytes(), length=4000, clients=1)


def test_a_sum_over_the_ring_is_refused(house: House) -> None:
    total = house.total(10)
    for _ in range(2):
        total.fold(house.encrypt(np.full(10, 2**30)))
    with pytest.raises(Malformed, match="honest"):
        house.decrypt(total.to_bytes(), length=10, clients=2)


def test_the_wrong_key_opens_nothing(house: House) -> None:
    total = house.total(10)
    total.fold(house.encrypt(np.arange(10)))
    other = generate(house.parameters)
    with pytest.raises(Malformed, match="honest"):
        Decryptor(other).decrypt(total.to_bytes(), length=10, clients=1)


def test_more_clients_than_exact_are_refused_before_decrypting(house: House) -> None:
    with pytest.raises(Refused, match="exactly"):
        house.decrypt(b"", length=1, clients=100_000)


@pytest.mark.parametrize(
    "values",
    [
        np.array([2**30 + 1]),
        np.array([-(2**30) - 1]),
        np.array([-(2**31)], np.int32),
        np.array([np.iinfo(np.int64).min]),
        np.array([1.0]),
        np.array([], np.int64),
        np.zeros((2, 2), np.int64),
        np.array([1], np.uint32),
    ],
    ids=str,
)
def test_values_that_cannot_be_encrypted(house: House, values: NDArray[np.signedinteger]) -> None:
    with pytest.raises(InvalidUpdate):
        house.encryptor.encrypt(values)
