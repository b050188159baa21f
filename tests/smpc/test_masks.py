"""Mask streams: known answers, a slow twin, seams between chunks, and masks that share nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg.errors import Refused
from secagg.sealing import derive
from smpc.masks import CHUNK_BYTES, SUITES, MaskStream

SEED = bytes(range(32))
CONTEXT = (b"spec", b"client", b"aggregator")
# The first 16 bytes of each suite's mask for SEED and CONTEXT: a change of derivation or cipher shows here.
KNOWN = {
    "chacha20": "909ccf17fdc2ea9ab430a376a3546477",
    "aes128ctr": "2258cd0cff6e812b9735e56e58198847",
    "aes256ctr": "c761915300ae60fdf2ef4cf35e8c5a49",
}


def mask(suite: str, count: int, dtype: Any = np.uint32, *, seed: bytes = SEED) -> NDArray[Any]:
    vector = np.zeros(count, dtype)
    MaskStream(seed, suite=suite, context=CONTEXT).add_to(vector)
    return vector


def slow_mask(suite: str, count: int, itemsize: int) -> list[int]:
    """The module's first sentence: the keystream in one piece, read as little-endian integers."""
    key = derive(SEED, f"mask/{suite}", *CONTEXT)
    cipher = (
        Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None)
        if suite == "chacha20"
        else Cipher(algorithms.AES(key[: 16 if suite == "aes128ctr" else 32]), modes.CTR(bytes(16)))
    )
    stream = cipher.encryptor().update(bytes(count * itemsize))
    return [int.from_bytes(stream[at : at + itemsize], "little") for at in range(0, len(stream), itemsize)]


@pytest.mark.parametrize("suite", SUITES)
def test_m10_known_answers(suite: str) -> None:
    assert mask(suite, 4).tobytes().hex() == KNOWN[suite]


def test_m10_the_cipher_is_chacha20_of_rfc_8439() -> None:
    """RFC 8439, 2.4.2: the stream under that key, counter and nonce, taken from the vector's plain and cipher text."""
    key = bytes(range(32))
    nonce = (1).to_bytes(4, "little") + bytes.fromhex("000000000000004a00000000")
    stream = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor().update(bytes(16))
    text, sealed = b"Ladies and Gentl", bytes.fromhex("6e2e359a2568f98041ba0728dd0d6981")
    assert stream == bytes(a ^ b for a, b in zip(text, sealed, strict=True))


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("suite", SUITES)
def test_a_mask_equals_its_slow_twin_across_chunks(suite: str, dtype: Any) -> None:
    itemsize = np.dtype(dtype).itemsize
    per_chunk = CHUNK_BYTES // itemsize
    for count in (0, 1, 3, per_chunk - 1, per_chunk, per_chunk + 1, 2 * per_chunk + 5):
        assert mask(suite, count, dtype).tolist() == slow_mask(suite, count, itemsize)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50), st.sampled_from(SUITES))
def test_subtracting_undoes_adding(values: list[int], suite: str) -> None:
    vector = np.array(values, np.uint32)
    stream = MaskStream(SEED, suite=suite, context=CONTEXT)
    stream.add_to(vector)
    stream.subtract_from(vector)
    assert vector.tolist() == values


def test_m10_seeds_suites_and_contexts_that_differ_give_masks_that_differ() -> None:
    masks = [mask(suite, 64) for suite in SUITES]
    masks += [mask("chacha20", 64, seed=bytes([bit]) + SEED[1:]) for bit in range(1, 9)]
    for other in ((b"spec!", *CONTEXT[1:]), (CONTEXT[0], b"clien", b"taggregator"), CONTEXT[::-1]):
        vector = np.zeros(64, np.uint32)
        MaskStream(SEED, suite="chacha20", context=other).add_to(vector)
        masks.append(vector)
    for place, one in enumerate(masks):
        for another in masks[:place]:
            assert np.count_nonzero(one == another) <= 1


@pytest.mark.parametrize("suite", SUITES)
def test_m15_masked_values_are_uniform_the_top_value_included(suite: str) -> None:
    masked = np.full(1 << 18, 2**32 - 1, np.uint32)
    MaskStream(SEED, suite=suite, context=CONTEXT).add_to(masked)
    for shift in (0, 8, 16, 24):
        counts = np.bincount((masked >> shift) & 255, minlength=256)
        expected = masked.size / 256
        assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees: 1e-8


def test_an_unknown_suite_and_a_short_seed_are_refused() -> None:
    with pytest.raises(Refused, match="did you mean 'chacha20'"):
        MaskStream(SEED, suite="chacha", context=CONTEXT)
    with pytest.raises(Refused, match="31 bytes, expected 32"):
        MaskStream(SEED[:-1], suite="chacha20", context=CONTEXT)
