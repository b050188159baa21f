"""C9: the bound holds, is not vacuous, and what it does not allow is refused."""

import numpy as np
import pytest

from he.decryption import Decryptor
from he.encryption import Encryptor, PublicEncryptor, SeededEncryptor
from he.keys import generate
from he.noise import exact_clients, narrowest, require_exact, slot_error
from he.parameters import COMPACT, PRESETS, WIDE, KeyMode, Parameters
from he.seal import open_seal
from he.sums import CiphertextSum, PublicSum, SeededSum, sum_residues
from secagg.errors import Refused

MODES: tuple[KeyMode, ...] = ("public", "symmetric")


@pytest.mark.parametrize("parameters", PRESETS.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("mode", MODES)
def test_limit_is_where_the_bound_reaches_one_half(parameters: Parameters, mode: KeyMode) -> None:
    limit = exact_clients(parameters, mode)
    assert slot_error(parameters, mode, clients=limit) < 0.5 <= slot_error(parameters, mode, clients=limit + 1)
    require_exact(parameters, mode, clients=limit)
    with pytest.raises(Refused, match=f"sums {limit} clients exactly"):
        require_exact(parameters, mode, clients=limit + 1)


def test_the_limits_that_the_documentation_states() -> None:
    assert [exact_clients(p, m) for p in (COMPACT, WIDE) for m in MODES] == [135, 2818, 16130, 45734]


def test_narrowest_preset_and_the_advice_to_take_it() -> None:
    assert narrowest("public", clients=100) is COMPACT
    assert narrowest("public", clients=1000) is WIDE
    with pytest.raises(Refused, match="n4096-q60 would do"):
        require_exact(COMPACT, "public", clients=1000)
    with pytest.raises(Refused, match="no CKKS preset"):
        narrowest("public", clients=1 << 20)
    for clients in (0, -1, (1 << 20) + 1):
        with pytest.raises(Refused):
            slot_error(COMPACT, "public", clients=clients)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clients", [1, 16])
def test_observed_error_is_within_the_bound_and_near_its_standard_deviation(mode: KeyMode, clients: int) -> None:
    secret, public = generate(COMPACT)
    encryptor: Encryptor = PublicEncryptor(public) if mode == "public" else SeededEncryptor(secret)
    total: CiphertextSum = (
        PublicSum(COMPACT, 40960) if mode == "public" else SeededSum(COMPACT, 40960, open_seal(COMPACT))
    )
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
    # Coefficients err by uniform rounding, and by e, or by u e_pk + e0 + s e1 with 4096 terms each of variance 7.
    coefficient = 1 / 12 + 10.5 + (2 * 4096 * 10.5 * 2 / 3 if mode == "public" else 0)
    expected = np.sqrt(clients * coefficient * 2048) / COMPACT.scale
    assert np.abs(error).max() < slot_error(COMPACT, mode, clients=clients)
    assert 0.85 < error.std() / expected < 1.15
    assert np.array_equal(Decryptor(secret, mode).decrypt(total.to_bytes(), length=40960, clients=clients), truth)
