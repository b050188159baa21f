"""The server's tables: who can still be recovered, against a slow twin with sets."""

from __future__ import annotations

import random

import numpy as np
import pytest

from smpc.secaggplus.graph import Ring, shuffled
from smpc.secaggplus.tables import Tables


def tables(clients: int, degree: int, threshold: int) -> Tables:
    return Tables(Ring(shuffled(np.arange(clients), b"tables"), degree), threshold)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_whoever_has_too_few_neighbours_left_is_left_out_and_so_on(share: float) -> None:
    rng = random.Random(share)
    for _ in range(50):
        some = tables(21, 8, 5)
        around = [set(row.tolist()) for row in some.ring.places]
        staying = {place for place in range(21) if rng.random() < share}
        some.shared[list(staying)] = True
        some.drop_lonely()
        while lonely := {place for place in staying if len(around[place] & staying) < 5}:
            staying -= lonely
        assert set(np.flatnonzero(some.shared).tolist()) == staying


def test_a_parcel_reaches_the_neighbour_that_it_was_written_for() -> None:
    some = tables(12, 6, 4)
    order = some.ring.order.tolist()
    for place, sender in enumerate(order):
        for slot, recipient in enumerate(some.ring.of(sender).tolist()):
            some.parcels[place, slot, :2] = sender, recipient
    some.shared[:] = True
    some.shared[3] = False
    for place, recipient in enumerate(order):
        sharing, parcels = some.parcels_to(place)
        senders = some.ring.of(recipient)[sharing].tolist()
        assert order[3] not in senders
        read = np.frombuffer(parcels, np.uint8).reshape(len(senders), -1)
        assert read[:, :2].tolist() == [[sender, recipient] for sender in senders]


def test_only_lost_clients_with_living_neighbours_left_masks_behind() -> None:
    some = tables(9, 2, 2)
    some.shared[:] = True
    some.alive[[0, 1, 2]] = True
    assert np.flatnonzero(some.lost()).tolist() == [3, 8]
