"""Poisson sampling: every sample is in every batch with the same chance, independently, and nobody knows which.

The accountant counts on it. Shuffled batches of one size, accounted as if they were Poisson samples, can overclaim up
to fourfold (Annamalai et al. 2024, arXiv 2411.10614), so that training takes batches from here alone.

Opacus' sampler asks torch's generator, which a training seed fixes and a few outputs reveal; who knows the batches owes
nothing to sampling. Here the coins come from a cryptographic stream.

Guarantee: given uniform bytes from `rng`, batches are independent Poisson samples of rate `sample_rate`, less 2^-64.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from opacus.data_loader import wrap_collate_with_empty
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset, default_collate

from secagg.errors import Refused
from secagg.gaussian import Keystream, Rng


class SecretPoissonSampler(UniformWithReplacementSampler):  # type: ignore[misc]
    """Opacus' sampler with coins from a cryptographic stream. Yields int64 index tensors of varying length, or empty.

    Args:
        num_samples: how many there are to choose from.
        sample_rate: the chance of each, in (0, 1].
        steps: batches in a pass.
        rng: where the key of every pass comes from.
    """

    def __init__(self, *, num_samples: int, sample_rate: float, steps: int, rng: Rng = secrets.token_bytes) -> None:
        if not 0 < sample_rate <= 1:
            raise Refused(f"sample_rate is {sample_rate}, expected a number above 0 and at most 1")
        super().__init__(num_samples=num_samples, sample_rate=sample_rate, steps=steps)
        self._rng = rng

    def __iter__(self) -> Iterator[torch.Tensor]:
        stream = Keystream(self._rng)
        # Rounded down: the rate that is accounted for is never below the one that is drawn.
        below = math.floor(self.sample_rate * 2.0**64)
        for _ in range(self.steps):
            words = stream.words(self.num_samples)
            chosen = np.arange(self.num_samples) if below == 2**64 else np.flatnonzero(words < np.uint64(below))
            yield torch.from_numpy(chosen)


def sample_rate(rows: int, batch_size: int) -> float:
    """The chance of each of `rows` samples to be in a batch that holds `batch_size` on average, or all of them."""
    return min(batch_size, rows) / rows


def poisson_loader(dataset: Any, *, batch_size: int, steps: int, rng: Rng = secrets.token_bytes) -> DataLoader[Any]:
    """A loader of `steps` Poisson samples of `dataset`, of `batch_size` samples *on average*, some perhaps empty.

    A `TensorDataset` is read by index, a batch at once; others sample by sample, with torch's default collation.

    Raises:
        Refused: an iterable data set, which cannot be sampled, an empty one, or numbers below 1.
    """
    if isinstance(dataset, IterableDataset):
        raise Refused("dp-sgd: an iterable data set is read in its own order, expected one that has a length")
    if not len(dataset) or batch_size < 1 or steps < 1:
        raise Refused(
            f"dp-sgd: {len(dataset)} samples, batch_size {batch_size}, steps {steps}: expected at least 1 of each"
        )
    rate = sample_rate(len(dataset), batch_size)
    sampler = SecretPoissonSampler(num_samples=len(dataset), sample_rate=rate, steps=steps, rng=rng)
    if isinstance(dataset, TensorDataset):
        return DataLoader(dataset, sampler=sampler, batch_size=None)
    first = dataset[0]
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=wrap_collate_with_empty(
            collate_fn=default_collate,
            sample_empty_shapes=[(0, *getattr(part, "shape", ())) for part in first],
            dtypes=[getattr(part, "dtype", type(part)) for part in first],
        ),
    )


def sampler_of(loader: DataLoader[Any]) -> SecretPoissonSampler:
    """The Poisson sampler of a loader. Raises `Refused` for any other kind of batch, naming it (D1)."""
    for sampler in (loader.batch_sampler, loader.sampler):
        if isinstance(sampler, SecretPoissonSampler):
            return sampler
    if isinstance(loader.batch_sampler, UniformWithReplacementSampler):
        raise Refused(
            "dp-sgd: the Poisson sampler draws from torch's generator, which a seed fixes; use dp.sample.poisson_loader"
        )
    kind = "shuffled" if isinstance(loader.sampler, RandomSampler) else f"by {type(loader.sampler).__name__}"
    raise Refused(
        f"dp-sgd: batches are {kind}, and the accountant counts on Poisson samples: epsilon would be understated; use "
        "dp.sample.poisson_loader"
    )
