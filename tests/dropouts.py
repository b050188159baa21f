"""Clients that vanish at random steps: `python -m tests.dropouts --schedules 1000`.

Each schedule draws a rate of dropouts, and for every client whether and at which step it is lost: from there on it
neither sends nor receives. What must come of the round is computed here again, slowly, with sets: the exact sum of
those whose vector arrived, or an abort if and only if somebody had too few neighbours left, or too few clients were
left at all. Anything else ends the campaign: a wrong sum, an abort without need, a hang (alarm).
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from secagg.driver import Letter
from secagg.errors import Aborted
from secagg.identity import SERVER, PartyId
from smpc.secaggplus import steps
from tests.adversary.federation import Federation, step_of

RATES = (0.0, 0.01, 0.05, 0.1, 0.3, 0.5)
STAGES = ("keys", "draw", "shares", "vector", "agreement", "release")
_STAGE = {steps.ADVERTISE: 0, steps.SHARES: 2, steps.MASKED: 3, steps.AGREE: 4, steps.RELEASE: 5}
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "active, complete graph of 4": (4, {}),
    "active, complete graph of 9": (9, {}),
    "passive, complete graph of 9": (9, {"threat": "passive"}),
    "active, 8 neighbours among 21": (21, {"degree": 8, "acknowledge_weak_parameters": True}),
    "passive, 7 neighbours among 20": (20, {"threat": "passive", "degree": 7, "acknowledge_weak_parameters": True}),
    "active, computed among 70": (70, {}),
}
LIMIT_S = 120
MINIMUM = 3


class Losses:
    """A wire on which some clients are lost from a stage on."""

    def __init__(self, lost_at: dict[PartyId, int]) -> None:
        self._lost_at = lost_at
        self._gone: set[PartyId] = set()

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame" and letter.sender in self._lost_at:
            stage = _STAGE.get(step_of(letter), STAGES.index("draw"))
            if stage >= self._lost_at[letter.sender]:
                self._gone.add(letter.sender)
        return () if {letter.sender, letter.to} & self._gone else (letter,)


def run_schedule(federation: Federation, server: Any, number: int, lost_at: dict[PartyId, int]) -> str:
    """One round; its outcome in words. `server()` gives its server's session. Raises `AssertionError`."""
    federation.wire = Losses(lost_at)
    aborted = ""
    try:
        with alarm():
            outcome = federation.round(number)
    except Aborted as error:
        aborted = str(error)
    survivors, need = expected(server(), lost_at)
    assert bool(need) == bool(aborted), f"expected {need or 'a sum'}, got {aborted or 'a sum'}"
    if aborted:
        return f"aborted: {need}"
    assert set(outcome.result.contributors) == survivors
    totals = np.zeros(len(federation.vectors["site-0"]), np.int64)
    for name in survivors:
        encoded = federation.encoding.encode(federation.vectors[name], federation.weights[name])
        totals += encoded.integers[: totals.size]
    np.testing.assert_array_equal(outcome.result.totals, totals)
    return "sum of everybody" if not lost_at else "sum of the survivors"


def expected(server: Any, lost_at: dict[PartyId, int]) -> tuple[set[PartyId], str]:
    """Whose sum is due, and why none can be revealed ("" if one must be): by the rule of the protocol alone."""

    def reached(stage: str, among: set[PartyId]) -> set[PartyId]:
        return {name for name in among if lost_at.get(name, len(STAGES)) > STAGES.index(stage)}

    present = {name for place, name in enumerate(server.names) if server._present[place]}
    if len(present) < MINIMUM:
        return set(), "too few clients left"
    if server._formed is None:
        return set(), ""
    ring, threshold = server._formed.ring, server._formed.threshold
    around = {name: {server.names[i] for i in ring.of(server.names.index(name))} for name in present}

    def short(wanted: set[PartyId], helping: set[PartyId]) -> bool:
        return any(len(around[name] & helping) < threshold for name in wanted)

    shared = reached("shares", present)
    while lonely := {name for name in shared if len(around[name] & shared) < threshold}:
        shared -= lonely
    alive = reached("vector", shared)
    if len(alive) < MINIMUM:
        return alive, "too few clients left"
    wanted = alive | {name for name in shared - alive if around[name] & alive}
    agreed = reached("agreement", alive) if server.active else alive
    asked = {name for name in agreed if len(around[name] & agreed) >= threshold} if server.active else alive
    if any(short(wanted, helping) for helping in (alive, asked, reached("release", asked))):
        return alive, "too few neighbours left"
    return alive, ""


@contextmanager
def alarm() -> Iterator[None]:
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)


def campaign(schedules: int, seed: int, settings: Iterable[str] = SETTINGS) -> Counter[str]:
    """What became of so many schedules, spread over the settings."""
    rng = random.Random(seed)
    names = list(settings)
    federations = {
        name: Federation("secaggplus", clients=SETTINGS[name][0], size=31, **SETTINGS[name][1]) for name in names
    }
    sessions = {name: federation.keep_sessions() for name, federation in federations.items()}
    outcomes: Counter[str] = Counter()
    for number in range(1, schedules + 1):
        name = names[number % len(names)]
        federation = federations[name]
        rate = rng.choice(RATES)
        lost_at = {client: rng.randrange(len(STAGES)) for client in federation.names if rng.random() < rate}
        try:
            outcomes[run_schedule(federation, lambda name=name: sessions[name][SERVER], number, lost_at)] += 1
        except BaseException:
            print(f"schedule {number} of seed {seed}, {name}: {lost_at}", file=sys.stderr)
            raise
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    outcomes = campaign(options.schedules, options.seed)
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")
    seconds = time.perf_counter() - started
    print(f"{options.schedules} schedules, 0 wrong sums, 0 hangs, 0 aborts without need, {seconds:.0f} s")


if __name__ == "__main__":
    main()
