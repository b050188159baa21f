"""Our HE backends beside the peer's path (`benchmarks.he.peer`), on the same inputs, in one run.

    python -m benchmarks.he.against_peer [--params N] [--clients C] [--json FILE]

Ours are the production sessions, authentication included. CPU seconds of one core; memory is the peak of a process
that runs one of them alone, everybody's part in it. Ratios above 1 mean that we are cheaper than the peer's calls
re-created; the peer's own filters are shown where the extra `nvflare` is installed, and are not compared with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.he.peer import PeerFigures, filters, recreated, run_peer
from he import workers
from secagg.bench import BenchReport, Workload, peak_rss_mib, run_bench
from secagg.registry import build

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "ckks, shared key": ("ckks", {"key_mode": "shared", "acknowledge_shared_key": True}),
    "ckks, key holder, flooded": ("ckks", {}),
    "bfv, shared key": ("bfv", {"key_mode": "shared", "acknowledge_shared_key": True}),
    "bfv, key holder": ("bfv", {}),
}
PEER = "peer, its calls"
COLUMNS = ("protect", "upload", "server", "download", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    workers.use(0)
    workload = Workload(options.params, options.clients)
    if options.only:
        _ = run_peer(recreated(), workload) if options.only == PEER else _bench(options.only, workload)
        print(peak_rss_mib())
        return
    rows = {PEER: _of_peer(run_peer(recreated(), workload), workload) | {"memory": _memory(PEER, options)}}
    if (own := filters()) is not None:
        rows["peer, its filters"] = _of_peer(run_peer(own, workload), workload)
    for label in OURS:
        rows[label] = _of_ours(_bench(label, workload)) | {"memory": _memory(label, options)}
    _show(rows, workload)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _of_peer(figures: PeerFigures, workload: Workload) -> dict[str, float]:
    return {
        "protect": statistics.median(figures.protect),
        "upload": figures.upload / workload.params,
        "server": figures.server,
        "download": figures.download / workload.params,
        "reveal": figures.reveal,
        "error": figures.error,
    }


def _of_ours(report: BenchReport) -> dict[str, float]:
    return {
        "protect": report.client.protect_cpu_s,
        "upload": report.client.upload_bytes_per_param,
        "server": report.server.total_cpu_s,
        "download": report.server.download_bytes_per_param,
        "reveal": report.client.reveal_cpu_s or report.helpers.total_cpu_s,
        "error": report.max_abs_error,
    }


def _bench(label: str, workload: Workload) -> BenchReport:
    name, parameters = OURS[label]
    return run_bench(build(name, parameters), workload)


def _memory(label: str, options: argparse.Namespace) -> float:
    """Peak memory, MiB, of a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.he.against_peer", "--only", label]
    command += ["--params", str(options.params), "--clients", str(options.clients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _show(rows: dict[str, dict[str, float]], workload: Workload) -> None:
    console = Console(width=130)
    table = Table(title=f"{workload.params:,} parameters, {workload.clients} clients; (x) is how many times better")
    for column in ("", "protect, s", "upload, B", "server, s", "download, B", "memory, MiB", "reveal, s", "error"):
        table.add_column(column, justify="right" if column else "left")
    for label, row in rows.items():
        cells = [_cell(row.get(name), rows[PEER][name], label in OURS) for name in COLUMNS]
        table.add_row(label, *cells, f"{row['reveal']:.3f}", f"{row['error']:.1e}")
    console.print(table)


def _cell(value: float | None, peer: float, ours: bool) -> str:
    if value is None:
        return ""
    return f"{value:.4g} ({peer / value:.2f}x)" if ours else f"{value:.4g}"


if __name__ == "__main__":
    main()
