"""What the example scripts print: a run's figures, and what one client's upload tells the server, measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fl_runtime.config import load
from fl_runtime.run import RunSummary, run_experiment
from secagg import Driver, FixedPoint, Layout, build, task_digest
from secagg.driver import Letter
from secagg.frames import HEADER_BYTES

EXPERIMENT = Path(__file__).with_name("digits.toml")


def train(*overrides: str) -> RunSummary:
    """Run `digits.toml` with overrides such as `privacy.backend=ckks`, without a run directory, and print it."""
    summary = run_experiment(load(EXPERIMENT, overrides))
    spent = summary.spent
    print(f"accuracy    {summary.final.overall.accuracy:.3f}")
    print(f"a client    {summary.upload_bytes:,.0f} bytes up, {summary.download_bytes:,.0f} down, each round")
    print(f"seconds     {summary.seconds:.1f}, of which the protocol {summary.protocol_s:.2f}")
    if spent is not None:
        print(f"epsilon     {spent['epsilon']:.2f} at delta {spent['delta']:g} for each {spent['unit']}")
    print(f"server saw  {'; '.join(summary.server_saw)}")
    return summary


def upload_correlation(backend: str, **parameters: Any) -> float:
    """How much one client's upload tells: its correlation with the client's true update, 1 if sent as it is.

    One round of 20,000 values among three clients. The upload is read as the server's memory holds it: as the
    little-endian integers that plain updates are made of.
    """
    size, clients = 20_000, ("hospital-a", "hospital-b", "hospital-c")
    seen: list[bytes] = []

    def server_reads(letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and (letter.sender, letter.to) == ("hospital-a", "server"):
            seen.append(bytes(letter.frame[HEADER_BYTES:]))
        return (letter,)

    protection, layout = build(backend, parameters).backend, Layout.flat(size)
    encoding = FixedPoint.fit(clients=3, value_bound=1.0, max_weight=100, sum_bits=protection.sum_bits)
    driver = Driver(protection, clients, intercept=server_reads)
    driver.set_up(layout=layout, encoding=encoding)
    updates = {name: np.random.default_rng(n).normal(0, 0.1, size).astype("f4") for n, name in enumerate(clients)}
    spec = driver.spec(1, layout=layout, encoding=encoding, task=task_digest(b"example"))
    driver.round(spec, lambda name: (updates[name], 100))
    upload = np.frombuffer(max(seen, key=len)[: 4 * size], "<i4")
    return float(np.corrcoef(upload, updates["hospital-a"])[0, 1])
