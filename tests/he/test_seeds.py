"""Expanding seeds without SEAL: SEAL's own expansion as the twin, and a known answer for when both are gone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from he import seeds, workers
from he.bfv.parameters import BFV_PRESETS
from he.bfv.seal import open_bfv_seal
from he.ckks.slots.parameters import PRESETS
from he.ckks.slots.seal import open_seal
from he.residues import Residues
from he.seeds import expand, expand_all, require_agreement
from secagg.errors import Refused

SEALS = [*map(open_seal, PRESETS.values()), *map(open_bfv_seal, BFV_PRESETS.values())]
KNOWN = "665d851ea861fc2dd559e65cb3de4d2a4e6e59a69841050c5d6ebd436688d57d"
EVERY = pytest.mark.parametrize("seal", SEALS, ids=lambda seal: seal.parameters.name)


def of_seal(seal: Any, seed: bytes) -> Residues:
    first = np.zeros(len(seal.parameters.primes) * seal.parameters.degree, np.uint64)
    item = seal.seeded_ciphertext(first, np.frombuffer(seed, np.uint8))
    second: Residues = seal.ciphertext_residues(item)[1]
    return second


@EVERY
def test_the_polynomial_of_a_seed_is_the_one_that_seal_makes(seal: Any) -> None:
    parameters = seal.parameters
    rng = np.random.default_rng(0)
    for _ in range(50):
        seed = rng.bytes(64)
        assert np.array_equal(expand(seed, parameters.primes, parameters.degree), of_seal(seal, seed))
    require_agreement(seal)


def test_words_from_the_incomplete_run_are_drawn_again() -> None:
    """With a prime just over 2^63 half of all words are; by the rule, in order, each from what follows the block."""
    prime, degree = 2**63 + 29, 1024
    stream = seeds._Stream(bytes(range(64)))
    words = [int(word) for word in stream.words(8 * degree)]
    expected, following = words[:degree], iter(words[degree:])
    for place, word in enumerate(expected):
        while word >= prime:
            word = next(following)
        expected[place] = word % prime
    assert expand(bytes(range(64)), (prime,), degree).tolist() == expected


def test_a_known_answer() -> None:
    """A server of another day must make the same of a seed: clients' ciphertexts rest on it."""
    parameters = PRESETS["n4096-q56"]
    words = expand(bytes(range(64)), parameters.primes, parameters.degree)
    assert hashlib.sha256(words.astype("<u8").tobytes()).hexdigest() == KNOWN


@pytest.mark.parametrize("count", [0, 1, 2])
def test_many_seeds_are_expanded_in_order(count: int) -> None:
    workers.use(count)
    drawn = np.random.default_rng(1).integers(0, 256, (40, 64), np.uint8)
    parameters = PRESETS["n4096-q60"]
    found = expand_all(drawn, parameters.primes, parameters.degree)
    workers.use(None)
    for seed, words in zip(drawn, found, strict=True):
        assert np.array_equal(words, expand(seed.tobytes(), parameters.primes, parameters.degree))


def test_a_seal_that_expands_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_agreement.cache_clear()
    monkeypatch.setattr(seeds, "expand", lambda seed, primes, degree: np.zeros(len(primes) * degree, np.uint64))
    with pytest.raises(Refused, match="other polynomials"):
        require_agreement(open_seal(PRESETS["n4096-q56"]))
    require_agreement.cache_clear()


def test_a_seed_has_64_bytes() -> None:
    with pytest.raises(Refused, match="63 bytes, expected 64"):
        expand(bytes(63), (97,), 8)
