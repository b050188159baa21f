"""The key-recovery attack of Li and Micciancio (2021, IND-CPA-D), carried out, and what stops it.

A decryption to full precision is c0 + c1 s itself, errors included. So whoever has the ciphertext and one published
full-precision result solves one linear equation for s: s = (result - c0) / c1, point by point in transform form.
"""

import numpy as np
import pytest

from he.ckks.flooded.cipher import CoefficientSum, RingDecryptor, RingEncryptor, flooded, generate_pair
from he.ckks.flooded.flooding import flooding
from he.ckks.flooded.rings import NARROW, add_into, whole
from he.ckks.flooded.seal import open_ring
from he.ckks.flooded.wire import unpack_sum
from he.ckks.slots.embedding import to_coefficients
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import generate
from he.ckks.slots.parameters import COMPACT
from he.ckks.slots.seal import open_seal
from he.residues import Residues
from he.sums import SeededSum, sum_residues
from tests.he.test_flooding import phase_of

CLIENTS = 3


def solve(result: Residues, first: Residues, second: Residues, prime: int) -> Residues:
    """(result - first) / second modulo a prime, point by point."""
    rows = zip(result.tolist(), first.tolist(), second.tolist(), strict=True)
    return np.array([(a - b) * pow(c, -1, prime) % prime for a, b, c in rows], np.uint64)


def test_one_full_precision_aggregate_gives_away_the_whole_key_and_a_rounded_one_does_not() -> None:
    """TenSEAL's decryption as it is: 4096 of 4096 coefficients of the secret key, from one published float64 sum."""
    seal = open_seal(COMPACT)
    secret = generate(COMPACT)
    vectors = np.random.default_rng(0).integers(-(2**20), 2**20, (CLIENTS, COMPACT.degree))
    total = SeededSum(COMPACT, COMPACT.degree)
    for vector in vectors:
        total.fold(b"".join(SeededEncryptor(secret).encrypt(vector)))
    both = sum_residues(total.to_bytes(), COMPACT, length=COMPACT.degree)[0]
    published = seal.decrypt(seal.ciphertext(both, scale=COMPACT.scale), secret.to_seal())

    def attack(slots: np.ndarray) -> Residues:
        # Encoding is rounding the inverse embedding: from full precision it gives the very plaintext, errors and all.
        encoded = seal.encode(slots.tolist(), COMPACT.scale)
        return solve(seal.secret_residues(encoded), both[0], both[1], COMPACT.modulus)

    found = attack(published)
    assert np.array_equal(found, secret._residues)
    coefficients = np.rint(to_coefficients(seal.slots_of(seal.plaintext(found, scale=1.0)))).astype(int)
    assert np.unique(coefficients).tolist() == [-1, 0, 1]
    assert coefficients.size == 4096

    rounded = attack(np.rint(published.real) + 1j * np.rint(published.imag))
    assert not (rounded == secret._residues).any()


class Target:
    """A key holder's key, a sum of three clients as the server has it, and transforms for the attacker."""

    def __init__(self) -> None:
        self.seal = open_ring(NARROW)
        self.secret, public = generate_pair(NARROW)
        rng = np.random.default_rng(1)
        self.values = rng.integers(-(2**28), 2**28, (CLIENTS, NARROW.degree))
        total = CoefficientSum(NARROW, NARROW.degree)
        for vector in self.values:
            total.fold(b"".join(RingEncryptor(public).encrypt(vector)))
        self.body = total.to_bytes()
        self.rows = np.frombuffer(self.body, np.uint8)[None]
        (self.both,) = unpack_sum(self.rows, NARROW)
        # The server has the sum whole, and knows what it left out of what the holder opens.
        low_and_high, second = total._filled()[0]
        self.whole = np.stack((whole(*low_and_high, NARROW), second))
        self.left_out = self.whole[0] + np.array(NARROW.primes, np.uint64)[:, None] - self.both[0]
        self.noise = flooding(NARROW, clients=CLIENTS, length=NARROW.degree, rounds=500, bits=40)

    def flooded(self) -> Residues:
        """All bits of the flooded coefficients, shape (2, N), as the worker has them before it rounds."""
        keys = np.frombuffer(RingDecryptor(self.secret, self.noise)._noise_keys(), np.uint8)[None]
        return flooded(self.rows, self.secret, self.noise.sigma_float, keys=keys)[0]

    def transform(self, polynomial: Residues) -> Residues:
        return self.seal.residues(self.seal.transformed(np.stack((polynomial, polynomial))))[0].copy()

    def attack(self, result: Residues) -> Residues:
        """The key modulo both data primes, in transform form, from a result of shape (2, N) in coefficients."""
        parts = [self.transform(polynomial) for polynomial in (result, *self.both)]
        return np.array([solve(*(part[i] for part in parts), prime) for i, prime in enumerate(NARROW.primes)])

    def hits(self, result: Residues) -> int:
        """At how many of the 2 N points the attack is right."""
        return int(np.count_nonzero(self.attack(result) == self.secret._residues[:2]))


@pytest.fixture(scope="module")
def target() -> Target:
    return Target()


def test_without_noise_the_attack_works_on_this_mode_as_well(target: Target) -> None:
    phase = phase_of(target.secret, target.both, NARROW)
    assert target.hits(phase) == 2 * NARROW.degree


def test_on_the_flooded_coefficients_themselves_it_fails(target: Target) -> None:
    """More than is ever released: all bits of every flooded coefficient, before any rounding."""
    assert target.hits(target.flooded()) <= 2


def test_on_the_released_sum_it_fails(target: Target) -> None:
    released = RingDecryptor(target.secret, target.noise).decrypt(target.body, length=NARROW.degree, clients=CLIENTS)
    assert np.array_equal(released, target.values.sum(axis=0))
    result = np.zeros((2, NARROW.degree), np.uint64)
    result[1] = [int(value) * NARROW.delta % NARROW.primes[1] for value in released]
    assert target.hits(result) <= 2


def test_the_errors_that_the_attack_needs_are_drowned(target: Target) -> None:
    """Who knows the sum reads the errors off an unflooded result; off a flooded one, 2^20 times as much noise."""

    def residual(result: Residues) -> float:
        prime = NARROW.primes[0]  # Delta is a multiple of it: modulo p there is error and noise alone
        words = result[0].astype(np.int64)
        words[words > prime // 2] -= prime
        return float(np.median(np.abs(words)))

    phase = target.flooded()
    add_into(phase, target.left_out % np.array(NARROW.primes, np.uint64)[:, None], NARROW)
    assert residual(phase_of(target.secret, target.whole, NARROW)) < target.noise.bound
    assert residual(phase) > target.noise.bound * 2**20
