"""The streams: known answers of the standards, slow twins from any block on, and streams that share nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import Refused
from smpc.masks import MAX_VECTOR_BYTES, SUITES, MaskStream
from smpc.masks.stream import BLOCK_BYTES
from tests.smpc.masks import twins

SEED = bytes(range(32))
CONTEXT = (b"spec", b"client", b"aggregator")
LAST_BLOCK = MAX_VECTOR_BYTES // BLOCK_BYTES - 1
# The first 16 bytes of each suite's mask for SEED and CONTEXT: a change of derivation or cipher shows here.
KNOWN = {
    "chacha20": "909ccf17fdc2ea9ab430a376a3546477",
    "aes128ctr": "2258cd0cff6e812b9735e56e58198847",
    "aes256ctr": "c761915300ae60fdf2ef4cf35e8c5a49",
}
# RFC 8439, appendix A.1, test vectors 1 to 4: key, block, keystream (nonce zero, as ours).
RFC_8439 = [
    (
        "00" * 32,
        0,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        "00" * 32,
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        "00" * 31 + "01",
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        "00ff" + "00" * 30,
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
]
# NIST SP 800-38A, F.5.1 and F.5.5: key and output blocks from the counter f0f1...feff on.
SP_800_38A = [
    (
        "2b7e151628aed2a6abf7158809cf4f3c",
        "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae"
        "6a2cc3787889374fbeb4c81b17ba6c44e89c399ff0f198c6d40a31db156cabfe",
    ),
    (
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "0bdf7df1591716335e9a8b15c860c5025a6e699d536119065433863c8f657b94"
        "1bc12c9c01610d5d0d8bd6a3378eca622956e1c8693536b1bee99c73a31576b6",
    ),
]


def stream(suite: str, *, seed: bytes = SEED, context: tuple[bytes, ...] = CONTEXT) -> MaskStream:
    return MaskStream(seed, suite=suite, context=context)


@pytest.mark.parametrize("suite", SUITES)
def test_m10_known_answers(suite: str) -> None:
    assert stream(suite).start().update(bytes(16)).hex() == KNOWN[suite]


@pytest.mark.parametrize(("key", "block", "expected"), RFC_8439)
def test_m10_chacha20_gives_the_vectors_of_rfc_8439(key: str, block: int, expected: str) -> None:
    ours = stream("chacha20")
    ours.key = bytes.fromhex(key)
    assert ours.start(block).update(bytes(64)).hex() == expected
    assert twins.chacha20(ours.key, block=block, blocks=1).hex() == expected


def test_m10_the_twin_gives_the_block_of_rfc_8439_with_a_nonce() -> None:
    """RFC 8439, 2.3.2."""
    block = twins.chacha20(SEED, block=1, blocks=1, nonce=bytes.fromhex("000000090000004a00000000"))
    assert block.hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


@pytest.mark.parametrize(("key", "expected"), SP_800_38A)
def test_m10_the_aes_twin_gives_the_vectors_of_nist_sp_800_38a(key: str, expected: str) -> None:
    counter = int.from_bytes(bytes(range(0xF0, 0x100)), "big")
    assert twins.aes_ctr(bytes.fromhex(key), counter=counter, blocks=4).hex() == expected


@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(SUITES),
    st.integers(0, LAST_BLOCK) | st.sampled_from([0, 1, 2**31 - 1, 2**31, LAST_BLOCK]),
    st.integers(1, 5 * 64),
)
def test_m10_a_stream_equals_its_slow_twin_from_any_block_on(seed: bytes, suite: str, block: int, size: int) -> None:
    ours = stream(suite, seed=seed)
    size = min(size, (LAST_BLOCK + 1 - block) * 64)
    assert ours.start(block).update(bytes(size)) == twins.keystream(ours, block=block, size=size)


def test_m10_seeds_suites_and_contexts_that_differ_give_masks_that_differ() -> None:
    streams = [stream(suite) for suite in SUITES]
    streams += [stream("chacha20", seed=bytes([bit]) + SEED[1:]) for bit in range(1, 9)]
    streams += [stream("chacha20", seed=SEED[:-1] + bytes([bit])) for bit in range(32, 40)]
    streams += [
        stream("chacha20", context=other)
        for other in ((b"spec!", *CONTEXT[1:]), (CONTEXT[0], b"clien", b"taggregator"), CONTEXT[::-1])
    ]
    masks: list[Any] = [np.frombuffer(one.start().update(bytes(256)), np.uint32) for one in streams]
    for place, one in enumerate(masks):
        for another in masks[:place]:
            assert np.count_nonzero(one == another) <= 1


def test_an_unknown_suite_and_a_short_seed_are_refused() -> None:
    with pytest.raises(Refused, match="did you mean 'chacha20'"):
        stream("chacha")
    with pytest.raises(Refused, match="31 bytes, expected 32"):
        stream("chacha20", seed=SEED[:-1])
