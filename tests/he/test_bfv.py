"""BFV sums: exact at the edges of the digits and of the noise, slow twins of the arithmetic, and hostile bytes."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from he.bfv.decryption import BfvDecryptor, open_levels
from he.bfv.digits import DigitEncoder
from he.bfv.encryption import BfvEncryptor
from he.bfv.keys import BfvPublicKey, BfvSecretKey, generate_bfv
from he.bfv.parameters import BFV_PRESETS, COMPACT, ENCODING_ROUNDING, WIDE, BfvParameters, require_no_failure
from he.bfv.scheme import BfvScheme
from he.bfv.seal import open_bfv_seal
from he.residues import Malformed, add_into, pack, unpack
from he.security import KeyMode
from secagg.errors import InvalidUpdate, Refused

MODES: tuple[KeyMode, ...] = ("public", "symmetric")
PRESETS = pytest.mark.parametrize("parameters", BFV_PRESETS.values(), ids=lambda p: p.name)


class House:
    """One key pair, used in one key mode."""

    def __init__(self, parameters: BfvParameters, mode: KeyMode) -> None:
        self.parameters, self.mode = parameters, mode
        self.scheme = BfvScheme(parameters, mode)
        self.secret, self.public = self.scheme.generate()
        self.key = self.public.to_bytes() if mode == "public" else self.secret.local().for_state()

    def encrypt(self, values: NDArray[np.signedinteger], clients: int) -> bytes:
        return b"".join(self.scheme.encryptor(self.key, clients=clients).encrypt(values))

    def decrypt(self, body: bytes, *, length: int, clients: int) -> NDArray[np.int64]:
        key = BfvSecretKey.load_for_client(self.secret.local().for_state(), self.scheme.parameters)
        return BfvDecryptor(key, self.scheme.key_mode).decrypt(body, length=length, clients=clients)

    def total(self, bodies: list[bytes], length: int) -> bytes:
        total = self.scheme.empty_sum(length)
        for body in bodies:
            total.fold(body)
        return total.to_bytes()


@pytest.fixture(
    scope="module",
    params=[(parameters, mode) for parameters in BFV_PRESETS.values() for mode in MODES],
    ids=lambda p: f"{p[0].name}-{p[1]}",
)
def house(request: pytest.FixtureRequest) -> House:
    return House(*request.param)


def edge(parameters: BfvParameters, clients: int) -> int:
    return int((2 ** (parameters.digit_bits - 1) - 1) // clients)


@pytest.mark.parametrize("length", [1, 8191, 8192, 8193, 32_767, 32_768, 32_769, 70_001])
def test_three_clients_at_odd_lengths(house: House, length: int) -> None:
    limit = edge(house.parameters, 3)
    vectors = np.random.default_rng(length).integers(-limit, limit, (3, length), endpoint=True)
    bodies = [house.encrypt(vector, 3) for vector in vectors]
    assert {len(body) for body in bodies} == {house.scheme.fresh_bytes(length)}
    body = house.total(bodies, length)
    assert len(body) == house.scheme.sum_bytes(length)
    opened = house.decrypt(body, length=length, clients=3)
    assert opened.dtype == np.int64
    assert np.array_equal(opened, vectors.sum(axis=0))


@pytest.mark.parametrize("pattern", ["maximum", "minimum", "alternating", "random"])
@pytest.mark.parametrize("clients", [1, 7])
def test_no_sum_borrows_from_the_digit_beside_it(house: House, clients: int, pattern: str) -> None:
    limit, size = edge(house.parameters, clients), house.parameters.record_integers
    vector = {
        "maximum": np.full(size, limit),
        "minimum": np.full(size, -limit),
        "alternating": np.where(np.arange(size) // house.parameters.degree % 2, limit, -limit),
        "random": np.random.default_rng(1).choice([-limit, limit], size),
    }[pattern]
    body = house.total([house.encrypt(vector, clients) for _ in range(clients)], size)
    assert np.array_equal(house.decrypt(body, length=size, clients=clients), clients * vector)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_cohort_at_the_edge_with_all_noise_of_one_sign(house: House, sign: int) -> None:
    """One ciphertext C times over: no real cohort's noise is as correlated as that."""
    parameters = house.parameters
    clients, size = parameters.max_clients(house.mode), parameters.record_integers
    vector = np.full(size, sign * edge(parameters, clients))
    first = house.total([house.encrypt(vector, clients)], size)
    once = unpack(np.frombuffer(first, np.uint8).reshape(2, -1), parameters)
    total = np.zeros_like(once)
    for bit in f"{clients:b}":
        add_into(total, total.copy(), parameters)
        if bit == "1":
            add_into(total, once, parameters)
    opened = house.decrypt(pack(total, parameters).tobytes(), length=size, clients=clients)
    assert np.array_equal(opened, clients * vector)


