"""A small real run for the tests of evidence: real keys, real specs, real signed headers, sealed on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from secagg.driver import Driver, Outcome, deliver
from secagg.fixedpoint import FixedPoint
from secagg.identity import SERVER, Directory, Identity, PartyId
from secagg.record import canonical_json, strict_json
from secagg.registry import build
from secagg.rundir import TRANSCRIPT, RunDirectory
from secagg.spec import RoundSpec, task_digest
from secagg.transcript import GENESIS, round_body
from secagg.vectors import Layout

NAMES = tuple(f"site-{number}" for number in range(4))
LAYOUT = Layout.flat(5)
ENCODING = FixedPoint.fit(clients=4, value_bound=1.0, max_weight=4)


def play(driver: Driver, number: int) -> Outcome:
    """One round of `driver`."""
    spec = driver.spec(number, layout=LAYOUT, encoding=ENCODING, task=task_digest(b"model", bytes([number])))
    vectors = np.random.default_rng(number).uniform(-1, 1, (4, 5)).astype(np.float32)
    return driver.round(spec, lambda name: (vectors[NAMES.index(name)], NAMES.index(name) + 1))


@dataclass
class Run:
    """A sealed run directory, and everything that an attacker with some of the keys would know."""

    path: Path
    driver: Driver
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def transcript(self) -> Path:
        return self.path / TRANSCRIPT

    @property
    def directory(self) -> Directory:
        return self.driver.directory

    def lines(self) -> list[bytes]:
        return self.transcript.read_bytes().splitlines()

    def entries(self) -> list[dict[str, Any]]:
        return [strict_json(line) for line in self.lines()]

    def write(self, lines: list[bytes]) -> None:
        self.transcript.write_bytes(b"".join(line + b"\n" for line in lines))

    def rebuild(self, entries: list[dict[str, Any]], author: PartyId, identity: Identity) -> None:
        """Chain and sign `entries` anew, as somebody who holds `identity` can."""
        self.write(chain(entries, author, identity))


def chain(entries: list[dict[str, Any]], author: PartyId, identity: Identity) -> list[bytes]:
    lines, previous = [], GENESIS
    for index, entry in enumerate(entries):
        made = {"index": index, "previous": previous, "kind": entry["kind"], "author": author, "body": entry["body"]}
        digest = hashlib.sha256(b"secagg/v1/transcript" + canonical_json(made)).digest()
        lines.append(canonical_json(made | {"signature": identity.sign(digest).hex()}))
        previous = digest.hex()
    return lines


def body_of(outcome: Outcome, **more: Any) -> dict[str, Any]:
    return round_body(outcome.spec, outcome.evidence, contributors=list(outcome.result.contributors), **more)


def spec_of(entry: Mapping[str, Any]) -> RoundSpec:
    return RoundSpec.from_bytes(canonical_json(entry["body"]["spec"]))


def make_run(
    path: Path, *, rounds: int = 2, backend: str = "plain", intercept: Any = deliver, **parameters: Any
) -> Run:
    run = Run(path, Driver(build(backend, parameters).backend, NAMES, intercept=intercept))
    run.driver.set_up(layout=LAYOUT, encoding=ENCODING)
    folder = RunDirectory(path, run.driver.run, run.directory, run.driver.identities[SERVER])
    (path / "config.toml").write_text("[experiment]\nname = 'small'\n", encoding="utf-8")
    transcript = folder.open_transcript({"experiment": "small"})
    for number in range(1, rounds + 1):
        run.outcomes.append(play(run.driver, number))
        transcript.append("round", body_of(run.outcomes[-1], loss=0.5))
    (path / "model").mkdir()
    (path / "model" / "weights.bin").write_bytes(bytes(range(64)))
    folder.seal()
    return run
