"""`secaggplus` beside Flower's SecAgg+ (`benchmarks.smpc.flower_peer`), on the same vectors, in one run.

    python -m benchmarks.smpc.against_flower [--params N] [--clients C] [--degree K] [--dropouts D] [--repeat R]

Needs the extra `flower`. Ours are the production sessions, signatures, tags and every check included. CPU seconds of
one core; a client is the median of all of them, over all its steps. Ratios above 1 mean that we are cheaper.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from rich.console import Console
from rich.table import Table

from secagg.bench import Workload, run_bench
from secagg.registry import build

SUITES = ("aes128ctr", "chacha20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--degree", type=int, default=10)
    parser.add_argument("--dropouts", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    try:
        from benchmarks.smpc.flower_peer import run_flower
    except ImportError as error:
        sys.exit(f"this benchmark needs the extra 'flower': {error}")
    workload = Workload(options.params, options.clients, options.dropouts)
    threshold = options.degree // 2 + 1
    rows: dict[str, list[tuple[float, float, float, float, float]]] = {}
    # In turn, so that a slow moment of the machine falls on all of them.
    for _ in range(options.repeat):
        peer, _ = run_flower(workload, degree=options.degree, threshold=threshold)
        figures = statistics.median(peer.clients.values()), peer.server, peer.wall, peer.upload, peer.error
        rows.setdefault("Flower", []).append(figures)
        for suite in SUITES:
            for threat in ("passive", "active"):
                parameters = {"suite": suite, "threat": threat, "degree": options.degree, "threshold": threshold}
                report = run_bench(build("secaggplus", {**parameters, "acknowledge_weak_parameters": True}), workload)
                upload = report.client.upload_bytes_per_param * options.params
                ours = report.client.protect_cpu_s, report.server.total_cpu_s, report.wall_s, upload
                rows.setdefault(f"{suite}, {threat}", []).append((*ours, report.max_abs_error))
    _show({name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in rows.items()})


def _show(rows: dict[str, list[float]]) -> None:
    table = Table(title="seconds; (x) is how many times better")
    for column in ("", "one client", "server", "round, wall", "upload, MB", "error"):
        table.add_column(column, justify="right" if column else "left")
    peer = rows["Flower"]
    for name, (client, server, wall, upload, error) in rows.items():
        cells = [client, server, wall, upload / 1e6]
        ratios = ["" if name == "Flower" else f" ({p / own:.1f}x)" for p, own in zip(peer, rows[name], strict=True)]
        shown = [f"{cell:.4g}{ratio}" for cell, ratio in zip(cells, ratios[:4], strict=True)]
        table.add_row(name, *shown, f"{error:.1e}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
