"""Batches are secret Poisson samples; any other kind is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus.data_loader import DPDataLoader
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset

from dp.sample.poisson import SecretPoissonSampler, poisson_loader, sampler_of
from secagg.errors import Refused


def rows(count: int = 50) -> TensorDataset:
    return TensorDataset(torch.arange(count), torch.arange(count) % 2)


class Listed(Dataset[tuple[torch.Tensor, int]]):
    """A data set that is read sample by sample."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(at)), at % 2


class Streamed(IterableDataset[int]):
    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(range(50))


def test_every_sample_comes_with_its_rate_independently_of_the_others() -> None:
    steps, rate = 8000, 0.3
    masks = np.zeros((steps, 20))
    for mask, chosen in zip(masks, SecretPoissonSampler(num_samples=20, sample_rate=rate, steps=steps), strict=True):
        mask[chosen] = 1
    deviation = np.sqrt(rate * (1 - rate) / steps)
    # By chance: 20 rates over six standard errors, 4 in 10^8; 190 correlations over seven, 5 in 10^10.
    np.testing.assert_allclose(masks.mean(0), rate, atol=6 * deviation)
    correlations = np.corrcoef(masks.T) - np.eye(20)
    assert np.abs(correlations).max() < 7 / np.sqrt(steps)
    # A shuffled batch has one size; a Poisson sample has the binomial's variance, which 8000 of them tell to 1.6 %.
    assert masks.sum(1).var() == pytest.approx(20 * rate * (1 - rate), rel=0.15)


def test_a_sample_may_come_in_two_batches_of_a_pass_and_in_none() -> None:
    drawn = torch.cat([inputs for inputs, _ in poisson_loader(rows(), batch_size=10, steps=5)])
    counts = torch.bincount(drawn, minlength=50)
    assert counts.max() > 1
    assert counts.min() == 0


def test_a_rate_of_one_takes_everything() -> None:
    for inputs, _ in poisson_loader(rows(7), batch_size=100, steps=3):
        assert inputs.tolist() == list(range(7))


@pytest.mark.parametrize("dataset", [rows(), Listed()])
def test_an_empty_batch_has_the_shape_of_a_batch(dataset: Dataset[object]) -> None:
    batches = list(poisson_loader(dataset, batch_size=1, steps=60))
    assert {len(inputs) for inputs, _ in batches} >= {0, 1}
    assert {inputs.shape[1:] for inputs, _ in batches} == {batches[0][0].shape[1:]}
    assert all(len(inputs) == len(targets) for inputs, targets in batches)


def test_d2_a_training_seed_does_not_fix_the_batches() -> None:
    seen = set()
    for _ in range(3):
        torch.manual_seed(1)
        seen.add(tuple(tuple(inputs.tolist()) for inputs, _ in poisson_loader(rows(), batch_size=10, steps=5)))
    assert len(seen) == 3


def test_d1_shuffled_batches_are_refused() -> None:
    with pytest.raises(Refused, match=r"batches are shuffled, and the accountant counts on Poisson samples"):
        sampler_of(DataLoader(rows(), batch_size=10, shuffle=True))


def test_d1_batches_in_order_are_refused() -> None:
    with pytest.raises(Refused, match=r"batches are by SequentialSampler"):
        sampler_of(DataLoader(rows(), batch_size=10))
    batches = BatchSampler(range(50), batch_size=10, drop_last=False)
    with pytest.raises(Refused, match=r"the accountant counts on Poisson samples"):
        sampler_of(DataLoader(rows(), batch_sampler=batches))


def test_d1_poisson_samples_that_a_seed_fixes_are_refused() -> None:
    with pytest.raises(Refused, match=r"draws from torch's generator, which a seed fixes"):
        sampler_of(DPDataLoader.from_data_loader(DataLoader(rows(), batch_size=10)))


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(Refused, match="iterable data set"):
        poisson_loader(Streamed(), batch_size=10, steps=5)
    with pytest.raises(Refused, match="0 samples, batch_size 10, steps 5"):
        poisson_loader(rows(0), batch_size=10, steps=5)
    with pytest.raises(Refused, match="steps 0: expected at least 1"):
        poisson_loader(rows(), batch_size=10, steps=0)
    with pytest.raises(Refused, match=r"sample_rate is 1\.5"):
        SecretPoissonSampler(num_samples=3, sample_rate=1.5, steps=1)
