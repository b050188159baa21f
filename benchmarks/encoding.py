"""What encoding costs a parameter: clip, scale, round; by ring and rounding; and packing for a narrow wire.

    python -m benchmarks.encoding [--params N] [--repeat R] [--json FILE]

CPU nanoseconds a parameter, medians over repeats. "clipped" is a vector of which a fifth is out of bounds, "add" is
what the server does with one arrived vector.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from secagg.fixedpoint import FixedPoint
from secagg.ringsum import RingSum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=31)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {name: median_ns(work, options) for name, work in works(options.params).items()}
    table = Table(title=f"{options.params:,} parameters, CPU ns each", box=None)
    table.add_column("")
    table.add_column("ns", justify="right")
    for name, figure in rows.items():
        table.add_row(name, f"{figure:.2f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def works(params: int) -> dict[str, Callable[[], object]]:
    vector = np.random.default_rng(0).uniform(-1, 1, params).astype(np.float32)
    beyond = vector * np.float32(1.25)
    encodings = {
        bits: FixedPoint.fit(clients=10, value_bound=1.0, max_weight=20, modulus_bits=bits) for bits in (24, 32, 64)
    }
    chance = encodings[24].model_copy(
        update={"rounding": "stochastic", "fraction_bits": encodings[24].fraction_bits - 1}
    )
    found: dict[str, Callable[[], object]] = {
        "encode, ring 2^32": lambda: encodings[32].encode(vector, 7),
        "encode, ring 2^32, clipped": lambda: encodings[32].encode(beyond, 7),
        "encode, ring 2^64": lambda: encodings[64].encode(vector, 7),
        "encode, ring 2^24": lambda: encodings[24].encode(vector, 7),
        "encode, ring 2^24, stochastic": lambda: chance.encode(vector, 7),
    }
    for bits in (24, 32):
        encoding = encodings[bits]
        ring = RingSum(encoding, encoding.length(params))
        integers = encoding.encode(vector, 7).integers
        body = ring.to_wire(integers)
        found[f"to the wire, ring 2^{bits}"] = lambda ring=ring, integers=integers: ring.to_wire(integers)  # type: ignore[misc]
        found[f"add, ring 2^{bits}"] = lambda ring=ring, body=body: ring.fold(body)  # type: ignore[misc]
    return found


def median_ns(work: Callable[[], object], options: argparse.Namespace) -> float:
    times = []
    for _ in range(options.repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e9 / float(options.params)


if __name__ == "__main__":
    main()
