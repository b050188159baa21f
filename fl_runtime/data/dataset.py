"""What a data set is, before and after it is dealt to clients. Arrays only: no torch, no file formats."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Samples: `features` float32 of shape `(n, *shape)`, `labels` int64 of shape `(n,)` in 0..classes-1."""

    features: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Rows:
        """The rows at `indices`, copied."""
        return Rows(self.features[indices], self.labels[indices])


@dataclass(frozen=True)
class Sites:
    """Where rows come from: names, and for each training and test row the number of its site (int64)."""

    names: tuple[str, ...]
    train: NDArray[np.int64] = field(repr=False)
    test: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class Dataset:
    """A data set with a held-out test part; `sites` where it came from several places, else None."""

    name: str
    classes: tuple[str, ...]
    train: Rows
    test: Rows
    sites: Sites | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: `(features,)` or `(channels, height, width)`."""
        return self.train.features.shape[1:]


@dataclass(frozen=True)
class Client:
    """One client's own training and test rows. The test part may be empty."""

    name: str
    train: Rows
    test: Rows


@dataclass(frozen=True)
class Federation:
    """A data set dealt to clients. `test` holds the test rows of all of them, each once."""

    dataset: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    clients: tuple[Client, ...]
    test: Rows
