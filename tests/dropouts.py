"""Clients that vanish at random steps: `python -m tests.dropouts --schedules 1000`.

Each schedule draws a rate of dropouts, and for every client whether and at which step it is lost, each at its own or
all at one: from there on it neither sends nor receives. What must come of the round is computed here again, slowly,
with sets, from who is lost when and from what the server sends: the exact sum of those whose vector arrived, or an
abort if and only if somebody had too few neighbours left, or too few clients were left at all, or a drawer left each
draw of the ring. Anything else ends the campaign: a wrong sum, a client left out, an abort without need, a hang
(alarm).
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from secagg.driver import Letter
from secagg.errors import Aborted
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER, PartyId
from smpc.cohort import decode_set, set_bytes
from smpc.secaggplus import steps
from smpc.secaggplus.calculator import quorum, share_of
from smpc.secaggplus.draw import ATTEMPTS, Draw
from smpc.secaggplus.keys import ADVERT_BYTES
from smpc.secaggplus.parameters import SecAggPlusParameters, neighbourhood
from tests.adversary.federation import Federation, step_of

RATES = (0.0, 0.01, 0.05, 0.1, 0.3, 0.5)
STAGES = ("keys", "draw", "shares", "vector", "agreement", "release")
_STAGE = {steps.ADVERTISE: 0, steps.SHARES: 2, steps.MASKED: 3, steps.AGREE: 4, steps.RELEASE: 5}
Settings = Mapping[str, tuple[int, dict[str, Any]]]
SETTINGS: Settings = {
    "active, complete graph of 4": (4, {}),
    "active, complete graph of 9": (9, {}),
    "passive, complete graph of 9": (9, {"threat": "passive"}),
    "active, 8 neighbours among 21": (21, {"degree": 8, "acknowledge_weak_parameters": True}),
    "passive, 7 neighbours among 20": (20, {"threat": "passive", "degree": 7, "acknowledge_weak_parameters": True}),
    "active, computed among 70": (70, {}),
}
LARGE: Settings = {"active, computed among 300": (300, {})}
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


class Seen:
    """What of a round can be seen on the wire: keys, draws, and who was shown whose keys."""

    def __init__(self, federation: Federation) -> None:
        self._names = sorted(federation.names)
        self._owner: dict[bytes, PartyId] = {}
        self.advertised: set[PartyId] = set()
        self.draws: dict[int, dict[PartyId, frozenset[PartyId]]] = {}
        self.present: dict[PartyId, frozenset[PartyId]] = {}
        self._graphs: dict[PartyId, bytes] = {}

    def note(self, letter: Letter) -> None:
        if letter.kind != "frame":
            return
        step, body = step_of(letter), bytes(letter.frame[HEADER_BYTES:])
        if step == steps.ADVERTISE:
            self._owner[body] = letter.sender
            self.advertised.add(letter.sender)
        elif step == steps.GRAPH:
            self.present[letter.to] = self._set(body)
            self._graphs[letter.to] = body
        elif letter.sender == SERVER and step >= steps.draw_step(0):
            attempt = (step - steps.draw_step(0)) // 2
            self.draws.setdefault(attempt, {})[letter.to] = self._set(body)

    def neighbours(self, client: PartyId, degree: int) -> set[PartyId]:
        """Those whose keys the server showed to `client`."""
        keys = self._graphs[client][-degree * ADVERT_BYTES :]
        return {self._owner[keys[at : at + ADVERT_BYTES]] for at in range(0, len(keys), ADVERT_BYTES)}

    def _set(self, body: bytes) -> frozenset[PartyId]:
        return decode_set(body[: set_bytes(len(self._names))], self._names)


def run_schedule(federation: Federation, number: int, lost_at: dict[PartyId, int]) -> str:
    """One round; its outcome in words. Raises `AssertionError`."""
    losses, seen = Losses(lost_at), Seen(federation)

    def wire(letter: Letter) -> Iterable[Letter]:
        for arriving in losses(letter):
            seen.note(arriving)
            yield arriving

    federation.wire = wire
    aborted = ""
    try:
        with alarm():
            outcome = federation.round(number)
    except Aborted as error:
        aborted = str(error)
    survivors, need = expected(federation, number, seen, lost_at)
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


def expected(federation: Federation, number: int, seen: Seen, lost_at: dict[PartyId, int]) -> tuple[set[PartyId], str]:
    """Whose sum is due, and why none can be revealed ("" if one must be): by the rule of the protocol alone.

    Nothing is asked of the server. What it chose, who is whose neighbour, is read off its letters.
    """

    def reached(stage: str, among: set[PartyId]) -> set[PartyId]:
        return {name for name in among if lost_at.get(name, len(STAGES)) > STAGES.index(stage)}

    parameters = SecAggPlusParameters(**federation.backend.parameters)
    active, roster = parameters.threat == "active", len(federation.names)
    corrupt = share_of(parameters.corruption, roster)
    fewest = max(MINIMUM, quorum(roster, corrupt)) if active else MINIMUM
    present = reached("keys", set(federation.names))
    assert seen.advertised == present
    for attempt, asked in sorted(seen.draws.items()):
        assert asked == dict.fromkeys(present, frozenset(present)), f"draw {attempt} is not among those who are left"
        answered, drawers = reached("draw", present), drawers_of(federation, number, present, attempt)
        if drawers <= answered:
            assert attempt == max(seen.draws), f"draw {attempt} is drawn again, and no drawer left it"
            break
        present = answered
        if attempt + 1 == ATTEMPTS:
            return set(), "drawers left every draw"
    if len(present) < fewest:
        return set(), "too few clients left"
    found = neighbourhood(parameters, roster=roster, present=len(present))
    degree, threshold = found.degree, found.threshold
    shown = reached("draw", present) if seen.draws else present
    assert seen.present == dict.fromkeys(shown, frozenset(present)), "the graph is not of those who are left"
    around = {name: seen.neighbours(name, degree) for name in shown}
    # Who was lost in the draw without drawing was shown nothing: its neighbours name it.
    around |= {name: {other for other in shown if name in around[other]} for name in present - shown}

    def short(wanted: set[PartyId], helping: set[PartyId]) -> bool:
        return any(len(around[name] & helping) < threshold for name in wanted)

    shared = reached("shares", present)
    while lonely := {name for name in shared if len(around[name] & shared) < threshold}:
        shared -= lonely
    alive = reached("vector", shared)
    if len(alive) < MINIMUM:
        return alive, "too few clients left"
    wanted = alive | {name for name in shared - alive if around[name] & alive}
    agreed = reached("agreement", alive) if active else alive
    asked_last = {name for name in agreed if len(around[name] & agreed) >= threshold} if active else alive
    if any(short(wanted, helping) for helping in (alive, asked_last, reached("release", asked_last))):
        return alive, "too few neighbours left"
    return alive, ""


def drawers_of(federation: Federation, number: int, present: set[PartyId], attempt: int) -> set[PartyId]:
    """Who draws: a hash of the spec and of who is present says so."""
    names = sorted(federation.names)
    corrupt = share_of(SecAggPlusParameters(**federation.backend.parameters).corruption, len(names))
    mask = np.array([name in present for name in names])
    drawers = Draw(federation.spec(number).digest, mask, min(corrupt, len(present) - 1), attempt).drawers
    return {names[one] for one in drawers.tolist()}


@contextmanager
def alarm() -> Iterator[None]:
    """Ends the process if what is inside hangs."""
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)


def campaign(schedules: int, seed: int, settings: Settings = SETTINGS, stage: int | None = None) -> Counter[str]:
    """What became of so many schedules, spread over the settings; all losses at one stage if that is given."""
    rng = random.Random(seed)
    names = list(settings)
    federations = {
        name: Federation("secaggplus", clients=clients, size=31, **parameters)
        for name, (clients, parameters) in settings.items()
    }
    outcomes: Counter[str] = Counter()
    for number in range(1, schedules + 1):
        name = names[number % len(names)]
        federation = federations[name]
        lost_at = draw_losses(federation.names, rng, stage)
        try:
            outcomes[run_schedule(federation, number, lost_at)] += 1
        except BaseException:
            print(f"schedule {number} of seed {seed}, {name}: {lost_at}", file=sys.stderr)
            raise
    return outcomes


def draw_losses(names: Iterable[PartyId], rng: random.Random, stage: int | None = None) -> dict[PartyId, int]:
    """Who is lost at which stage: in one schedule of three, or if a stage is given, all at one."""
    rate = rng.choice(RATES)
    if stage is None and not rng.randrange(3):
        stage = rng.randrange(len(STAGES))
    return {name: rng.randrange(len(STAGES)) if stage is None else stage for name in names if rng.random() < rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=positive, default=1000)
    parser.add_argument("--large", type=positive, default=6, help="schedules among 300 clients, half lost in the draw")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    outcomes = campaign(options.schedules, options.seed)
    outcomes += campaign((options.large + 1) // 2, options.seed, LARGE, STAGES.index("draw"))
    outcomes += campaign(options.large // 2, options.seed, LARGE)
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")
    seconds = time.perf_counter() - started
    print(f"{outcomes.total()} schedules, 0 wrong sums, 0 hangs, 0 aborts without need, {seconds:.0f} s")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected 1 at least")
    return int(text)


if __name__ == "__main__":
    main()
