"""Does the server's memory grow with the clients? `make scale`.

Runs `secagg bench` with distinct vectors of 1M parameters, each backend and cohort in a process of its own,
and prints the peak memory of that process, which holds every party of the round: server, helpers, and the
small sessions of all clients. Exits with 1 if a peak passes the cap, or if one more client costs more than a
tenth of a vector.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CAP_MIB = 600


def peak_mib(backend: str, *, params: int, clients: int) -> float:
    """Peak resident memory, MiB, of one benchmark process; its sum must have been exact."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "bench.json"
        command = [sys.executable, "-c", "from secagg.cli import main; main()", "bench", "--backend", backend]
        command += ["--params", str(params), "--clients", str(clients), "--json", str(report)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=900)
        figures = json.loads(report.read_text())
    if not figures["exact"]:
        sys.exit(f"{backend}: the sum of {clients} clients is not exact")
    return float(figures["peak_rss_mib"])


def vector_mib(params: int) -> float:
    """One encoded vector on the wire."""
    return params * 4 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=200)
    options = parser.parse_args()
    failed = False
    few, many = max(3, options.clients // 10), options.clients
    print(f"{options.params:,} parameters (a vector: {vector_mib(options.params):.1f} MiB); peak memory in MiB")
    print(f"{'':12}{few:>6} clients{many:>8} clients   each more")
    for backend in ("plain", "smpc", "secaggplus"):
        small = peak_mib(backend, params=options.params, clients=few)
        large = peak_mib(backend, params=options.params, clients=many)
        growth = (large - small) / (many - few)
        print(f"{backend:12}{small:14.1f}{large:16.1f}{growth:12.3f}")
        failed = failed or large > CAP_MIB or growth > vector_mib(options.params) / 10
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
