"""Cases of our threat list against Flower's SecAgg+, its own client and server functions: who passes what.

    python -m benchmarks.smpc.flower_cases

Needs the extra `flower`. Each line is one attack or accident, carried out. The tests that show the same of `secaggplus`
are in docs/reference/cases.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import numpy as np

from secagg.bench import Workload

SMALL = Workload(100, 8)
DEGREE, THRESHOLD = 6, 4
Case = Callable[[], tuple[bool, str]]


def main() -> None:
    try:
        import flwr  # noqa: F401
    except ImportError as error:
        sys.exit(f"these cases need the extra 'flower': {error}")
    for name, what, case in cases():
        holds, seen = case()
        print(f"{name:4} {what:64} {'holds' if holds else 'falls':6} {seen}", flush=True)


def cases() -> Iterable[tuple[str, str, Case]]:
    from flwr.app import ConfigRecord
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_constants import Key, Stage
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    from benchmarks.smpc.flower_peer import FlowerGrid, run_flower

    def request(change: Callable[[int, list[int], list[int]], None]) -> tuple[bool, str]:
        """Let the server ask client 1 for other shares than it should; whether the client refuses."""
        answers: list[int] = []

        class Meddler(FlowerGrid):
            def alter(self, number: int, configs: ConfigRecord) -> None:
                if number == 1 and configs[Key.STAGE] == Stage.UNMASK:
                    alive, dead = list(configs[Key.ACTIVE_NODE_ID_LIST]), list(configs[Key.DEAD_NODE_ID_LIST])
                    change(number, alive, dead)
                    configs[Key.ACTIVE_NODE_ID_LIST], configs[Key.DEAD_NODE_ID_LIST] = alive, dead

            def seen(self, number: int, stage: str, answer: ConfigRecord) -> None:
                if number == 1 and stage == Stage.UNMASK:
                    answers.extend(answer[Key.NODE_ID_LIST])

        try:
            run_flower(SMALL, degree=DEGREE, threshold=THRESHOLD, grid_type=Meddler)
        except Exception as error:  # noqa: BLE001 - what it raises is the finding
            if not answers:
                return isinstance(error, ValueError), f"{type(error).__name__}: {error}"
        return False, f"client 1 answers with {len(answers)} shares"

    def both(own: int, alive: list[int], dead: list[int]) -> None:
        dead.append(next(number for number in alive if number != own))

    def itself(own: int, alive: list[int], dead: list[int]) -> None:
        alive.remove(own)
        dead.append(own)

    def twice(own: int, alive: list[int], dead: list[int]) -> None:
        keep = alive[:2]
        alive[:] = keep * THRESHOLD

    def unknown(own: int, alive: list[int], dead: list[int]) -> None:
        dead.append(999)

    def lost_at(stage: str) -> tuple[bool, str]:
        class Loses(FlowerGrid):
            def vanishes(self, number: int, at: str) -> bool:
                return number == 1 and at == stage

        try:
            _, mean = run_flower(SMALL, degree=DEGREE, threshold=THRESHOLD, grid_type=Loses)
        except Exception as error:  # noqa: BLE001 - what it raises is the finding
            return False, f"the round ends with {type(error).__name__}: {error}"
        return mean is not None, "the round ends without a sum" if mean is None else "the others' sum"

    def altered_share() -> tuple[bool, str]:
        secret = bytes(range(32))
        shares = create_shares(secret, 3, 5)
        shares[0] = shares[0][:8] + bytes([shares[0][8] ^ 1]) + shares[0][9:]
        try:
            found = combine_shares(shares[:3])
        except ValueError as error:
            return False, f"{error}: the round is lost, and nobody is named"
        return found == secret, "another secret, without a word"

    def fold() -> tuple[bool, str]:
        seed = bytes(range(32))
        other = seed[4:8] + seed[:4] + seed[8:]
        same = np.array_equal(*(pseudo_rand_gen(s, 2**32, [(64,)])[0] for s in (seed, other)))
        return not same, "two seeds of 256 bits, one mask: 32 bits are used" if same else "two masks"

    def top_value() -> tuple[bool, str]:
        values = pseudo_rand_gen(bytes(32), 8, [(100_000,)])[0]
        return 7 in values, f"of 0 to 7 the masks have 0 to {values.max()}"

    def overflow() -> tuple[bool, str]:
        figures, _ = run_flower(Workload(10, 2500), degree=DEGREE, threshold=THRESHOLD)
        return figures.error < 1e-2, f"2,500 clients at the default ranges: error of the mean {figures.error:.3g}"

    def not_a_number() -> tuple[bool, str]:
        with np.errstate(invalid="ignore"):
            found = quantize([np.array([np.nan])], 8.0, 1 << 22)[0][0]
        return False, f"NaN is encoded as {found}"

    yield "M1", "the server asks for both shares of one peer", lambda: request(both)
    yield "M2", "the server lists the client itself as dropped", lambda: request(itself)
    yield "M3", "survivors listed twice to reach the threshold", lambda: request(twice)
    yield "M4", "an unknown client among the dropped", lambda: request(unknown)
    yield "M6", "a client lost before its keys", lambda: lost_at(Stage.SETUP)
    yield "M6", "a client lost before its shares", lambda: lost_at(Stage.SHARE_KEYS)
    yield "M6", "a client lost before its vector", lambda: lost_at(Stage.COLLECT_MASKED_VECTORS)
    yield "M6", "a client lost before it helps to unmask", lambda: lost_at(Stage.UNMASK)
    yield "M8", "an altered share", altered_share
    yield "M10", "distinct seeds give distinct masks", fold
    yield "M11", "more clients than the ring holds", overflow
    yield "M15", "the top value of the ring occurs in masks", top_value
    yield "T17", "an update with a NaN", not_a_number


if __name__ == "__main__":
    main()
