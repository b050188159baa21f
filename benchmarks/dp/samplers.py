"""Discrete noise a second, every sampler beside opendp's exact one, in one run on one core.

    python -m benchmarks.dp.samplers [--draws N] [--repeat R] [--json FILE]

All draw from the operating system's randomness, and take turns, so that a busy machine slows all of them alike; CPU
time, medians. A table is made once for each sigma and not timed; `build` says what that takes. opendp makes 1/50 of the
draws, and Skellam noise is compared with opendp's discrete Gaussian of the same variance.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dp.noise.gaussian import table_gaussian
from dp.noise.skellam import VARIANCE_MAX, skellam
from secagg.gaussian import discrete_gaussian

SIGMAS = (10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
PEER = "opendp"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {sigma: measure(sigma, options.draws, options.repeat) for sigma in SIGMAS}
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(sigma: float, draws: int, repeat: int) -> dict[str, float]:
    """Draws a second by sampler, and the seconds that the table takes to make."""
    began = time.process_time()
    table_gaussian(sigma, 1)
    build = time.process_time() - began
    runs: dict[str, tuple[int, Callable[[], object]]] = {
        PEER: (draws // 50, opendp_gaussian(sigma, draws // 50)),
        "default": (draws, lambda: discrete_gaussian(sigma, draws)),
        "table": (draws, lambda: table_gaussian(sigma, draws)),
    }
    if sigma**2 <= VARIANCE_MAX:
        runs["skellam"] = draws, lambda: skellam(sigma**2, draws)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, (_, run) in runs.items():
            began = time.process_time()
            run()
            taken[name].append(time.process_time() - began)
    return {name: count / statistics.median(taken[name]) for name, (count, _) in runs.items()} | {"build_s": build}


def opendp_gaussian(sigma: float, draws: int) -> Callable[[], object]:
    """opendp's exact sampler, for vectors of zeros."""
    import opendp.prelude as opendp

    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l2_distance(T=int)
    sampler = opendp.m.make_gaussian(*space, scale=sigma)
    zeros = [0] * draws
    return lambda: sampler(zeros)


def show(rows: Mapping[float, Mapping[str, float]]) -> None:
    table = Table(title="million draws a second, one core (in brackets: times opendp)")
    for column in ("sigma", PEER, "default", "table", "Skellam", "table built in"):
        table.add_column(column, justify="right")
    for sigma, row in rows.items():
        shown = [
            f"{rate / 1e6:.3g} ({rate / row[PEER]:.0f})" if (rate := row.get(name, math.nan)) == rate else ""
            for name in ("default", "table", "skellam")
        ]
        table.add_row(f"{sigma:g}", f"{row[PEER] / 1e6:.3f}", *shown, f"{row['build_s'] * 1e3:.0f} ms")
    Console().print(table)
    for name in ("default", "table"):
        worst = min(row[name] / row[PEER] for row in rows.values())
        Console().print(f"{name}: at least {worst:.0f} times {PEER}")


if __name__ == "__main__":
    main()
