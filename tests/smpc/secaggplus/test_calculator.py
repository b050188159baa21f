"""Degree and threshold: published figures, exhaustive twins of every bound, and what is refused."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest

from secagg.errors import Refused
from secagg.registry import build
from secagg.settings import read_settings
from smpc.secaggplus.calculator import (
    Cohort,
    Neighbourhood,
    Threat,
    bits,
    choose,
    loss,
    privacy_failure,
    share_of,
    tail,
)
from smpc.secaggplus.draw import ATTEMPTS, void
from smpc.secaggplus.parameters import SecAggPlusParameters, attained, cohort, neighbourhood


def assumed(clients: int, corruption: float, dropout: float, threat: Threat, draws: int = 1) -> Cohort:
    return Cohort(clients, share_of(corruption, clients), share_of(dropout, clients), threat, draws)


@pytest.mark.parametrize(
    ("clients", "rate", "threat", "degree", "threshold"),
    [
        (1_000, 0.05, "passive", 29, 17),
        (10_000, 0.05, "passive", 33, 19),
        (1_000, 0.1, "passive", 45, 26),
        (10_000, 0.1, "passive", 53, 30),
        (1_000, 0.05, "active", 51, 36),
        (10_000, 0.05, "active", 61, 43),
    ],
)
def test_m14_published_degrees_and_thresholds(
    clients: int, rate: float, threat: Threat, degree: int, threshold: int
) -> None:
    found = choose(assumed(clients, rate, rate, threat))
    assert found == Neighbourhood(degree, threshold)


@pytest.mark.parametrize("clients", [100, 101, 1_000, 10_000])
@pytest.mark.parametrize("threat", ["passive", "active"])
def test_m14_what_is_chosen_is_enough_and_one_less_is_not(clients: int, threat: Threat) -> None:
    given = assumed(clients, 0.05, 0.05, threat, draws=8 * clients if threat == "active" else 1)
    found = choose(given)
    assert privacy_failure(given, found) <= Fraction(1, 2**40)
    assert loss(given, found) <= Fraction(1, 2**20)
    for degree in range(2, found.degree):
        for threshold in range(2, degree + 1):
            other = Neighbourhood(degree, threshold)
            fails = privacy_failure(given, other) > Fraction(1, 2**40) or loss(given, other) > Fraction(1, 2**20)
            assert fails or degree * clients % 2


@pytest.mark.parametrize(("population", "marked", "drawn"), [(6, 2, 3), (7, 0, 3), (7, 7, 3), (8, 5, 6), (5, 3, 5)])
def test_the_tail_equals_counting(population: int, marked: int, drawn: int) -> None:
    draws = list(itertools.combinations(range(population), drawn))
    for at_least in range(-1, drawn + 2):
        hits = sum(sum(one < marked for one in draw) >= at_least for draw in draws)
        assert tail(population, marked, drawn, at_least) == Fraction(hits, len(draws))


def ring_of(clients: int, degree: int) -> list[set[int]]:
    """The neighbours of every place, slowly."""
    offsets = set(range(1, degree // 2 + 1)) | ({clients // 2} if degree % 2 else set())
    return [{(p + s * d) % clients for d in offsets for s in (1, -1)} for p in range(clients)]


def connected(left: set[int], around: list[set[int]]) -> bool:
    seen, todo = set(), [min(left)] if left else []
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += around[one] & left
    return seen == left


@pytest.mark.parametrize(("clients", "degree"), [(8, 3), (9, 4), (10, 4), (10, 9), (11, 6)])
@pytest.mark.parametrize("corrupt", [1, 2, 3])
@pytest.mark.parametrize("threat", ["passive", "active"])
def test_the_bound_on_privacy_is_one_over_all_ways_to_place_the_corrupt(
    clients: int, degree: int, corrupt: int, threat: Threat
) -> None:
    """In a random order all sets of places are alike: every one is tried, for corrupt and for lost clients."""
    around = ring_of(clients, degree)
    for dropped, threshold in itertools.product((0, 1, 2), range(2, degree + 1)):
        given = Cohort(clients, corrupt, dropped, threat)
        needed = threshold if threat == "passive" else 2 * threshold - degree
        bad = 0
        places = list(itertools.combinations(range(clients), corrupt))
        for bought in places:
            honest = set(range(clients)) - set(bought)
            bad += any(len(around[one] & set(bought)) >= needed for one in honest)
        cut = sum(
            not connected(set(range(clients)) - set(gone), around)
            for gone in itertools.combinations(range(clients), corrupt + dropped)
        )
        true = Fraction(bad, len(places)) + Fraction(cut, math.comb(clients, corrupt + dropped))
        assert min(Fraction(1), true) <= privacy_failure(given, Neighbourhood(degree, threshold))


@pytest.mark.parametrize(("clients", "degree"), [(8, 3), (9, 4), (10, 9)])
@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_the_bound_on_loss_is_one(clients: int, degree: int, dropped: int) -> None:
    around = ring_of(clients, degree)
    places = list(itertools.combinations(range(clients), dropped))
    for threshold in range(2, degree + 1):
        lost = sum(
            any(len(around[one] - set(gone)) < threshold for one in set(range(clients)) - set(gone)) for gone in places
        )
        assert Fraction(lost, len(places)) <= loss(
            Cohort(clients, 0, dropped, "passive"), Neighbourhood(degree, threshold)
        )


@pytest.mark.parametrize(
    ("clients", "passive", "active"),
    [(3, 2, 2), (4, 2, 3), (5, 3, 3), (6, 3, 4), (7, 4, 4), (8, 4, 5), (9, 5, 5), (10, 5, 6), (64, 32, 34)],
)
def test_a_small_cohort_has_a_complete_graph_without_chance(clients: int, passive: int, active: int) -> None:
    """With one corrupt client of up to 20, the thresholds are majorities; nothing is left to probability."""
    for threat, threshold in (("passive", passive), ("active", active)):
        given = assumed(clients, 0.05, 0.05, threat)  # type: ignore[arg-type]
        found = choose(given)
        assert found == Neighbourhood(clients - 1, threshold)
        assert privacy_failure(given, found) == 0
        if threat == "active":
            assert 2 * threshold - found.degree > given.corrupt
        else:
            assert threshold > given.corrupt


def test_rates_are_decimals_rounded_up() -> None:
    assert [share_of(0.05, n) for n in (1, 20, 21, 1000, 1001)] == [1, 1, 2, 50, 51]
    assert share_of(0.1, 30) == 3
    assert share_of(0.0, 30) == 0
    assert share_of(1e-05, 200_000) == 2


def test_bits_of_a_probability() -> None:
    assert bits(Fraction(1, 2**50)) == pytest.approx(50)
    assert bits(Fraction(0)) == math.inf


def test_rates_that_no_neighbourhood_withstands_are_refused() -> None:
    with pytest.raises(Refused, match="with 300 of 600 clients corrupt and 300 dropped, no neighbourhood of up to 512"):
        choose(assumed(600, 0.5, 0.5, "active"))
    with pytest.raises(Refused, match="no neighbourhood of up to 2 is private against an active server"):
        choose(Cohort(3, 2, 0, "active"))


def read(**fields: Any) -> SecAggPlusParameters:
    return read_settings(SecAggPlusParameters, fields, where="backend 'secaggplus'")


def test_an_active_server_may_choose_among_draws_and_the_degree_allows_for_it() -> None:
    given = cohort(read(), roster=1000, present=1000)
    assert given.draws == 1000 * ATTEMPTS
    chosen = neighbourhood(read(), roster=1000, present=1000)
    assert chosen == Neighbourhood(55, 40)
    assert privacy_failure(given, chosen) <= Fraction(1, 2**40)
    assert privacy_failure(given, choose(assumed(1000, 0.05, 0.05, "active"))) > Fraction(1, 2**40)


def test_all_corrupt_clients_count_when_honest_ones_have_left() -> None:
    """A server that drops honest clients early does not get a smaller bound on the corrupt."""
    assert cohort(read(), roster=1000, present=500).corrupt == 50
    few = neighbourhood(read(), roster=1000, present=500)
    assert few.degree > neighbourhood(read(), roster=500, present=500).degree
    with pytest.raises(Refused, match="with 50 of 51 clients corrupt"):
        neighbourhood(read(), roster=1000, present=51)


@pytest.mark.parametrize("threat", ["passive", "active"])
@pytest.mark.parametrize("fields", [{"degree": 10}, {"degree": 54, "threshold": 30}, {"threshold": 20}])
def test_weak_parameters_are_refused_unless_acknowledged(threat: str, fields: dict[str, int]) -> None:
    weak = {"threat": threat, "corruption": 0.15} | fields
    with pytest.raises(Refused, match=r"singles one out with .* at most 2\^-40 is expected; leave them out, or"):
        neighbourhood(read(**weak), roster=1000, present=1000)
    accepted = neighbourhood(read(**weak, acknowledge_weak_parameters=True), roster=1000, present=1000)
    assert accepted.degree == fields.get("degree", accepted.degree)
    assert accepted.threshold == fields.get("threshold", accepted.threshold)


def test_given_parameters_that_are_strong_need_no_word() -> None:
    assert neighbourhood(read(degree=70, threshold=55), roster=1000, present=1000) == Neighbourhood(70, 55)
    assert neighbourhood(read(degree=70), roster=1000, present=1000).threshold > 40
    assert neighbourhood(read(degree=7, threat="passive"), roster=21, present=21).degree == 8  # 7 x 21 is odd


def test_threshold_one_and_degree_one_are_refused() -> None:
    for field in ("threshold", "degree"):
        with pytest.raises(Refused, match=f"{field}: .*greater than or equal to 2"):
            build("secaggplus", {field: 1})


def test_a_threshold_over_the_degree_is_refused() -> None:
    with pytest.raises(Refused, match="threshold 9, and a client has 4 neighbours among 5 clients"):
        neighbourhood(read(threshold=9), roster=5, present=5)


def test_what_is_attained_is_said_in_words() -> None:
    text = attained(read(degree=10, threat="passive", acknowledge_weak_parameters=True), 1000)
    assert text.startswith("degree 10, threshold 7: a passive server with 50 of 1000 clients singles one out with a")
    assert attained(read(), 10).endswith("never singles one out; a round that loses 1 of them never ends without a sum")
    assert attained(read(), 3).endswith("a round that loses 1 of them may end without a sum")


def test_what_is_attained_counts_losses_at_the_draw() -> None:
    wide = read(degree=400, threshold=205, acknowledge_weak_parameters=True)
    given, around = cohort(wide, roster=1000, present=1000), Neighbourhood(400, 205)
    worst = void(1000, given.corrupt, given.dropped)
    assert worst > 2**20 * loss(given, around)
    assert attained(wide, 1000).endswith(f"ends without a sum with a probability of up to 2^-{bits(worst):.1f}")
    assert void(1000, 50, 50) < Fraction(1, 2**50)
    assert void(1000, 50, 100) < Fraction(1, 2**40)
