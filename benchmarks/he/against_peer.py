"""Our HE backends beside the way a widely used platform aggregates with CKKS, on the same inputs, in one run.

    python -m benchmarks.he.against_peer [--params N] [--clients C]

The peer's path is re-created on TenSEAL's public API with its parameters: degree 8192, primes 60-40-40 bits,
scale 2^40, symmetric encryption under one key that all clients share, one `ckks_vector` a layer, serialised by
TenSEAL. It has no authentication, no key roles and no encoding; ours are the production sessions. CPU seconds
of one core. Ratios above 1 mean that we are cheaper.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from secagg.bench import BenchReport, Workload, peak_rss_mib, run_bench
from secagg.registry import build

OURS = {
    "ckks, shared key": ("ckks", {"key_mode": "shared", "acknowledge_shared_key": True}),
    "ckks, key holder": ("ckks", {}),
    "bfv, shared key": ("bfv", {"key_mode": "shared", "acknowledge_shared_key": True}),
    "bfv, key holder": ("bfv", {}),
}


@dataclass
class PeerFigures:
    """Seconds of CPU and bytes of the peer's round."""

    protect: list[float] = field(default_factory=list)
    server: float = 0.0
    reveal: float = 0.0
    upload: int = 0
    download: int = 0
    error: float = 0.0


@contextmanager
def cpu() -> Iterator[list[float]]:
    spent = [0.0]
    started = time.process_time()
    yield spent
    spent[0] = time.process_time() - started


@contextmanager
def quiet() -> Iterator[None]:
    """TenSEAL's native code warns on stdout about every long vector."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def run_peer(workload: Workload) -> PeerFigures:
    """One round: every client encrypts and serialises, the server loads, adds and serialises, one client decrypts."""
    import tenseal as ts

    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40], ts.ENCRYPTION_TYPE.SYMMETRIC)
    context.global_scale = 2.0**40
    public = ts.context_from(context.serialize(save_secret_key=False, save_galois_keys=False, save_relin_keys=False))
    figures = PeerFigures()
    total, weights, reference = None, 0, np.zeros(workload.params)
    for name in workload.names():
        vector, weight = workload.contribution(name, uniform_weights=False)
        reference += vector.astype(np.float64) * weight
        weights += weight
        with cpu() as spent:
            upload = ts.ckks_vector(context, (vector * np.float32(weight)).tolist()).serialize()
        figures.protect.append(spent[0])
        figures.upload = len(upload)
        with cpu() as spent:
            received = ts.ckks_vector_from(public, upload)
            if total is None:
                total = received
            else:
                total += received
        figures.server += spent[0]
    with cpu() as spent:
        download = total.serialize()
    figures.server += spent[0]
    figures.download = len(download)
    with cpu() as spent:
        opened = np.array(ts.ckks_vector_from(context, download).decrypt()) / weights
    figures.reveal = spent[0]
    figures.error = float(np.abs(opened - reference / weights).max())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    workload = Workload(options.params, options.clients)
    if options.only == "peer memory":
        with quiet():
            run_peer(workload)
        print(peak_rss_mib())
        return
    if options.only:
        print(_bench(options.only, workload).peak_rss_mib)
        return
    with quiet():
        peer = run_peer(workload)
    protect = statistics.median(peer.protect)
    memory = _memory("peer memory", options)
    print(f"{options.params:,} parameters, {options.clients} clients: the peer, and how many times better ours are")
    print(
        f"{'':20}{'protect':>10}{'upload':>10}{'server':>10}{'download':>10}{'reveal':>10}{'memory':>10}{'error':>10}"
    )
    size = options.params
    print(
        f"{'peer':20}{protect:9.3f}s{peer.upload / size:8.1f} B{peer.server:9.3f}s{peer.download / size:8.1f} B"
        f"{peer.reveal:9.3f}s{memory:7.0f}MiB{peer.error:10.1e}"
    )
    for label in OURS:
        ours = _bench(label, workload)
        reveal = ours.client.reveal_cpu_s or ours.helpers.total_cpu_s
        print(
            f"{label:20}{protect / ours.client.protect_cpu_s:9.2f}x"
            f"{peer.upload / size / ours.client.upload_bytes_per_param:9.2f}x"
            f"{peer.server / ours.server.total_cpu_s:9.2f}x"
            f"{peer.download / size / ours.server.download_bytes_per_param:9.2f}x"
            f"{peer.reveal / reveal:9.2f}x{memory / _memory(label, options):9.2f}x{ours.max_abs_error:10.1e}"
        )


def _bench(label: str, workload: Workload) -> BenchReport:
    name, parameters = OURS[label]
    return run_bench(build(name, parameters), workload)


def _memory(label: str, options: argparse.Namespace) -> float:
    """Peak memory, MiB, of a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.he.against_peer", "--only", label]
    command += ["--params", str(options.params), "--clients", str(options.clients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
