import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_runtime import partitions
from secagg.errors import Refused

SEEDS = st.integers(0, 2**32)


def labels_of(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


def assert_exact_cover(parts, rows, clients):
    assert len(parts) == clients
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@given(rows=st.integers(1, 300), clients=st.integers(1, 20), seed=SEEDS)
def test_iid_covers_evenly_and_repeats(rows, clients, seed):
    if rows < clients:
        with pytest.raises(Refused, match=r"cannot give"):
            partitions.iid(rows, clients=clients, seed=seed)
        return
    parts = partitions.iid(rows, clients=clients, seed=seed)
    assert_exact_cover(parts, rows, clients)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert_same(parts, partitions.iid(rows, clients=clients, seed=seed))


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 80), min_size=1, max_size=6).filter(lambda c: sum(c) >= 40),
    clients=st.integers(1, 10),
    alpha=st.sampled_from([0.01, 0.1, 0.3, 1.0, 100.0]),
    minimum_rows=st.integers(0, 4),
    seed=SEEDS,
)
def test_dirichlet_covers_keeps_the_minimum_and_repeats(counts, clients, alpha, minimum_rows, seed):
    labels = labels_of(counts, seed)
    arguments = {"clients": clients, "alpha": alpha, "minimum_rows": minimum_rows, "seed": seed}
    parts = partitions.dirichlet(labels, **arguments)
    assert_exact_cover(parts, len(labels), clients)
    assert min(map(len, parts)) >= minimum_rows
    assert_same(parts, partitions.dirichlet(labels, **arguments))


def test_a_smaller_alpha_skews_more():
    labels = labels_of([200] * 10, 0)

    def largest_class_share(alpha):
        parts = partitions.dirichlet(labels, clients=8, alpha=alpha, minimum_rows=10, seed=1)
        return np.mean([np.bincount(labels[part]).max() / len(part) for part in parts])

    assert largest_class_share(0.05) > largest_class_share(0.5) + 0.1 > largest_class_share(100) + 0.2
    assert largest_class_share(1e6) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_dirichlet_refuses_a_bad_alpha(alpha):
    with pytest.raises(Refused, match=r"alpha"):
        partitions.dirichlet(labels_of([9, 9], 0), clients=2, alpha=alpha, minimum_rows=1, seed=0)


def test_dirichlet_refuses_a_minimum_that_the_rows_cannot_meet():
    with pytest.raises(Refused, match=r"18 rows cannot give 3 clients at least 7"):
        partitions.dirichlet(labels_of([9, 9], 0), clients=3, alpha=1, minimum_rows=7, seed=0)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(100, 300), min_size=2, max_size=8),
    clients=st.integers(2, 8),
    majority=st.sampled_from([0.8, 0.9, 0.95, 1.0]),
    seed=SEEDS,
)
def test_label_skew_covers_and_gives_every_client_its_mix(counts, clients, majority, seed):
    labels = labels_of(counts, seed)
    groups = min(clients, len(counts))
    own = np.bincount(np.arange(len(counts)) % groups, counts)
    if own.min() < (1 - majority) / (groups - 1) * len(labels) + clients + 1:
        return  # may be refused: see below
    parts = partitions.label_skew(labels, clients=clients, majority=majority, seed=seed)
    assert_exact_cover(parts, len(labels), clients)
    assert_same(parts, partitions.label_skew(labels, clients=clients, majority=majority, seed=seed))
    for client, part in enumerate(parts):
        held = np.count_nonzero(labels[part] % groups == client % groups)
        assert abs(held - majority * len(part)) <= groups + 1


def test_label_skew_of_a_scarce_class_makes_small_clients_not_impure_ones():
    """The pneumonia subset: 388 normals, 3,494 pneumonias, five clients, 95/5."""
    labels = labels_of([388, 3494], 3)
    parts = partitions.label_skew(labels, clients=5, majority=0.95, seed=1)
    shares = [np.mean(labels[part] == client % 2) for client, part in enumerate(parts)]
    assert shares == pytest.approx([0.95] * 5, abs=0.01)
    assert [len(part) for part in parts] == pytest.approx([72, 1833, 72, 1833, 72], abs=2)


def test_label_skew_refuses_what_cannot_be_and_names_what_could():
    with pytest.raises(Refused, match=r"class 0 is too rare \(5 of 105 rows\).*above 0.952"):
        partitions.label_skew(labels_of([5, 100], 0), clients=4, majority=0.9, seed=0)
    with pytest.raises(Refused, match=r"majority: expected above 0.5"):
        partitions.label_skew(labels_of([50, 50], 0), clients=4, majority=0.5, seed=0)
    with pytest.raises(Refused, match=r"two classes"):
        partitions.label_skew(labels_of([50], 0), clients=4, majority=0.9, seed=0)


def test_natural_is_the_sites_and_refuses_an_empty_one():
    sites = np.array([2, 0, 0, 1, 2])
    assert [part.tolist() for part in partitions.natural(sites, count=3)] == [[1, 2], [3], [0, 4]]
    with pytest.raises(Refused, match=r"site 3"):
        partitions.natural(sites, count=4)
