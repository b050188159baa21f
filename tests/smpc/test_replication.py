"""Who holds which share, exhaustively for every threshold of up to sixteen aggregators that is taken."""

from __future__ import annotations

import itertools
from math import comb

import pytest

from secagg.errors import Refused
from smpc.additive.replication import MAX_SHARES, Replication, check_threshold

SMALL = [(k, t) for k in range(2, 8) for t in range(2, k + 1)]


def sharing(aggregators: int, threshold: int) -> Replication:
    return Replication((f"aggregator-{number}" for number in range(1, aggregators)), threshold)


def held(shares: Replication, helpers: tuple[str, ...]) -> set[int]:
    return {share for helper in helpers for share in shares.held_by(helper)}


@pytest.mark.parametrize(("k", "t"), SMALL)
def test_t_minus_one_helpers_hold_every_share_and_one_fewer_lack_exactly_one(k: int, t: int) -> None:
    shares = sharing(k, t)
    everything = set(range(len(shares.holders)))
    for helpers in itertools.combinations(shares.helpers, t - 1):
        assert held(shares, helpers) == everything
    for helpers in itertools.combinations(shares.helpers, t - 2):
        assert len(everything - held(shares, helpers)) == 1


@pytest.mark.parametrize(("k", "t"), SMALL)
def test_shares_and_their_holders_are_as_many_as_stated(k: int, t: int) -> None:
    shares = sharing(k, t)
    assert len(shares.holders) == len(set(shares.holders)) == comb(k - 1, t - 2)
    assert {len(holders) for holders in shares.holders} == {k - t + 1}
    assert {len(shares.held_by(helper)) for helper in shares.helpers} == {comb(k - 2, t - 2)} == {shares.each}
    assert shares.replicated == (t < k)
    for helper in shares.helpers:
        assert list(shares.held_by(helper)) == [s for s, holders in enumerate(shares.holders) if helper in holders]


@pytest.mark.parametrize(("k", "t"), SMALL)
def test_each_share_is_asked_of_one_live_holder_and_nobody_of_many_more_than_another(k: int, t: int) -> None:
    shares = sharing(k, t)
    for count in range(t - 1, k):
        for live in itertools.combinations(shares.helpers, count):
            given = shares.assign(live)
            assert sorted(share for some in given.values() for share in some) == list(range(len(shares.holders)))
            assert all(helper in live and set(some) <= set(shares.held_by(helper)) for helper, some in given.items())
    everybody = [len(some) for some in shares.assign(shares.helpers).values()]
    assert max(everybody) <= -(-len(shares.holders) // len(shares.helpers)) + 1


def test_all_aggregators_needed_is_one_share_a_helper() -> None:
    assert sharing(4, 4).holders == (("aggregator-1",), ("aggregator-2",), ("aggregator-3",))


@pytest.mark.parametrize("k", range(2, 17))
def test_a_threshold_is_taken_up_to_64_shares_and_refused_with_those_that_would_do(k: int) -> None:
    fine = [t for t in range(2, k + 1) if comb(k - 1, t - 2) <= MAX_SHARES]
    assert {2, k} <= set(fine)
    for t in range(2, k + 1):
        if t in fine:
            check_threshold(k, t)
        else:
            would_do = f"{', '.join(map(str, fine[:-1]))} or {k} would do, or fewer aggregators"
            with pytest.raises(Refused, match=f"takes {comb(k - 1, t - 2)} shares, expected 64 at most: .* {would_do}"):
                check_threshold(k, t)


@pytest.mark.parametrize("threshold", [-1, 0, 1, 4])
def test_a_threshold_that_hides_nothing_or_that_nobody_reaches_is_refused(threshold: int) -> None:
    """With threshold 1 the server alone would see every update."""
    with pytest.raises(Refused, match=f"threshold is {threshold}, expected 2 to 3"):
        check_threshold(3, threshold)
