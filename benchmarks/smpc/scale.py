"""A round of `secaggplus` among thousands of clients in one process: production sessions at both ends, real frames.

    python -m benchmarks.smpc.scale [--clients N] [--params N] [--dropout RATE] [--threat passive|active] [--suite S]

Every client has a vector of its own, whose encoding is known in advance (small integers over a power of two), so that
the sum is checked on every coordinate, bit for bit. A share of the clients, chosen by a seed, vanishes with its upload
due. The degree is the calculator's. Exits with 1 if a single coordinate is wrong.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from secagg.bench import peak_rss_mib
from secagg.driver import Driver
from secagg.errors import SecaggError
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER
from secagg.registry import build
from secagg.spec import task_digest
from secagg.vectors import Layout
from smpc.masks import SUITES


class Vectors:
    """Client i has first * i + second * (i^2 mod 101), in steps of the encoding's grid."""

    def __init__(self, params: int, encoding: FixedPoint, clients: int) -> None:
        rng = np.random.default_rng(0)
        # Together below the bound of the encoding, 2^fraction_bits steps.
        half = 2**encoding.fraction_bits // 2
        first, second = half // clients, half // 101
        self._first = rng.integers(-first, first + 1, params).astype(np.float32)
        self._second = rng.integers(-second, second + 1, params).astype(np.float32)
        self._scale = np.float32(encoding.scale)
        self._out, self._part = np.empty(params, np.float32), np.empty(params, np.float32)

    def of(self, client: int) -> NDArray[np.float32]:
        """The vector of a client, exact in float32. Overwritten by the next call."""
        np.multiply(self._first, np.float32(client) / self._scale, out=self._out)
        np.multiply(self._second, np.float32(client * client % 101) / self._scale, out=self._part)
        return np.add(self._out, self._part, out=self._out)

    def total(self, clients: list[int]) -> NDArray[np.int64]:
        """The integer sum of the encodings of these clients."""
        first, second = self._first.astype(np.int64), self._second.astype(np.int64)
        return first * sum(clients) + second * sum(client * client % 101 for client in clients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--dropout", type=rate, default=0.05)
    parser.add_argument("--threat", choices=("passive", "active"), default="passive")
    parser.add_argument("--suite", choices=SUITES, default="chacha20")
    options = parser.parse_args()
    try:
        sys.exit(run(options))
    except SecaggError as error:
        sys.exit(f"scale: {error}")


def rate(text: str) -> float:
    """A share of the clients, from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of the clients, expected 0 to below 1")
    return value


def run(options: argparse.Namespace) -> int:
    """One round, measured and checked; 0 if it is exact."""
    console = Console(stderr=True)
    names = [f"client-{number:05d}" for number in range(1, options.clients + 1)]
    numbers = {name: number for number, name in enumerate(names, 1)}
    lost = np.random.default_rng(1).choice(options.clients, round(options.dropout * options.clients), replace=False)
    vanished = {names[place] for place in lost}
    backend = build("secaggplus", {"threat": options.threat, "suite": options.suite}).backend
    encoding = FixedPoint.fit(clients=options.clients, value_bound=1.0, divisor=options.clients)
    vectors = Vectors(options.params, encoding, options.clients)
    driver = Driver(backend, names)
    spec = driver.spec(1, layout=Layout.flat(options.params), encoding=encoding, task=task_digest(b"scale"))
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("clients", total=options.clients)

        def source(name: str) -> tuple[NDArray[np.float32], int] | None:
            progress.advance(bar)
            return None if name in vanished else (vectors.of(numbers[name]), 1)

        wall, cpu = time.perf_counter(), time.process_time()
        outcome = driver.round(spec, source)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stayed = [name for name in names if name not in vanished]
    exact = np.array_equal(outcome.result.totals, vectors.total([numbers[name] for name in stayed]))
    whole = outcome.result.contributors == tuple(stayed)
    meters = [outcome.meters[name] for name in outcome.result.contributors]
    client = statistics.median(meter.protect_cpu_s for meter in meters)
    server = outcome.meters[SERVER]
    upload = statistics.median(meter.sent_bytes for meter in meters) / options.params
    print(f"{options.clients:,} clients x {options.params:,} parameters, {len(vanished)} vanish")
    print(f"{options.threat} server, {options.suite}: {backend.attained(options.clients)}")
    print(f"all parties {cpu:.0f} s of CPU, {wall:.0f} s in all; peak {peak_rss_mib():.0f} MiB for the whole process")
    print(f"one client {client * 1e3:.1f} ms, server {server.protect_cpu_s + server.reveal_cpu_s:.1f} s of CPU")
    print(f"{upload:.3f} bytes a parameter up; the sum of those who stayed is {'exact' if exact else 'WRONG'}")
    if not whole:
        left = sorted(set(outcome.dropped) - vanished)
        print(f"{len(left)} more clients left than were told to; the first: {left[0]}: {outcome.dropped[left[0]]}")
    return 0 if exact and whole else 1


if __name__ == "__main__":
    main()
