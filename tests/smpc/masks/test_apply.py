"""Masks on vectors: slow twins across chunks and threads, uniform results, and what cannot be masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg.errors import Refused
from smpc.masks import MAX_VECTOR_BYTES, SUITES, MaskStream, Sign, apply_masks
from smpc.masks.cpu import CHUNK_BYTES
from tests.smpc.masks import twins


def stream(number: int, suite: str = "chacha20") -> MaskStream:
    return MaskStream(number.to_bytes(32, "little"), suite=suite, context=(b"spec",))


def slowly(vector: NDArray[Any], masks: list[tuple[MaskStream, Sign]]) -> list[int]:
    """The same in Python's integers, a whole mask at a time."""
    total = vector.tolist()
    for one, sign in masks:
        total = [
            value + sign * word for value, word in zip(total, twins.words(one, vector.size, vector.dtype), strict=True)
        ]
    return [value % 2 ** (8 * vector.itemsize) for value in total]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("suite", SUITES)
def test_masks_equal_their_slow_twins_across_chunks_and_threads(suite: str, dtype: Any, threads: int) -> None:
    chunk = CHUNK_BYTES // np.dtype(dtype).itemsize
    masks: list[tuple[MaskStream, Sign]] = [(stream(1, suite), 1), (stream(2, suite), -1)]
    for count in (0, 1, 3, chunk - 1, chunk, chunk + 1, 3 * chunk + 5):
        vector = np.random.default_rng(count).integers(0, np.iinfo(dtype).max, count, dtype, endpoint=True)
        expected = slowly(vector, masks)
        apply_masks(vector, masks, threads=threads)
        assert vector.tolist() == expected


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=50),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(SUITES), st.sampled_from([1, -1])), max_size=4),
    st.sampled_from([np.uint32, np.uint64]),
)
def test_any_masks_in_any_order_equal_their_slow_twins(values: list[int], chosen: Any, dtype: Any) -> None:
    vector = np.array(values, np.uint64).astype(dtype)
    masks = [(stream(number, suite), sign) for number, suite, sign in chosen]
    expected = slowly(vector, masks)
    apply_masks(vector, masks)
    assert vector.tolist() == expected


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50), st.sampled_from(SUITES))
def test_opposite_signs_cancel(values: list[int], suite: str) -> None:
    vector = np.array(values, np.uint32)
    apply_masks(vector, [(stream(1, suite), 1), (stream(2, suite), -1)])
    apply_masks(vector, [(stream(2, suite), 1), (stream(1, suite), -1)])
    assert vector.tolist() == values


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("suite", SUITES)
def test_m15_masked_values_are_uniform_the_top_value_included(suite: str, bits: int) -> None:
    """In the whole ring, and in the low bits of it that a narrow wire carries."""
    top = 2**bits - 1
    masked = np.full(1 << 22, top, np.uint32)
    apply_masks(masked, [(stream(1, suite), 1)])
    masked &= np.uint32(top)
    for shift in range(0, bits - 7, 4):
        counts = np.bincount((masked >> shift) & 255, minlength=256)
        expected = masked.size / 256
        assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees: 1e-8
    assert masked.max() > top - 2 ** (bits - 16)  # 2^22 draws miss that with probability e^-64
    if bits == 20:
        counts = np.bincount(masked, minlength=1 << 20)
        assert counts.max() < 40  # Poisson of mean 4, a million times: under 1e-20
        assert counts[top] + counts[0] + counts[top - 1] > 0


@pytest.mark.parametrize(
    ("vector", "why"),
    [
        (np.zeros(3, np.float32), r"uint32 or uint64, not to float32\[3\]"),
        (np.zeros(3, np.int32), r"not to int32\[3\]"),
        (np.zeros(3, ">u4"), r"not to >u4\[3\]"),
        (np.zeros((3, 2), np.uint32), r"not to uint32\[3, 2\]"),
        (np.zeros(6, np.uint32)[::2], r"in place: uint32\[3\] is not contiguous and writeable"),
        (np.frombuffer(bytes(12), np.uint32), "is not contiguous and writeable"),
        ([1, 2], "uint32 or uint64, not to a list"),
        (memoryview(bytes(8)), "uint32 or uint64, not to a memoryview"),
    ],
)
def test_what_cannot_be_masked_in_place_is_refused(vector: Any, why: str) -> None:
    before = np.array(vector)
    with pytest.raises(Refused, match=why):
        apply_masks(vector, [(stream(1), 1)])
    np.testing.assert_array_equal(vector, before)


def test_m10_a_vector_on_which_the_counter_would_begin_again_is_refused() -> None:
    # 256 GiB and one element that nobody has allocated: only its size is looked at.
    too_long = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint64), (MAX_VECTOR_BYTES // 8 + 1,), (8,))
    with pytest.raises(Refused, match="a vector of 274877906952 bytes, and a mask stream has 274877906944"):
        apply_masks(too_long, [])


def test_signs_threads_and_devices_that_there_are_not_are_refused() -> None:
    vector = np.zeros(3, np.uint32)
    for arguments, why in [
        ({"masks": [(stream(1), 1), (stream(2), 0)]}, "sign of a mask is 0, expected 1 or -1"),
        ({"masks": [(stream(1), 1)], "threads": 0}, "threads is 0, expected 1 at least"),
        ({"masks": [(stream(1), 1)], "device": "cud"}, "unknown device 'cud' .did you mean 'cuda'"),
    ]:
        with pytest.raises(Refused, match=why):
            apply_masks(vector, **arguments)  # type: ignore[arg-type]
    assert vector.tolist() == [0, 0, 0]
