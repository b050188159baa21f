"""The CUDA kernel: it compiles for the devices it is for, and what the compiler made of it gives the CPU's bytes.

No device is needed: `ptx` executes the compiler's output on the CPU. Where there is one, it is used as well.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg.errors import Refused
from smpc.masks import MaskStream, Sign, apply_masks, gpu
from tests.smpc.masks import ptx
from tests.smpc.masks.nvrtc import compile_to_ptx

Masked = list[tuple[MaskStream, Sign]]


def masks_of(signs: list[Sign], suite: str = "chacha20") -> Masked:
    return [(MaskStream(bytes([n]) * 32, suite=suite, context=(b"spec",)), sign) for n, sign in enumerate(signs)]


def launch(vector: NDArray[Any], masks: Masked, *, grid: int, threads: int, architecture: int = 90) -> None:
    """The kernel with the arguments that `gpu.apply` gives it, on a device that is Python."""
    keys, signs = gpu.launch_data(masks)
    ptx.run(
        compile_to_ptx(gpu.source(), architecture),
        f"apply_masks_{vector.dtype.name}",
        grid=grid,
        threads=threads,
        arguments=[vector, vector.size, keys, signs, len(masks)],
    )


@pytest.mark.parametrize("architecture", [80, 90])
def test_the_kernel_compiles_for_both_rings(architecture: int) -> None:
    compiled = compile_to_ptx(gpu.source(), architecture)
    assert f".target sm_{architecture}" in compiled
    assert ".visible .entry apply_masks_uint32(" in compiled
    assert ".visible .entry apply_masks_uint64(" in compiled
    # Sixteen accumulators in registers: nothing is kept in memory beside the vector.
    assert ".local" not in compiled


@settings(max_examples=30)
@given(
    st.sampled_from([np.uint32, np.uint64]),
    st.integers(1, 200),
    st.lists(st.sampled_from([1, -1]), max_size=6),
    st.sampled_from([80, 90]),
    st.sampled_from([0, 1, 2, 4]),
)
def test_the_kernel_gives_the_cpus_bytes(
    dtype: Any, size: int, signs: list[Sign], architecture: int, offset: int
) -> None:
    """Any number of masks of both signs, both rings, tails of any length, slices that begin anywhere."""
    whole = np.random.default_rng(size).integers(0, np.iinfo(dtype).max, size + offset, dtype, endpoint=True)
    expected, before = whole.copy(), whole.copy()
    apply_masks(expected[offset:], masks_of(signs))
    launch(whole[offset:], masks_of(signs), grid=4, threads=8, architecture=architecture)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(whole[:offset], before[:offset])


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_the_grid_covers_the_vector_and_no_thread_leaves_it(dtype: Any) -> None:
    """One element more than two thread blocks cover; `ptx` faults on any access outside the arrays."""
    size = 2 * gpu.THREADS * 64 // np.dtype(dtype).itemsize + 1
    vector = np.zeros(size, dtype)
    expected = vector.copy()
    apply_masks(expected, masks_of([1]))
    assert gpu.grid(vector.nbytes) == 3
    launch(vector, masks_of([1]), grid=3, threads=gpu.THREADS)
    np.testing.assert_array_equal(vector, expected)


def test_aes_has_no_kernel_and_is_refused() -> None:
    vector = np.zeros(3, np.uint32)
    with pytest.raises(Refused, match="device 'cuda' has no aes128ctr: set suite = 'chacha20', or device = 'cpu'"):
        apply_masks(vector, masks_of([1], "aes128ctr"), device="cuda")


def test_a_device_gives_the_cpus_bytes_and_without_one_the_vector_is_as_it_was() -> None:
    vector = np.arange(1_000_003, dtype=np.uint32)
    expected = vector.copy()
    apply_masks(expected, masks_of([1, -1, 1]))
    try:
        apply_masks(vector, masks_of([1, -1, 1]), device="cuda")
    except Refused:
        expected = np.arange(1_000_003, dtype=np.uint32)
    np.testing.assert_array_equal(vector, expected)


@pytest.mark.parametrize(
    ("cupy", "why"),
    [
        (None, "needs CuPy: install the extra cuda12 or cuda13"),
        (SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)), "CuPy finds no CUDA device here"),
    ],
)
def test_a_device_that_is_not_there_is_never_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, cupy: Any, why: str
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    vector = np.zeros(3, np.uint32)
    with pytest.raises(Refused, match=why):
        apply_masks(vector, masks_of([1]), device="cuda")
    assert not vector.any()
