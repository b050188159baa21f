"""Partitions: which rows of a data set each client holds.

Every function returns one int64 array of row indices a client, ascending. Together the arrays cover every row
exactly once, and the same seed gives the same partition. A partition that cannot be made is `Refused`.

| name       | rows of a client                                                                  |
|------------|-----------------------------------------------------------------------------------|
| natural    | those of one real site                                                            |
| iid        | a uniform share                                                                   |
| dirichlet  | of each class, a share drawn from Dirichlet(alpha) over the clients (Hsu et al. 2019) |
| label_skew | `majority` of them from the client's own classes, the rest from the others evenly |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_runtime.seeds import generator
from secagg.errors import Refused

Indices = NDArray[np.int64]

# What each partition takes in [data] beside `clients`, and what it is when not given (None: required).
ARGUMENTS: dict[str, dict[str, float | None]] = {
    "natural": {},
    "iid": {},
    "dirichlet": {"alpha": None, "minimum_rows": 10},
    "label_skew": {"majority": None},
}


def natural(sites: NDArray[np.int64], *, count: int) -> list[Indices]:
    """Rows by site: `sites` of shape `(rows,)` holds numbers in `0..count-1`. Refuses a site without rows."""
    parts = [np.flatnonzero(sites == site) for site in range(count)]
    if empty := [site for site, part in enumerate(parts) if not len(part)]:
        raise Refused(f"partition natural: site {empty[0]} holds no rows")
    return parts


def iid(rows: int, *, clients: int, seed: int) -> list[Indices]:
    """`rows` shuffled and dealt evenly; sizes differ by one at most."""
    _enough(rows, clients=clients, minimum_rows=1)
    shuffled = generator(seed, "iid").permutation(rows)
    return [np.sort(part) for part in np.array_split(shuffled, clients)]


def dirichlet(labels: NDArray[np.int64], *, clients: int, alpha: float, minimum_rows: int, seed: int) -> list[Indices]:
    """Of each class, client k holds a share p_k with p drawn from Dirichlet(alpha, ..., alpha).

    The smaller `alpha`, the stronger the skew. A client left with fewer than `minimum_rows` takes rows, drawn
    uniformly, from whoever holds most at that moment, until it has them.
    """
    _enough(len(labels), clients=clients, minimum_rows=minimum_rows)
    if not alpha > 0:
        raise Refused(f"partition dirichlet: alpha: expected more than 0, got {alpha}")
    rng = generator(seed, "dirichlet")
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        for part, dealt in zip(parts, deal(rows, rng.dirichlet(np.full(clients, alpha))), strict=True):
            part.extend(dealt.tolist())
    for part in parts:
        while len(part) < minimum_rows:
            richest = max(parts, key=len)
            part.append(richest.pop(int(rng.integers(len(richest)))))
    return [np.sort(np.asarray(part, np.int64)) for part in parts]


def label_skew(labels: NDArray[np.int64], *, clients: int, majority: float, seed: int) -> list[Indices]:
    """Every client holds `majority` of its rows from its own classes, and the rest evenly from the others'.

    Own classes: with at least as many clients as classes, client k has the one class k mod classes; with fewer,
    class c belongs to client c mod clients. Either way the classes fall into G groups of own classes, and
    demanding the mix of every client *and* that each row is used fixes how many rows the clients of group g
    hold together: with b = (1 - majority) / (G - 1),

        rows_g = (own_g - b * rows) / (majority - b)

    so clients of a scarce class are small, not impure. Clients of a group share alike. Counts are whole, so a
    client's mix is off by a row a group at most. Within a group of several own classes the rows are shuffled.

    Raises:
        Refused: a group with less than the share b of all rows, where no such partition exists, with the
            smallest majority that does.
    """
    _enough(len(labels), clients=clients, minimum_rows=1)
    classes, positions = np.unique(labels, return_inverse=True)
    groups = min(clients, len(classes))
    if groups < 2:
        raise Refused("partition label_skew: needs at least two classes and two clients")
    if not 1 / groups < majority <= 1:
        raise Refused(f"partition label_skew: majority: expected above {1 / groups:.3g} up to 1, got {majority}")
    home = positions % groups
    own = np.bincount(home, minlength=groups)
    minority = (1 - majority) / (groups - 1)
    sizes = (own - minority * len(labels)) / (majority - minority)
    members = [np.arange(group, clients, groups) for group in range(groups)]
    if (sizes < [len(ids) for ids in members]).any():
        scarce = int(np.argmin(own))
        least = 1 - (groups - 1) * own[scarce] / len(labels)
        raise Refused(
            f"partition label_skew: class {classes[scarce]} is too rare ({own[scarce]} of {len(labels)} rows) for "
            f"majority {majority} over {clients} clients; expected clearly above {least:.3g}, or fewer clients"
        )
    rng = generator(seed, "label_skew")
    parts: list[list[int]] = [[] for _ in range(clients)]
    for group in range(groups):
        mix = np.where(np.arange(groups) == group, majority, minority) * sizes
        rows = rng.permutation(np.flatnonzero(home == group))
        for taker, dealt in enumerate(deal(rows, mix / mix.sum())):
            ids = np.roll(members[taker], group)
            for client, share in zip(ids, np.array_split(dealt, len(ids)), strict=True):
                parts[client].extend(share.tolist())
    if empty := [client for client, part in enumerate(parts) if not part]:
        raise Refused(f"partition label_skew: client {empty[0]} would hold no row; expected fewer clients")
    return [np.sort(np.asarray(part, np.int64)) for part in parts]


def deal(rows: Indices, shares: NDArray[np.float64]) -> list[Indices]:
    """Cut `rows` in order into consecutive parts, proportional to `shares` (sum 1): each row goes to one part."""
    ends = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
    return np.split(rows, np.clip(ends, 0, len(rows)))


def _enough(rows: int, *, clients: int, minimum_rows: int) -> None:
    if clients < 1 or rows < clients * minimum_rows:
        raise Refused(f"partition: {rows} rows cannot give {clients} clients at least {minimum_rows} each")
