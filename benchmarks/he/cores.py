"""What a second worker gives: encrypt, aggregate and open with one and with two, interleaved.

    python -m benchmarks.he.cores [--params N] [--repeat R] [--patience S]

Wall time; the best and the median of the repeats, in turns, so that what else the machine does strikes all alike.
`others` is the share of the machine's time that other processes had meanwhile. With more than a few percent of it, two
workers on two cores cannot show what they are worth: such a line is measured again, for up to S seconds in all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.he.against_peer import OURS
from he import workers
from he.backend import EncryptedSum
from secagg import cores
from secagg.bench import encoding_for
from secagg.driver import Driver
from secagg.registry import build
from secagg.spec import task_digest
from secagg.vectors import Layout

COUNTS = (0, 1, 2)
CLIENTS = ["a", "b", "c"]
QUIET = 0.05


class Subject:
    """A scheme, its keys, a vector, its encryption, and the sum of three of them."""

    def __init__(self, name: str, parameters: dict[str, Any], params: int) -> None:
        backend = build(name, parameters).backend
        assert isinstance(backend, EncryptedSum)
        self.scheme = backend.scheme
        secret, public = self.scheme.generate()
        self._secret = secret.local().for_state()
        key = self._secret if backend.shared or public is None else public.to_bytes()
        self._encryptor = self.scheme.encryptor(key, clients=len(CLIENTS))
        self._build = lambda: build(name, parameters).backend
        layout, encoding = Layout.flat(params), encoding_for(backend, len(CLIENTS))
        self._spec = Driver(backend, CLIENTS).spec(1, layout=layout, encoding=encoding, task=task_digest(b"bench"))
        self.values = np.random.default_rng(0).integers(-1000, 1000, encoding.length(params), np.int32)
        self.bodies = [self.encrypt() for _ in CLIENTS]
        self._sum = self.aggregate()

    def encrypt(self) -> bytes:
        return b"".join(self._encryptor.encrypt(self.values))

    def aggregate(self) -> bytes:
        total = self.scheme.empty_sum(self.values.size)
        for body in self.bodies:
            total.fold(body)
        return total.to_bytes()

    def open(self) -> None:
        backend = self._build()  # one that has opened nothing yet
        assert isinstance(backend, EncryptedSum)
        decryptor = backend.scheme.decryptor(self._secret, self._spec, rng=os.urandom)
        opened = decryptor.decrypt(self._sum, length=self.values.size, clients=len(CLIENTS))
        assert np.array_equal(opened, len(CLIENTS) * self.values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--patience", type=float, default=0.0)
    options = parser.parse_args()
    deadline = time.monotonic() + options.patience
    print(f"{options.params:,} parameters, ms: best (median); x is one worker over two")
    print(f"{'':28}{'':10}" + "".join(f"{f'{count} workers':>18}" for count in COUNTS) + f"{'x':>16}{'others':>8}")
    for label, (name, parameters) in OURS.items():
        subject = Subject(name, parameters, options.params)
        for action in (subject.encrypt, subject.aggregate, subject.open):
            others = 1.0
            while others > QUIET:
                _wait_for_quiet(deadline)
                times, others = _measure(action, options.repeat)
                if time.monotonic() > deadline:
                    break
            _show(label, action.__name__, times, others)


def _wait_for_quiet(deadline: float) -> None:
    """Return once the machine has been all but idle for two seconds, or the deadline has passed."""
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        before = _busy_s()
        time.sleep(1)
        quiet = quiet + 1 if _busy_s() - before <= QUIET * (os.cpu_count() or 1) else 0


def _measure(action: Callable[[], object], repeat: int) -> tuple[dict[int, list[float]], float]:
    """Milliseconds for each number of workers, and the share of the machine that others had."""
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    by_others, elapsed = 0.0, 0.0
    for _ in range(repeat):
        for count in COUNTS:
            workers.use(count)
            action()  # a worker that is new has libraries to load
            busy, own, started = _busy_s(), cores.cpu_s(), time.perf_counter()
            times[count] += [_timed_ms(action), _timed_ms(action)]
            elapsed += time.perf_counter() - started
            by_others += _busy_s() - busy - (cores.cpu_s() - own)
    return times, max(by_others / elapsed / (os.cpu_count() or 1), 0.0)


def _show(label: str, name: str, times: dict[int, list[float]], others: float) -> None:
    best = {count: min(figures) for count, figures in times.items()}
    median = {count: statistics.median(figures) for count, figures in times.items()}
    cells = "".join(f"{f'{best[count]:.1f} ({median[count]:.1f})':>18}" for count in COUNTS)
    gain = f"{best[1] / best[2]:.2f} ({median[1] / median[2]:.2f})"
    print(f"{label:28}{name:10}{cells}{gain:>16}{others:8.0%}", flush=True)


def _timed_ms(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1e3


def _busy_s() -> float:
    """Seconds that the processors of this machine were busy, for anybody."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, stolen = fields[:8]
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
