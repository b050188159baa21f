"""What noise inside the sum costs a client: `dp+X` beside `X` and the sampler alone, in one run.

    python -m benchmarks.dp.inside_the_sum [--params N] [--clients C] [--repeat R] [--backends X ...] [--json FILE]

CPU seconds of one client up to its last byte (`protect` of `secagg bench`), medians over repeats that take turns.
`overhead` is what noise, clipping and rounding cost in all, over the sampler's own time for as many draws: 1 would be
the draws and nothing else. `dp+X` is measured without rotation and with it; the rotation by itself stands beside a pass
that only reads and writes the vector.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dp.placement import Placement, Sampler
from secagg.bench import Workload, run_bench
from secagg.registry import build
from secagg.rotation import Rotation

BACKENDS = ("smpc", "secaggplus", "ckks", "bfv")
SAMPLERS: tuple[Sampler, ...] = ("data-independent", "table")
SHARE_SIGMA = 2.0**24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    alone = {sampler: seconds(draws(sampler, options.params), options.repeat) for sampler in SAMPLERS}
    turned, passed = rotation(options.params, options.repeat)
    rows = {name: protect(name, Workload(options.params, options.clients), options.repeat) for name in options.backends}
    show(rows, alone, turned=turned, passed=passed, params=options.params)
    if options.json:
        figures = {"sampler_s": alone, "rotation_s": turned, "pass_s": passed, "protect_s": rows}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Median CPU seconds of a call, the first one not counted."""
    run()
    taken = []
    for _ in range(repeat):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def draws(sampler: Sampler, params: int) -> Callable[[], object]:
    placement = Placement("local", sampler=sampler)
    return lambda: placement.noise(SHARE_SIGMA, params, secrets.token_bytes)


def rotation(params: int, repeat: int) -> tuple[float, float]:
    """Seconds of a rotation, and of reading and writing the vector once."""
    vector = np.ones(params, np.float32)
    copy = np.empty_like(vector)
    rotated = Rotation(b"benchmark", params)
    return seconds(lambda: rotated.apply(vector), repeat), seconds(lambda: np.multiply(vector, 2, out=copy), repeat)


def protect(name: str, workload: Workload, repeat: int) -> dict[str, float]:
    """CPU seconds of one client by variant."""
    variants: dict[str, tuple[str, dict[str, object]]] = {"alone": (name, {})}
    for sampler in SAMPLERS:
        variants[sampler] = f"dp+{name}", {"sampler": sampler, "rotation": False}
    variants["rotated"] = f"dp+{name}", {"rotation": True}
    built = {variant: build(*made) for variant, made in variants.items()}
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(repeat):
        for variant, composition in built.items():
            taken[variant].append(run_bench(composition, workload).client.protect_cpu_s)
    return {variant: statistics.median(times) for variant, times in taken.items()}


def show(
    rows: Mapping[str, Mapping[str, float]], alone: Mapping[str, float], *, turned: float, passed: float, params: int
) -> None:
    console = Console()
    table = Table(title=f"one client protects {params:,} parameters, ms of CPU (in brackets: overhead / sampler)")
    for column in ("backend", "X", "dp+X", "dp+X, table", "dp+X, rotated"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        shown = [
            f"{row[sampler] * 1e3:.1f} ({(row[sampler] - row['alone']) / alone[sampler]:.2f})" for sampler in SAMPLERS
        ]
        table.add_row(name, f"{row['alone'] * 1e3:.1f}", *shown, f"{row['rotated'] * 1e3:.1f}")
    console.print(table)
    for sampler in SAMPLERS:
        console.print(f"sampler alone, {sampler}: {alone[sampler] * 1e3:.1f} ms")
    console.print(
        f"rotation alone: {turned * 1e3:.1f} ms; a pass over the vector: {passed * 1e3:.2f} ms ({turned / passed:.0f})"
    )
    worst = max((row["data-independent"] - row["alone"]) / alone["data-independent"] for row in rows.values())
    console.print(f"protect(dp+X) <= protect(X) + {worst:.2f} x the sampler's own time, rotation apart")


if __name__ == "__main__":
    main()