@PRESETS
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_inequality_is_where_decryption_begins_to_fail(parameters: BfvParameters, mode: KeyMode, sign: int) -> None:
    """Noise made by hand: at the bound of the largest cohort all is right, at twice that everything is wrong."""
    secret, _ = generate_bfv(parameters)
    decryptor = open_bfv_seal(parameters).decryptor(secret.to_seal())
    limit = 2 ** (parameters.digit_bits - 1) - 1
    digits = np.random.default_rng(3).choice([-limit, limit, 0, 1, -1], (parameters.digits, parameters.degree))
    digits[:, :2] = [[limit, -limit]] * parameters.digits
    bound = parameters.max_clients(mode) * (parameters.noise(mode) + ENCODING_ROUNDING)
    for noise, right in ((math.floor(bound), True), (2 * (parameters.modulus // parameters.plain_modulus), False)):
        ciphertext = np.zeros((2, len(parameters.primes) * parameters.degree), np.uint64)
        ciphertext[0] = DigitEncoder(parameters).residues(digits)
        shift = [np.full(parameters.degree, sign * noise % prime, np.uint64) for prime in parameters.primes]
        add_into(ciphertext[0], np.concatenate(shift), parameters)
        out = np.empty_like(digits)
        open_levels(decryptor, ciphertext, parameters, out)
        assert np.array_equal(out, digits) is right


@PRESETS
@pytest.mark.parametrize("mode", MODES)
def test_max_clients_is_what_the_inequality_says(parameters: BfvParameters, mode: KeyMode) -> None:
    def holds(clients: int) -> bool:
        error = clients * (parameters.noise(mode) + ENCODING_ROUNDING) + parameters.levels * ENCODING_ROUNDING + 1
        return parameters.modulus > 2 * parameters.plain_modulus * error

    most = parameters.max_clients(mode)
    assert holds(most)
    assert not holds(most + 1)
    assert most == {"public": 2047, "symmetric": 390_167}[mode]
    assert parameters.noise("symmetric") == 21
    assert 4096 < parameters.noise("public") < 4097


def test_more_clients_than_the_inequality_allows_are_refused() -> None:
    secret, public = generate_bfv(COMPACT)
    for key, mode in ((public, "public"), (secret, "symmetric")):
        most = COMPACT.max_clients(mode)  # type: ignore[arg-type]
        BfvEncryptor(key, clients=most)  # type: ignore[arg-type]
        with pytest.raises(Refused, match=f"expected 1 to {most}"):
            BfvEncryptor(key, clients=most + 1)  # type: ignore[arg-type]
    body = bytes(COMPACT.sum_bytes(5))
    with pytest.raises(Refused, match="adds up to 2047 clients without decryption failures in public mode, 2048 asked"):
        BfvDecryptor(secret, "public").decrypt(body, length=5, clients=2048)


def test_a_refusal_names_the_preset_that_would_do() -> None:
    with pytest.raises(Refused, match=r"n8192-4x24 holds sums of 24 bits, 25 needed \(n8192-3x32 would do\)"):
        require_no_failure(COMPACT, "public", clients=5, sum_bits=25)
    with pytest.raises(Refused, match=r"n8192-3x32 holds sums of 32 bits, 33 needed$"):
        require_no_failure(WIDE, "public", clients=5, sum_bits=33)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"degree": 4096}, "128-bit security allows 106"),
        ({"special": 1073692673}, "no prime of 60 bits"),
        ({"digits": 3}, "do not fill levels"),
        ({"digit_bits": 25, "digits": 6}, "no room for noise"),
        ({"digits": 2}, "too large for SEAL's own rounding"),
    ],
)
def test_parameters_that_do_not_hold_cannot_be_made(change: dict[str, int], why: str) -> None:
    fields = {name: getattr(COMPACT, name) for name in COMPACT.__dataclass_fields__}
    with pytest.raises(Refused, match=why):
        BfvParameters(**(fields | change))


