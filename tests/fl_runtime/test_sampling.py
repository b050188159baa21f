import collections

import pytest

from fl_runtime.sampling import cohort, vanishing
from fl_runtime.seeds import derive
from secagg.errors import Refused

CLIENTS = tuple("abcdefgh")


def test_all_clients_unless_told_otherwise():
    assert cohort(CLIENTS, None, seed=1, round_number=1) == CLIENTS


def test_the_draw_depends_on_seed_and_round_alone():
    draws = {(s, r): cohort(CLIENTS, 4, seed=s, round_number=r) for s in range(5) for r in range(5)}
    assert draws == {(s, r): cohort(CLIENTS, 4, seed=s, round_number=r) for s in range(5) for r in range(5)}
    assert len(set(draws.values())) > 15
    assert all(len(set(draw)) == 4 and list(draw) == sorted(draw) for draw in draws.values())


def test_every_client_is_drawn_about_equally_often():
    rounds = 2000
    seen = collections.Counter(c for r in range(rounds) for c in cohort(CLIENTS, 3, seed=9, round_number=r))
    assert all(abs(seen[client] / rounds - 3 / 8) < 0.05 for client in CLIENTS)


@pytest.mark.parametrize("size", [0, 9])
def test_a_size_outside_the_clients_is_refused(size):
    with pytest.raises(Refused, match=f"expected 1 to 8, got {size}"):
        cohort(CLIENTS, size, seed=1, round_number=1)


def test_labels_of_a_seed_cannot_be_confused():
    seeds = [derive(1, "a", 2), derive(1, "a", "2"), derive(1, "a2"), derive(1, "a", 2, 0), derive(12, "a"), derive(1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_so_many_vanish_and_others_in_every_round():
    draws = [vanishing(CLIENTS, 0.3, seed=1, round_number=r) for r in range(20)]
    assert all(len(lost) == 2 and lost < set(CLIENTS) for lost in draws)
    assert len(set(draws)) > 5
    assert vanishing(CLIENTS, 0.0, seed=1, round_number=1) == frozenset()
