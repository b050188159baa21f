"""The ring: regular, symmetric, as connected as a graph of its degree can be, and in an order nobody can guess."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from smpc.secaggplus.graph import Ring, shuffled
from tests.smpc.secaggplus.test_calculator import connected

SMALL = [(n, k) for n in range(3, 11) for k in range(2, n) if n * k % 2 == 0]


@pytest.mark.parametrize(("clients", "degree"), SMALL)
def test_everybody_has_degree_neighbours_who_know_it_by_the_mirrored_slot(clients: int, degree: int) -> None:
    order = shuffled(np.arange(clients) * 10, bytes([degree]))
    ring = Ring(order, degree)
    for place, client in enumerate(order.tolist()):
        neighbours = ring.of(client)
        assert len(set(neighbours.tolist()) - {client}) == degree
        np.testing.assert_array_equal(order[ring.places[place]], neighbours)
        for slot, neighbour in enumerate(neighbours.tolist()):
            assert ring.of(neighbour)[ring.mirror[slot]] == client
            assert ring.mirror[slot] == degree - 1 - slot


@pytest.mark.parametrize(("clients", "degree"), [(n, k) for n, k in SMALL if n <= 9])
def test_fewer_than_degree_losses_never_cut_it(clients: int, degree: int) -> None:
    ring = Ring(np.arange(clients), degree)
    around = [set(row.tolist()) for row in ring.places]
    for gone in itertools.combinations(range(clients), degree - 1):
        assert connected(set(range(clients)) - set(gone), around)


def test_the_order_is_a_function_of_the_seed_alone_and_close_to_uniform() -> None:
    clients = np.arange(5)
    assert shuffled(clients, b"a").tolist() == shuffled(clients, b"a").tolist()
    assert sorted(shuffled(clients, b"a").tolist()) == clients.tolist()
    orders = [tuple(shuffled(clients, number.to_bytes(4, "big")).tolist()) for number in range(24_000)]
    counts = np.unique(np.array(orders) @ (5 ** np.arange(5)), return_counts=True)[1]
    assert counts.size == 120
    assert float(((counts - 200) ** 2 / 200).sum()) < 220  # 119 degrees of freedom: 1e-7


def test_known_order() -> None:
    """A change of the derivation shows here: parties of two versions would not find each other."""
    assert shuffled(np.arange(8), b"seed").tolist() == KNOWN


KNOWN = [0, 5, 1, 3, 6, 2, 4, 7]
