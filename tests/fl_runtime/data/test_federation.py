import numpy as np
import pytest

from fl_runtime import data
from fl_runtime.data import Dataset, Rows, Sites
from fl_runtime.data.federation import own_mix
from secagg.errors import Refused


def toy(rows=60, sites=None):
    labels = np.arange(rows) % 3
    features = np.arange(rows, dtype=np.float32)[:, None]
    return Dataset("toy", ("a", "b", "c"), Rows(features, labels), Rows(features[:30], labels[:30]), sites)


@pytest.mark.parametrize(
    ("partition", "arguments"),
    [("iid", {}), ("dirichlet", {"alpha": 0.3, "minimum_rows": 2}), ("label_skew", {"majority": 0.9})],
)
def test_every_training_row_goes_to_one_client(partition, arguments):
    federations = [data.federate(toy(), partition, clients=4, seed=s, arguments=arguments) for s in (1, 1, 2)]
    dealt = [[c.train.features[:, 0].tolist() for c in f.clients] for f in federations]
    assert dealt[0] == dealt[1]
    assert dealt[0] != dealt[2]
    assert sorted(row for part in dealt[0] for row in part) == list(range(60))
    for client in federations[0].clients:
        np.testing.assert_array_equal(client.train.features[:, 0] % 3, client.train.labels)
        np.testing.assert_array_equal(client.test.features[:, 0] % 3, client.test.labels)
    assert len(federations[0].test) == 30
    assert len({c.name for c in federations[0].clients}) == 4


def test_natural_clients_are_the_sites_with_their_own_test_rows():
    sites = Sites(("north", "south", "west"), np.arange(60) // 20, np.arange(30) // 10)
    federation = data.federate(toy(sites=sites), "natural", clients=3, seed=0)
    assert [c.name for c in federation.clients] == ["north", "south", "west"]
    assert [c.test.features[0, 0] for c in federation.clients] == [0, 10, 20]
    assert [len(c.train) for c in federation.clients] == [20, 20, 20]


@pytest.mark.parametrize(
    ("partition", "clients", "arguments", "says"),
    [
        ("dirichle", 3, {}, "unknown partition 'dirichle'.*'dirichlet'"),
        ("natural", 3, {}, "no natural sites"),
        ("dirichlet", 3, {}, "data.alpha: required"),
        ("iid", 3, {"alpha": 1.0}, "data.alpha: partition 'iid' takes no 'alpha'"),
        ("iid", 61, {}, "60 rows cannot give 61 clients"),
    ],
)
def test_refusals(partition, clients, arguments, says):
    with pytest.raises(Refused, match=says):
        data.federate(toy(), partition, clients=clients, seed=0, arguments=arguments)


def test_natural_takes_exactly_the_sites():
    sites = Sites(("north", "south"), np.arange(60) // 30, np.arange(30) // 15)
    with pytest.raises(Refused, match=r"expected 2"):
        data.federate(toy(sites=sites), "natural", clients=3, seed=0)


def test_own_mix_is_the_largest_draw_with_the_shards_proportions():
    labels = np.repeat([0, 1, 2], [100, 50, 50])
    shard = np.repeat([0, 1], [95, 5])
    drawn = own_mix(labels, shard, rng=np.random.default_rng(0))
    assert np.bincount(labels[drawn], minlength=3).tolist() == [100, 5, 0]
    assert len(np.unique(drawn)) == 105
    rare = own_mix(labels, np.repeat([0, 1], [1, 999]), rng=np.random.default_rng(0))
    assert np.bincount(labels[rare], minlength=3).tolist() == [1, 50, 0]
    assert len(own_mix(labels, np.array([7]), rng=np.random.default_rng(0))) == 0
