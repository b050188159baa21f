"""Dealing a data set to clients: each gets its own training rows and its own test rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fl_runtime import partitions
from fl_runtime.data.dataset import Client, Dataset, Federation
from fl_runtime.partitions import Indices
from fl_runtime.seeds import generator
from secagg.errors import Refused, did_you_mean


def federate(
    dataset: Dataset,
    partition: str,
    *,
    clients: int,
    seed: int,
    arguments: Mapping[str, float] | None = None,
) -> Federation:
    """Deal `dataset` to `clients` by the named partition; `arguments` as in `partitions.ARGUMENTS`.

    Test rows: with `natural`, each site's own. Otherwise a client's are the largest draw from the held-out rows
    that has its own mix of labels (`own_mix`): a per-client figure says how the model serves that client's kind
    of cases. Such draws overlap between clients; the global test set is whole, and the same in every partition.

    Raises:
        Refused: unknown partition or argument, `natural` without sites, or too few rows.
    """
    if partition not in partitions.ARGUMENTS:
        raise Refused(f"data.partition: unknown partition {partition!r}{did_you_mean(partition, partitions.ARGUMENTS)}")
    if partition == "natural":
        if dataset.sites is None:
            raise Refused(f"data.partition: data set {dataset.name!r} has no natural sites")
        if clients != len(dataset.sites.names):
            raise Refused(f"data.clients: expected {len(dataset.sites.names)}, its sites, got {clients}")
        names = dataset.sites.names
        train = partitions.natural(dataset.sites.train, count=clients)
        test = partitions.natural(dataset.sites.test, count=clients)
    else:
        names = tuple(f"client-{number:0{len(str(clients - 1))}}" for number in range(clients))
        train = _split(dataset, partition, clients=clients, seed=seed, arguments=arguments or {})
        test = [
            own_mix(dataset.test.labels, dataset.train.labels[part], rng=generator(seed, "test", number))
            for number, part in enumerate(train)
        ]
    shards = (
        Client(name, dataset.train.take(own), dataset.test.take(held_out))
        for name, own, held_out in zip(names, train, test, strict=True)
    )
    return Federation(dataset.name, dataset.classes, dataset.shape, tuple(shards), dataset.test)


def own_mix(labels: NDArray[np.int64], shard: NDArray[np.int64], *, rng: np.random.Generator) -> Indices:
    """The largest random set of rows behind `labels` whose classes stand to each other as in `shard`.

    Counts are rounded down, but every class that both have keeps a row. Returns ascending indices.
    """
    classes, counts = np.unique(shard, return_counts=True)
    pools = [np.flatnonzero(labels == label) for label in classes]
    scale = min((len(pool) / count for pool, count in zip(pools, counts, strict=True) if len(pool)), default=0.0)
    drawn = [
        rng.choice(pool, size=min(len(pool), max(1, int(scale * count + 1e-9))), replace=False)
        for pool, count in zip(pools, counts, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _split(
    dataset: Dataset, partition: str, *, clients: int, seed: int, arguments: Mapping[str, float]
) -> list[Indices]:
    settings = _arguments(partition, arguments)
    labels = dataset.train.labels
    if partition == "iid":
        return partitions.iid(len(labels), clients=clients, seed=seed)
    if partition == "dirichlet":
        alpha, minimum = settings["alpha"], int(settings["minimum_rows"])
        return partitions.dirichlet(labels, clients=clients, alpha=alpha, minimum_rows=minimum, seed=seed)
    return partitions.label_skew(labels, clients=clients, majority=settings["majority"], seed=seed)


def _arguments(partition: str, given: Mapping[str, float]) -> dict[str, float]:
    known = partitions.ARGUMENTS[partition]
    settings = {name: default for name, default in known.items() if default is not None} | dict(given)
    for name in settings:
        if name not in known:
            raise Refused(f"data.{name}: partition {partition!r} takes no {name!r}")
    for name in known:
        if name not in settings:
            raise Refused(f"data.{name}: required by partition {partition!r}, and not given")
    return settings
