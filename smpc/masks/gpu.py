"""Masks on a CUDA device: one pass over the vector for any number of masks, the same bytes as on the CPU.

The kernel is `chacha20.cu`: a thread does a block of 64 bytes and keeps it in registers while it takes all masks.
ChaCha20 only, since AES has no instructions there. CuPy is loaded when a device is asked for, and never before.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Refused
from smpc.masks.stream import BLOCK_BYTES, Masks

THREADS = 256


def apply(vector: Any, masks: Masks) -> None:
    """What `apply_masks` does, on a checked vector of NumPy or CuPy.

    Raises:
        Refused: a mask is not of ChaCha20, or there is no CuPy or no CUDA device.
    """
    keys, signs = launch_data(masks)
    cupy = _cupy()
    if vector.size == 0:
        return
    on_device = cupy.asarray(vector)
    keys_there = cupy.asarray(keys)
    arguments = (on_device, np.uint64(vector.size), keys_there, cupy.asarray(signs), np.uint32(len(masks)))
    _kernel(vector.dtype.name)((grid(vector.nbytes),), (THREADS,), arguments)
    keys_there.fill(0)  # CuPy keeps freed memory
    if on_device is not vector:
        on_device.get(out=vector)


def require_device() -> None:
    """Raise `Refused` where there is no CuPy or no CUDA device."""
    _cupy()


def launch_data(masks: Masks) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Keys, `(k, 8)` little-endian words, and signs, `(k,)`, as the kernel reads them."""
    for stream, _ in masks:
        if stream.suite != "chacha20":
            raise Refused(f"device 'cuda' has no {stream.suite}: set suite = 'chacha20', or device = 'cpu'")
    keys = np.frombuffer(b"".join(stream.key for stream, _ in masks), "<u4").astype(np.uint32).reshape(-1, 8)
    return keys, np.array([sign for _, sign in masks], np.int32)


def grid(vector_bytes: int) -> int:
    """Thread blocks of `THREADS` threads that cover a vector, one thread a block of the stream."""
    return -(-vector_bytes // (BLOCK_BYTES * THREADS))


def source() -> str:
    """The kernel, CUDA C++."""
    return resources.files("smpc.masks").joinpath("chacha20.cu").read_text(encoding="utf-8")


def _cupy() -> Any:
    try:
        import cupy
    except ImportError:
        raise Refused("device 'cuda' needs CuPy: install the extra cuda12 or cuda13, or set device = 'cpu'") from None
    if not cupy.cuda.is_available():
        raise Refused("device 'cuda': CuPy finds no CUDA device here; device = 'cpu' makes the same masks")
    return cupy


@cache
def _kernel(dtype: str) -> Any:
    return _cupy().RawKernel(source(), f"apply_masks_{dtype}")
