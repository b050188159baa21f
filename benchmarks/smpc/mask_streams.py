"""How fast masks reach a vector, beside the bare cipher, in one run.

    python -m benchmarks.smpc.mask_streams [--params N] [--masks K] [--repeat R] [--json FILE]

`raw` is `update_into` of the same cipher over the same bytes, into a buffer that stays in the cache: nothing that
uses the stream can be faster. `applied` is `apply_masks`, key derivation included. GB (10^9 bytes) of stream a second,
medians over repeats that take turns, so that a busy machine slows all of them alike; CPU of one core, and wall. What
two threads gain is `applied` over `applied`, and for comparison `raw` over `raw`: less than 2 where cores are shared.
Beside them, what memory gives: `np.add` of two arrays far beyond the caches into the first, GB/s read and written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from smpc.masks import SUITES, MaskStream, apply_masks
from smpc.masks.cpu import CHUNK_BYTES

ARRAY_BYTES = 1 << 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--masks", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=21)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {suite: measure(suite, options.params, options.masks, options.repeat) for suite in SUITES}
    bandwidth = memory_bandwidth(options.repeat)
    show(rows, options.params, options.masks)
    print(f"memory, one core: {bandwidth:.1f} GB/s read and written by np.add of two arrays of {ARRAY_BYTES >> 20} MiB")
    if options.json:
        options.json.write_text(json.dumps(rows | {"memory": {"np.add": bandwidth}}, indent=1) + "\n")


def measure(suite: str, params: int, masks: int, repeat: int) -> dict[str, float]:
    """GB/s by name, and the two ratios."""
    vector = np.zeros(params, np.uint32)
    seeds = [number.to_bytes(32, "little") for number in range(masks)]

    def make(seeds: list[bytes]) -> None:
        buffer = bytearray(CHUNK_BYTES + 16)
        zeros = bytes(CHUNK_BYTES)
        whole, rest = divmod(vector.nbytes, CHUNK_BYTES)
        for seed in seeds:
            keystream_into = MaskStream(seed, suite=suite, context=()).start().update_into
            for _ in range(whole):
                keystream_into(zeros, buffer)
            keystream_into(zeros[:rest], buffer)

    def raw() -> None:
        make(seeds)

    def raw_twice() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(make, (seeds[: masks // 2], seeds[masks // 2 :])))

    def applied(threads: int) -> Callable[[], None]:
        return lambda: apply_masks(
            vector, [(MaskStream(seed, suite=suite, context=()), 1) for seed in seeds], threads=threads
        )

    works = {"raw": raw, "applied": applied(1), "raw x 2": raw_twice, "applied x 2": applied(2)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    size = vector.nbytes * masks / 1e9
    cpu_s = {name: statistics.median(cpu for cpu, _ in runs) for name, runs in times.items()}
    wall_s = {name: statistics.median(wall for _, wall in runs) for name, runs in times.items()}
    return {
        **{f"{name}, CPU": size / cpu_s[name] for name in ("raw", "applied")},
        **{f"{name}, wall": size / wall_s[name] for name in works},
        "applied / raw": cpu_s["raw"] / cpu_s["applied"],
        "threads, raw": wall_s["raw"] / wall_s["raw x 2"],
        "threads, applied": wall_s["applied"] / wall_s["applied x 2"],
    }


def memory_bandwidth(repeat: int) -> float:
    """GB/s through memory: two arrays read and one of them written, median wall time."""
    left, right = (np.ones(ARRAY_BYTES // 8, np.uint64) for _ in range(2))
    runs = []
    for _ in range(repeat):
        wall = time.perf_counter()
        np.add(left, right, out=left)
        runs.append(time.perf_counter() - wall)
    return 3 * ARRAY_BYTES / statistics.median(runs) / 1e9


def show(rows: dict[str, dict[str, float]], params: int, masks: int) -> None:
    table = Table(title=f"{masks} masks on {params:,} parameters of 32 bits, GB/s of stream", box=None)
    table.add_column("")
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right")
    for suite, row in rows.items():
        table.add_row(suite, *(f"{value:.2f}" for value in row.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
