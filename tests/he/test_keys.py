"""C1: where a secret key can and cannot go; what a key from a peer must be."""

import copy
import pickle

import numpy as np
import pytest

from he.ckks.slots.embedding import to_coefficients
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import SecretKey, generate
from he.ckks.slots.parameters import COMPACT, PRESETS, WIDE, Parameters
from he.ckks.slots.seal import open_seal
from he.residues import Malformed, pack

BOTH = pytest.mark.parametrize("parameters", PRESETS.values(), ids=lambda p: p.name)


@BOTH
def test_keys_travel(parameters: Parameters) -> None:
    secret = generate(parameters)
    exported = secret.local().for_state()
    assert len(exported) == parameters.secret_key_bytes
    assert SecretKey.load_for_client(exported, parameters).local().for_state() == exported


def test_a_generated_key_is_ternary_and_fresh() -> None:
    seal = open_seal(COMPACT)
    secret = generate(COMPACT)
    slots = seal.slots_of(seal.plaintext(secret._residues, scale=1.0))
    counts = np.unique(np.rint(to_coefficients(slots)), return_counts=True)
    assert counts[0].tolist() == [-1, 0, 1]
    assert min(counts[1]) > 1365 - 200
    assert generate(COMPACT).local().for_state() != secret.local().for_state()


def test_a_secret_key_neither_prints_nor_pickles() -> None:
    secret = generate(COMPACT)
    assert repr(secret) == str(secret) == "<SecretKey n4096-q56, not shown>"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leave(secret)
    assert not hasattr(secret, "__dict__")
    assert not hasattr(secret, "to_bytes")


def test_no_ciphertext_contains_the_secret_key() -> None:
    secret = generate(COMPACT)
    outputs = b"".join(SeededEncryptor(secret).encrypt(np.arange(5)))
    exported = secret.local().for_state()
    # 7 bytes collide by chance once in 2^56 positions.
    assert not any(exported[i : i + 14] in outputs for i in range(0, len(exported), 14))


def test_key_of_other_parameters_is_malformed() -> None:
    secret = generate(COMPACT)
    with pytest.raises(Malformed):
        SecretKey.load_for_client(secret.local().for_state(), WIDE)


def test_secret_key_of_a_peer_must_be_ternary() -> None:
    body = generate(COMPACT).local().for_state()
    rng = np.random.default_rng(0)
    uniform = pack(rng.integers(0, COMPACT.modulus, 4096, np.uint64), COMPACT).tobytes()
    constant_two = pack(np.full(4096, 2, np.uint64), COMPACT).tobytes()
    flipped = bytes([body[0] ^ 1]) + body[1:]
    for bad in (uniform, constant_two, flipped, bytes(len(body)), body[:-1], body + b"\0"):
        with pytest.raises(Malformed):
            SecretKey.load_for_client(bad, COMPACT)
