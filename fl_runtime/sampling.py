"""Client sampling: who takes part in a round (McMahan et al. 2017, algorithm 1, the set S_t)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fl_runtime.seeds import generator
from secagg.errors import Refused

Client = TypeVar("Client")


def cohort(clients: Sequence[Client], size: int | None, *, seed: int, round_number: int) -> tuple[Client, ...]:
    """`size` of the clients, uniformly without replacement, in their given order; all of them for None.

    The draw depends on `seed` and `round_number` alone. Raises `Refused` for a size outside 1..len(clients).
    """
    if size is None:
        return tuple(clients)
    if not 1 <= size <= len(clients):
        raise Refused(f"clients_per_round: expected 1 to {len(clients)}, got {size}")
    chosen = generator(seed, "cohort", round_number).choice(len(clients), size=size, replace=False)
    return tuple(clients[index] for index in sorted(chosen))


def vanishing(clients: Sequence[Client], rate: float, *, seed: int, round_number: int) -> frozenset[Client]:
    """Those of `clients` that a simulation lets vanish in mid-round: floor(rate * len(clients)), uniformly.

    The draw depends on `seed` and `round_number` alone.
    """
    size = int(rate * len(clients))
    lost = generator(seed, "dropout", round_number).choice(len(clients), size=size, replace=False)
    return frozenset(clients[index] for index in lost)
