"""The CUDA kernel of the mask streams: checked against the CPU, and how fast it makes ChaCha20.

    python -m benchmarks.masks_gpu [--params N] [--masks K] [--repeat R] [--json FILE]

GB/s (10^9 bytes) of stream made and applied by the kernel, the vector and its masks on the device, median over
repeats; and its share of 1.1 TB/s, the estimate for an H200. Needs CuPy and a CUDA device: without one it says so
and ends with 2. A wrong byte ends it with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from secagg.errors import Refused
from smpc.masks import Masks, MaskStream, apply_masks

STREAM_BYTES_PER_S = 1.1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=100_000_000)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=11)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    masks = make_masks(options.masks)
    try:
        apply_masks(np.zeros(1, np.uint32), masks[:1], device="cuda")
    except Refused as refused:
        sys.exit(_fail(str(refused), 2))
    for dtype, size in [(np.uint32, 1_000_003), (np.uint64, 500_001), (np.uint32, 1), (np.uint64, 9)]:
        if not equal_to_cpu(np.dtype(dtype), size, masks[:7]):
            sys.exit(_fail(f"{size} elements of {np.dtype(dtype)}: the device's bytes are not the CPU's", 1))
    counts = sorted({1, 10, options.masks})
    rates = {count: gigabytes_per_s(options.params, masks[:count], options.repeat) for count in counts}
    show(rates, options.params)
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1) + "\n")


def make_masks(count: int) -> Masks:
    seeds = [number.to_bytes(32, "little") for number in range(count)]
    return [(MaskStream(s, suite="chacha20", context=(b"benchmark",)), -1 if s[0] % 3 else 1) for s in seeds]


def equal_to_cpu(dtype: np.dtype[Any], size: int, masks: Masks) -> bool:
    vector = np.random.default_rng(size).integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    there = vector.copy()
    apply_masks(vector, masks)
    apply_masks(there, masks, device="cuda")
    return np.array_equal(vector, there)


def gigabytes_per_s(params: int, masks: Masks, repeat: int) -> float:
    """Stream bytes a second, by the device's own events, everything already there and the kernel warm."""
    import cupy
    from cupyx.profiler import benchmark  # type: ignore[import-not-found]

    vector = cupy.arange(params, dtype=cupy.uint32)
    runs = benchmark(apply_masks, (vector, masks), {"device": "cuda"}, n_repeat=repeat, n_warmup=2)
    return float(vector.nbytes * len(masks) / np.median(runs.gpu_times) / 1e9)


def show(rates: dict[int, float], params: int) -> None:
    table = Table(title=f"{params:,} parameters of 32 bits, device equal to CPU", box=None)
    for column in ("masks", "GB/s of ChaCha20", f"of {STREAM_BYTES_PER_S / 1e12} TB/s"):
        table.add_column(column, justify="right")
    for count, rate in rates.items():
        table.add_row(str(count), f"{rate:.0f}", f"{rate * 1e9 / STREAM_BYTES_PER_S:.0%}")
    Console().print(table)


def _fail(why: str, code: int) -> int:
    print(why, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
