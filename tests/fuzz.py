"""A hostile wire: mutated messages against server, clients and helpers of every backend. `make fuzz`.

Half of the messages are damaged in transit (bit flips, truncations, spliced frames, forged sizes): each must be
rejected, and the sum stays exact. The other half is damaged *and then tagged and signed again* with the keys of
a valid party, so that it reaches the parsers: each must end in a named rejection or abort, or be taken as that
party's own contribution; where a client's message is rejected, or is not its vector, the sum is exact for those who are
in it. Anything else that is raised ends the campaign with a traceback; so does a hang
(alarm) or memory beyond the cap.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from secagg.bench import peak_rss_mib
from secagg.driver import Letter
from secagg.errors import Aborted, Rejected, did_you_mean
from secagg.frames import HEADER_BYTES
from secagg.identity import SERVER
from secagg.spec import RoundSpec
from tests.adversary.federation import BACKENDS, Federation, is_vector, step_of

# What only the campaign runs: 11 clients in a sparse graph, whose order they draw.
SPARSE: dict[str, dict[str, Any]] = {
    "secaggplus sparse": {"clients": 11, "degree": 6, "acknowledge_weak_parameters": True}
}
CAMPAIGNS = (*BACKENDS, *SPARSE)
PER_ROUND = 100
ROUNDS_A_KEY = 400
ROUND_LIMIT_S = 120
MEMORY_CAP_MIB = 1024


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage a message in one of the ways that wires and enemies do."""
    damaged = bytearray(data)
    match rng.randrange(6):
        case 0:
            for _ in range(rng.choice((1, 1, 2, 8, 64))):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        case 1:
            del damaged[rng.randrange(len(damaged)) :]
        case 2:
            damaged += rng.randbytes(rng.choice((1, 4, 1000)))
        case 3:
            cut = rng.randrange(len(damaged))
            damaged[cut:] = other[min(cut, len(other)) :]
        case 4:
            start = rng.randrange(len(damaged))
            size = min(8, len(damaged) - start)
            damaged[start : start + size] = rng.choice((bytes(size), b"\xff" * size, b"\x7f" + b"\xff" * (size - 1)))[
                :size
            ]
        case 5:
            damaged[:] = rng.randbytes(rng.choice((0, 1, len(damaged))))
    return bytes(damaged)


class InTransit:
    """Puts damaged copies of letters before the letters themselves."""

    def __init__(self, federation: Federation, budget: int, rng: random.Random) -> None:
        self._federation = federation
        self._budget = budget
        self._rng = rng
        self._last = b"\0" * 64
        self.sent = 0

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if letter.kind == "frame":
            frame = bytes(letter.frame)
            for _ in range(min(5, self._budget - self.sent)):
                damaged = mutate(frame, self._last, self._rng)
                if damaged != frame and damaged != self._last:
                    self.sent += 1
                    yield replace(letter, frame=damaged)
            self._last = frame
        yield letter


class Insider:
    """Damages the body of one letter of a round, or what is sealed in it, and signs it with its sender's keys."""

    def __init__(self, federation: Federation, spec: RoundSpec, target: int, rng: random.Random) -> None:
        self._federation = federation
        self._spec = spec
        self._target = target
        self._rng = rng
        self._seen = 0
        self.sent = 0
        self.sender = ""
        self.may_change_the_sum = True

    def __call__(self, letter: Letter) -> Iterable[Letter]:
        if letter.kind != "frame":
            return (letter,)
        self._seen += 1
        if self._seen != self._target:
            return (letter,)
        self.sent += 1
        self.sender = letter.sender
        # A client sets its own part of the sum. A server or a helper that adds wrongly sets all of it, undetected.
        self.may_change_the_sum = is_vector(letter) or letter.sender not in self._federation.names
        sealed = self._spec.uploads_to != SERVER and letter.to == self._spec.uploads_to
        if sealed and self._rng.random() < 0.8:
            inside = self._federation.open_upload(letter.sender, self._spec, letter.frame)
            damaged = mutate(inside, inside[::-1], self._rng)
            return (replace(letter, frame=self._federation.seal_upload(letter.sender, self._spec, damaged)),)
        body = bytes(letter.frame[HEADER_BYTES:])
        damaged = mutate(body or b"\0", body[::-1], self._rng)
        step = step_of(letter) if self._rng.random() < 0.9 else self._rng.randrange(20)
        return (replace(letter, frame=self._federation.forge(letter.sender, letter.to, self._spec, step, damaged)),)


