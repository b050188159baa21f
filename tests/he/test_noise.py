"""C9: the bound holds, is not vacuous, and what it does not allow is refused."""

import numpy as np
import pytest

from he.ckks.slots.decryption import Decryptor
from he.ckks.slots.encryption import SeededEncryptor
from he.ckks.slots.keys import generate
from he.ckks.slots.noise import exact_clients, require_exact, slot_error
from he.ckks.slots.parameters import COMPACT, PRESETS, WIDE, Parameters
from he.ckks.slots.seal import open_seal
from he.sums import SeededSum, sum_residues
from secagg.errors import Refused


@pytest.mark.parametrize("parameters", PRESETS.values(), ids=lambda p: p.name)
def test_limit_is_where_the_bound_reaches_one_half(parameters: Parameters) -> None:
    limit = exact_clients(parameters)
    assert slot_error(parameters, clients=limit) < 0.5 <= slot_error(parameters, clients=limit + 1)
    require_exact(parameters, clients=limit)
    with pytest.raises(Refused, match=f"sums {limit} clients exactly"):
        require_exact(parameters, clients=limit + 1)


def test_the_limits_that_the_documentation_states() -> None:
    assert [exact_clients(p) for p in (COMPACT, WIDE)] == [2818, 45734]


def test_too_many_clients_are_refused_with_the_preset_that_would_do() -> None:
    with pytest.raises(Refused, match="n4096-q60 would do"):
        require_exact(COMPACT, clients=10_000)
    for clients in (0, -1, (1 << 20) + 1):
        with pytest.raises(Refused):
            slot_error(COMPACT, clients=clients)


@pytest.mark.parametrize("clients", [1, 16])
def test_observed_error_is_within_the_bound_and_near_its_standard_deviation(clients: int) -> None:
    secret = generate(COMPACT)
    encryptor = SeededEncryptor(secret)
    total = SeededSum(COMPACT, 40960)
    rng = np.random.default_rng(clients)
    truth = np.zeros(40960, np.int64)
    for _ in range(clients):
        values = rng.integers(-(2**31) // clients // 2, 2**31 // clients // 2, 40960)
        truth += values
        total.fold(b"".join(encryptor.encrypt(values)))
    seal = open_seal(COMPACT)
    residues = sum_residues(total.to_bytes(), COMPACT, length=40960)
    opened = [seal.decrypt(seal.ciphertext(both, scale=COMPACT.scale), secret.to_seal()) for both in residues]
    slots = np.array([np.concatenate((s.real, s.imag)) for s in opened]).reshape(-1)
    error = slots - truth
    # Coefficients err by uniform rounding, and by e.
    coefficient = 1 / 12 + 10.5
    expected = np.sqrt(clients * coefficient * 2048) / COMPACT.scale
    assert np.abs(error).max() < slot_error(COMPACT, clients=clients)
    assert 0.85 < error.std() / expected < 1.15
    assert np.array_equal(Decryptor(secret).decrypt(total.to_bytes(), length=40960, clients=clients), truth)
