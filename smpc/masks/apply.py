"""Adding masks to a vector or taking them from it, in place: the one way in, whatever device does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.errors import Refused
from smpc.masks import cpu, gpu
from smpc.masks.local import Device, check_device, check_threads, chosen_device, chosen_threads
from smpc.masks.stream import MAX_VECTOR_BYTES, Masks


def apply_masks(
    vector: NDArray[np.unsignedinteger[Any]],
    masks: Masks,
    *,
    threads: int | None = None,
    device: Device | None = None,
) -> None:
    """Add the masks of sign 1 to a vector and take those of sign -1 from it, in place, modulo its ring.

    Arguments:
        vector: contiguous, of shape `(n,)`, uint32 or uint64, which is the ring 2^32 or 2^64. Under "cuda" it may
            be a CuPy array, and stays on its device; a NumPy array goes there and back.
        masks: streams with their signs; an element of a mask is the stream's next bytes, little-endian.
        threads: how many cores to use, on the CPU; what `smpc.masks.use` or the environment says if not given.
        device: "cuda" computes the same on a CUDA device, for ChaCha20. It is used only when asked for: here, by
            `smpc.masks.use` or by `SECAGG_DEVICE`.

    Raises:
        Refused: the vector is no array, of another kind or over 2^38 bytes, a sign is neither 1 nor -1, or the
            device is not to be had. The vector is as it was.
    """
    _check(vector)
    for _, sign in masks:
        if sign not in (1, -1):
            raise Refused(f"sign of a mask is {sign!r}, expected 1 or -1")
    if threads is None:
        threads = chosen_threads()
    check_threads(threads)
    if (chosen_device() if device is None else check_device(device)) == "cuda":
        gpu.apply(vector, masks)
    else:
        cpu.apply(vector, masks, threads)


def _check(vector: NDArray[np.unsignedinteger[Any]]) -> None:
    # Not `isinstance`: an array of CuPy is one too, and CuPy is not loaded for it.
    if not hasattr(vector, "dtype") or not hasattr(vector, "flags"):
        raise Refused(f"masks apply to a vector of uint32 or uint64, not to a {type(vector).__name__}")
    kind = f"{vector.dtype}{list(vector.shape)}"
    if vector.dtype not in (np.uint32, np.uint64) or vector.ndim != 1:
        raise Refused(f"masks apply to a vector of uint32 or uint64, not to {kind}")
    if not vector.flags.c_contiguous or (isinstance(vector, np.ndarray) and not vector.flags.writeable):
        raise Refused(f"masks apply in place: {kind} is not contiguous and writeable")
    # Beyond, ChaCha20's counter would begin again, and the end would wear the mask of the beginning.
    if vector.nbytes > MAX_VECTOR_BYTES:
        raise Refused(f"a vector of {vector.nbytes} bytes, and a mask stream has {MAX_VECTOR_BYTES}")
