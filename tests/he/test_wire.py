"""What travels of a ciphertext of the key-holder mode, each form against integers of any size, and hostile bytes."""

import itertools

import numpy as np
import pytest

from he.ckks.flooded import wire
from he.ckks.flooded.rings import NARROW, RINGS, ROOMY, RingParameters
from he.residues import Malformed, Residues
from tests.he.test_flooding import centred

BOTH = pytest.mark.parametrize("parameters", RINGS.values(), ids=lambda p: p.name)
FORMS = {
    "fresh": (wire.fresh_fields, wire.pack_fresh, wire.unpack_fresh, wire.fresh_error),
    "sum": (wire.sum_fields, wire.pack_sum, wire.unpack_sum, wire.sum_error),
    "kept": (wire.kept_fields, wire.pack_kept, wire.unpack_kept, lambda _: 0),
}


def some_ciphertext(parameters: RingParameters, seed: int = 0) -> Residues:
    """Uniform residues, the largest and the smallest of c0 among them."""
    primes = np.array(parameters.primes)[:, None]
    both = np.random.default_rng(seed).integers(0, primes, (2, 2, parameters.degree)).astype(np.uint64)
    both[0, :, 0], both[0, :, 1] = primes[:, 0] - 1, 0
    return both


@BOTH
@pytest.mark.parametrize("form", FORMS)
def test_a_ciphertext_comes_back_within_the_error_that_is_counted(parameters: RingParameters, form: str) -> None:
    fields, pack, unpack, error = FORMS[form]
    both = some_ciphertext(parameters)
    record = np.frombuffer(pack(both, parameters), np.uint8)[None]
    assert record.size == wire.record_bytes(fields(parameters), parameters.degree)
    (back,) = unpack(record, parameters)
    assert np.array_equal(back[1], both[1])  # of what the secret key multiplies, every bit
    whole = parameters.primes[0] * parameters.primes[1]
    pairs = zip(centred(back[0], parameters), centred(both[0], parameters), strict=True)
    errors = [min((a - b) % whole, (b - a) % whole) for a, b in pairs]
    assert max(errors) <= error(parameters)
    assert max(errors) >= error(parameters) // 2


def test_bytes_a_coefficient() -> None:
    by_form = {name: [sum(form[0](ring)) / 8 for ring in (NARROW, ROOMY)] for name, form in FORMS.items()}
    assert by_form == {"fresh": [21, 22.5], "sum": [15.5, 16.5], "kept": [22, 24]}


@BOTH
def test_the_layout_of_a_record_written_out_slowly(parameters: RingParameters) -> None:
    both = some_ciphertext(parameters)
    p, r = parameters.primes
    inverse = pow(p, -1, r)
    highs = [(high - low) * inverse % r >> wire.SUM_DROP for low, high in both[0].T.tolist()]
    slowly = b"".join((word & 0xFFFFFFFF).to_bytes(4, "little") for word in highs)
    slowly += bytes(a >> 32 | b >> 32 << 4 for a, b in zip(highs[0::2], highs[1::2], strict=True))
    for words, prime in zip(both[1].tolist(), parameters.primes, strict=True):
        slowly += b"".join((word & 0xFFFFFFFF).to_bytes(4, "little") for word in words)
        slowly += b"".join((word >> 32).to_bytes(prime.bit_length() // 8 - 4, "little") for word in words)
    assert wire.pack_sum(both, parameters) == slowly


@BOTH
@pytest.mark.parametrize("form", FORMS)
def test_a_field_over_its_modulus_and_a_zero_polynomial_are_malformed(parameters: RingParameters, form: str) -> None:
    fields, pack, unpack, _ = FORMS[form]
    record = pack(some_ciphertext(parameters), parameters)
    starts = np.cumsum([0, *(bits * parameters.degree // 8 for bits in fields(parameters))]).tolist()
    for start, end in itertools.pairwise(starts):
        over = record[:start] + b"\xff" * (end - start) + record[end:]
        with pytest.raises(Malformed, match="not below the modulus"):
            unpack(np.frombuffer(over, np.uint8)[None], parameters)
    for start, end in zip(starts[-3:-1], starts[-2:], strict=True):
        transparent = record[:start] + bytes(end - start) + record[end:]
        with pytest.raises(Malformed, match="transparent"):
            unpack(np.frombuffer(transparent, np.uint8)[None], parameters)