def campaign(name: str, count: int, seed: int) -> Counter[str]:
    """Run both halves against one backend; what became of the messages."""
    rng = random.Random(f"{name}/{seed}")
    outcomes: Counter[str] = Counter()
    rounds = rounds_to_damage(name)
    while outcomes["damaged in transit"] < count // 2:
        federation, spec = next(rounds)
        wire = InTransit(federation, min(PER_ROUND, count // 2 - outcomes["damaged in transit"]), rng)
        federation.wire = wire
        outcome = federation.round(spec=spec)
        federation.check(outcome)
        if len(outcome.rejected) != wire.sent:
            sys.exit(f"{name}: {wire.sent} damaged messages, {len(outcome.rejected)} rejected")
        outcomes["damaged in transit"] += wire.sent
    letters = count_letters(*next(rounds))
    while outcomes["signed by an insider"] < count // 2:
        federation, spec = next(rounds)
        insider = Insider(federation, spec, rng.randrange(1, letters + 1), rng)
        federation.wire = insider
        try:
            outcome = federation.round(spec=spec)
        except (Aborted, Rejected):
            by_client = insider.sender in federation.names
            outcomes["... ended in a named abort" + (", by a client" if by_client else "")] += 1
        else:
            if insider.sender in federation.names and (outcome.rejected or not insider.may_change_the_sum):
                federation.check(outcome, outcome.result.contributors)
            outcomes["... rejected" if outcome.rejected else "... taken as its own"] += 1
        outcomes["signed by an insider"] += insider.sent
    signal.alarm(0)
    return outcomes


def rounds_to_damage(name: str) -> Iterator[tuple[Federation, RoundSpec]]:
    """Rounds without end, each under an alarm of its own, with new keys before a key's budget is spent."""
    while True:
        federation = federation_of(name)
        for number in range(1, ROUNDS_A_KEY + 1):
            signal.alarm(ROUND_LIMIT_S)
            yield federation, federation.spec(number)


def federation_of(name: str) -> Federation:
    return Federation("secaggplus", **SPARSE[name]) if name in SPARSE else Federation(name)


def count_letters(federation: Federation, spec: RoundSpec) -> int:
    letters = 0

    def watch(letter: Letter) -> Iterable[Letter]:
        nonlocal letters
        letters += letter.kind == "frame"
        return (letter,)

    federation.wire = watch
    federation.round(spec=spec)
    return letters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; all by default")
    parser.add_argument("--count", type=int, default=20_000, help="messages for each backend")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in options.backend:
        if name not in CAMPAIGNS:  # `choices` would refuse none at all
            parser.error(f"unknown backend {name!r}{did_you_mean(name, CAMPAIGNS)}")
    for name in options.backend or CAMPAIGNS:
        started = time.perf_counter()
        outcomes = campaign(name, options.count, options.seed)
        figures = ", ".join(f"{count} {what}" for what, count in outcomes.items())
        memory = peak_rss_mib()
        print(f"{name}: {figures}; {time.perf_counter() - started:.0f} s, peak {memory:.0f} MiB", flush=True)
        if memory > MEMORY_CAP_MIB:
            sys.exit(f"{name}: {memory:.0f} MiB, the cap is {MEMORY_CAP_MIB}")


if __name__ == "__main__":
    main()