@PRESETS
def test_encoding_and_lifting_equal_their_slow_twins(parameters: BfvParameters) -> None:
    """Python integers: q M / T to within 1/2 + 2^-20 modulo q, and times 2^level_bits modulo every prime."""
    encoder = DigitEncoder(parameters)
    limit = 2 ** (parameters.digit_bits - 1)
    rng = np.random.default_rng(4)
    digits = rng.integers(-limit, limit, (parameters.digits, parameters.degree), endpoint=True)
    digits[:, :3] = [[limit, -limit, 0]] * parameters.digits
    rows = encoder.residues(digits).reshape(len(parameters.primes), -1)
    lifted = encoder.lift(rows.reshape(-1)).reshape(rows.shape)
    for place in range(0, parameters.degree, 97):
        message = sum(int(d) << (parameters.digit_bits * j) for j, d in enumerate(digits[:, place]))
        exact = Fraction(message * parameters.modulus, parameters.plain_modulus)
        offsets = set()
        for row, up, prime in zip(rows, lifted, parameters.primes, strict=True):
            value = int(row[place])
            assert value < prime
            assert int(up[place]) == (value << parameters.level_bits) % prime
            offsets.add((value - math.floor(exact)) % prime)
        (offset,) = offsets
        assert abs(math.floor(exact) + offset - exact) <= ENCODING_ROUNDING


@PRESETS
def test_split_gives_back_signed_digits(parameters: BfvParameters) -> None:
    limit = 2 ** (parameters.digit_bits - 1)
    digits = np.random.default_rng(5).integers(-limit, limit, (parameters.level_digits, parameters.degree))
    message = sum(row << (parameters.digit_bits * place) for place, row in enumerate(digits))
    wrapped = (message & (2**parameters.level_bits - 1)).astype(np.uint64)
    assert np.array_equal(DigitEncoder(parameters).split(wrapped), digits)


def test_random_rounds_are_exact(house: House) -> None:
    rng = np.random.default_rng(6)
    for _ in range(12):
        clients, length = int(rng.integers(3, 9)), int(rng.integers(1, 40_000))
        limit = edge(house.parameters, clients)
        vectors = rng.integers(-limit, limit, (clients, length), endpoint=True)
        body = house.total([house.encrypt(vector, clients) for vector in vectors], length)
        assert np.array_equal(house.decrypt(body, length=length, clients=clients), vectors.sum(axis=0))


def test_a_value_beyond_the_digit_stays_at_the_client(house: House) -> None:
    limit = edge(house.parameters, 1)
    house.encrypt(np.array([limit, -limit]), 9)
    for bad in (np.array([limit + 1]), np.array([0, -limit - 1])):
        with pytest.raises(InvalidUpdate, match="could run over"):
            house.encrypt(bad, 9)
    for shape in (np.zeros((2, 2), np.int64), np.zeros(0, np.int64), np.zeros(3)):
        with pytest.raises(InvalidUpdate, match="expected a vector of signed integers"):
            house.encrypt(shape, 9)


def test_a_sum_is_restored(house: House) -> None:
    vector, clients = np.arange(-3000, 3000), 2
    first, second = house.scheme.empty_sum(6000), house.scheme.empty_sum(6000)
    first.fold(house.encrypt(vector, clients))
    second.restore(first.to_bytes(), count=1)
    second.fold(house.encrypt(vector, clients))
    assert np.array_equal(house.decrypt(second.to_bytes(), length=6000, clients=2), 2 * vector)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda body: b"", "expected exactly"),
        (lambda body: body[:-1], "expected exactly"),
        (lambda body: body + b"\0", "expected exactly"),
        (lambda body: body * 2, "expected exactly"),
        (lambda body: b"\xff" * 15 + body[15:], "below the modulus"),
        (lambda body: body[: COMPACT.polynomial_bytes // 2] + b"\xff" * 15 + body[-(len(body) // 2) :], "."),
    ],
)
def test_malformed_ciphertexts_change_nothing(house: House, damage: Callable[[bytes], bytes], why: str) -> None:
    vector = np.arange(40_000) % 50
    good = house.encrypt(vector, 3)
    total = house.scheme.empty_sum(vector.size)
    total.fold(good)
    with pytest.raises(Malformed, match=why):
        total.fold(damage(good))
    assert total.count == 1
    assert np.array_equal(house.decrypt(total.to_bytes(), length=vector.size, clients=1), vector)


def test_transparent_ciphertexts_and_repeated_seeds_are_malformed() -> None:
    public, shared = House(COMPACT, "public"), House(COMPACT, "symmetric")
    half = COMPACT.polynomial_bytes
    body = public.encrypt(np.arange(9), 3)
    for hidden in (
        bytes(half),
        bytes(half // 2) + body[-half // 2 :],
        body[half : half + half // 2] + bytes(half // 2),
    ):
        with pytest.raises(Malformed, match="transparent"):
            public.scheme.empty_sum(9).fold(body[:half] + hidden)
        with pytest.raises(Malformed, match="transparent"):
            public.decrypt(body[:half] + hidden, length=9, clients=3)
    record = shared.encrypt(np.arange(9), 3)
    with pytest.raises(Malformed, match="two records have the same seed"):
        shared.scheme.empty_sum(COMPACT.record_integers + 1).fold(record * 2)


def test_padding_that_is_not_zero_is_no_honest_sum(house: House) -> None:
    body = house.total([house.encrypt(np.arange(10), 3)], 10)
    with pytest.raises(Malformed, match="not a sum of 3 honest ciphertexts"):
        house.decrypt(body, length=9, clients=3)


@PRESETS
def test_keys_travel(parameters: BfvParameters) -> None:
    secret, public = generate_bfv(parameters)
    assert len(public.to_bytes()) == parameters.public_key_bytes
    assert BfvPublicKey.from_bytes(public.to_bytes(), parameters).to_bytes() == public.to_bytes()
    exported = secret.local().for_state()
    assert len(exported) == parameters.secret_key_bytes
    assert BfvSecretKey.load_for_client(exported, parameters).local().for_state() == exported


def test_a_secret_key_is_uniform_ternary_fresh_and_stays_where_it_is() -> None:
    secret, public = generate_bfv(COMPACT)
    values, counts = np.unique(secret._ternary, return_counts=True)
    assert values.tolist() == [-1, 0, 1]
    assert abs(counts - 8192 / 3).max() < 6 * 43  # six standard deviations
    assert generate_bfv(COMPACT)[0].local().for_state() != secret.local().for_state()
    assert repr(secret) == str(secret) == "<BfvSecretKey n8192-4x24, not shown>"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leave(secret)
    assert not hasattr(secret, "to_bytes")
    assert not hasattr(secret, "__dict__")
    exported, outputs = secret.local().for_state(), public.to_bytes()
    for key in (public, secret):
        outputs += b"".join(BfvEncryptor(key, clients=3).encrypt(np.arange(5)))
    assert not any(exported[start : start + 16] in outputs for start in range(0, len(exported), 16))


def test_keys_from_a_peer_are_checked() -> None:
    secret, public = generate_bfv(COMPACT)
    body, half = public.to_bytes(), COMPACT.public_key_bytes // 2
    for bad in (b"", body[:-1], body + b"\0", body[:half] + bytes(half), b"\xff" * len(body)):
        with pytest.raises(Malformed):
            BfvPublicKey.from_bytes(bad, COMPACT)
    exported = secret.local().for_state()
    for bad in (b"", exported[:-1], exported + b"\0", b"\xff" + exported[1:], bytes(2048), b"\x55" * 2048):
        with pytest.raises(Malformed):
            BfvSecretKey.load_for_client(bad, COMPACT)


def test_seal_has_the_key_that_was_drawn() -> None:
    """SEAL's public key, b + a s, is small: decrypting an encryption of zero under it gives zero."""
    secret, public = generate_bfv(COMPACT)
    seal = open_bfv_seal(COMPACT)
    zero = seal.public_zero(seal.encryptor(seal.public_key(public.residues)))
    assert not seal.decrypt(seal.decryptor(secret.to_seal()), zero).any()
    other, _ = generate_bfv(COMPACT)
    assert seal.decrypt(seal.decryptor(other.to_seal()), zero).any()


@pytest.mark.parametrize("mode", MODES)
def test_records_share_no_randomness(mode: KeyMode) -> None:
    house = House(COMPACT, mode)
    values = np.zeros(2 * COMPACT.record_integers, np.int64)
    bodies = [house.encrypt(values, 3) for _ in range(2)]
    rows = np.array([np.frombuffer(body, np.uint8).reshape(2, -1) for body in bodies]).reshape(4, -1)
    words = rows[:, : COMPACT.polynomial_bytes].reshape(4, -1, 15)
    for one in range(4):
        for other in range(one):
            assert not (words[one] == words[other]).all(axis=-1).any()
            if mode == "symmetric":
                assert rows[one, -64:].tobytes() != rows[other, -64:].tobytes()
