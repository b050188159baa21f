"""The noise of a step: its size, where it comes from, and an attack that finds naive noise and not this."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dp.sample import optimizer as optimizers
from dp.sample.optimizer import STEPS_PER_CLIP, DiscreteNoiseOptimizer, noisy_sum
from secagg.errors import InvalidUpdate, Refused

Draw = Callable[[float], NDArray[np.float32]]


@pytest.mark.parametrize(("clip_l2", "multiplier"), [(1.0, 1.0), (0.03, 0.5), (700.0, 12.0)])
def test_the_noise_has_the_size_that_was_asked_for(clip_l2: float, multiplier: float) -> None:
    signal = np.full(40_000, 0.25 * clip_l2, np.float32)
    noise = noisy_sum(signal, clip_l2, noise_multiplier=multiplier) - signal.astype(np.float64)
    sigma = multiplier * clip_l2
    assert abs(noise.mean()) < 6 * sigma / 200
    assert noise.std() == pytest.approx(sigma, rel=6 / np.sqrt(2 * noise.size))
    assert np.mean(np.abs(noise) > 2 * sigma) == pytest.approx(0.0455, abs=0.006)


def test_the_noise_covers_rounding_and_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """sigma over noise_multiplier, in steps, is the clip, sqrt(d) for the grid, and 2^-12 for float32."""
    asked: list[float] = []

    def draw(sigma: float, size: int, *, rng: object) -> NDArray[np.int64]:
        asked.append(sigma)
        return np.zeros(size, np.int64)

    monkeypatch.setattr(optimizers, "discrete_gaussian", draw)
    signal = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    unchanged = noisy_sum(signal, 0.3, noise_multiplier=2.0)
    np.testing.assert_array_equal(unchanged, signal)
    assert asked[0] >= 2.0 * (STEPS_PER_CLIP * (1 + 2.0**-12) + 100)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("nan"), float("inf"), 2.0**-7])
def test_no_noise_is_not_called_differential_privacy(multiplier: float) -> None:
    with pytest.raises(Refused, match="noise_multiplier is"):
        noisy_sum(np.zeros(3, np.float32), 1.0, noise_multiplier=multiplier)
    parameter = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(Refused, match="noise_multiplier is"):
        DiscreteNoiseOptimizer(
            torch.optim.SGD([parameter], lr=1.0), noise_multiplier=multiplier, max_grad_norm=1.0, expected_batch_size=1
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_sum_that_is_not_finite_is_an_invalid_update(bad: float) -> None:
    with pytest.raises(InvalidUpdate, match="training diverged"):
        noisy_sum(np.array([0, bad, 1], np.float32), 1.0, noise_multiplier=1.0)


def test_d2_a_training_seed_fixes_no_noise() -> None:
    """Clients, restarts and restored snapshots may share every seed there is."""
    signal, seen = np.zeros(4, np.float32), set()
    for _ in range(3):
        torch.manual_seed(1)
        np.random.seed(1)
        seen.add(noisy_sum(signal, 1.0, noise_multiplier=1.0).tobytes())
    assert len(seen) == 3


def test_d2_a_fixed_source_of_noise_is_refused() -> None:
    with pytest.raises(Refused, match="gave the same key twice"):
        noisy_sum(np.zeros(3, np.float32), 1.0, noise_multiplier=1.0, rng=bytes)


def test_d3_without_a_secure_source_there_is_no_noise() -> None:
    with pytest.raises(Refused, match="no secure noise is available"):
        noisy_sum(np.zeros(3, np.float32), 1.0, noise_multiplier=1.0, rng=lambda count: secrets.token_bytes(count - 1))


def naive(total: float) -> NDArray[np.float32]:
    """One coordinate, released many times as `torch.normal` would have it."""
    noise = torch.normal(0.0, 1.0, (200_000,), generator=torch.Generator().manual_seed(5))
    return (total + noise).numpy()


def ours(total: float) -> NDArray[np.float32]:
    return noisy_sum(np.full(200_000, total, np.float32), 1.0, noise_multiplier=1.0)


def tell_apart(draw: Draw) -> float:
    """How well a bit of a float tells a total of 1 from one of 0, among outputs near zero: 0 is not at all.

    1 + noise near 0 is a difference of floats near 1, so that it has no bits below 2^-24: a gap that noise alone does
    not leave (Mironov 2012; Haney et al. 2021, arXiv 2112.05307).
    """

    def coarse(total: float) -> float:
        released = draw(total).astype(np.float64)
        near = released[np.abs(released) < 2.0**-5]
        return float(np.mean(near * 2.0**24 == np.rint(near * 2.0**24)))

    return abs(coarse(1.0) - coarse(0.0))


def test_d4_the_gaps_between_floats_betray_naive_noise_and_not_ours() -> None:
    assert tell_apart(naive) > 0.8
    assert tell_apart(ours) < 0.05


def test_an_optimizer_releases_the_noisy_mean_over_the_expected_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place, over all parameters at once, and divided by what is public."""
    calls = []

    def add_one(total: NDArray[np.float32], clip_l2: float, **settings: object) -> NDArray[np.float32]:
        calls.append((total.copy(), clip_l2, SimpleNamespace(**settings).noise_multiplier))
        return total + 1

    monkeypatch.setattr(optimizers, "noisy_sum", add_one)
    flat = torch.arange(6.0)
    first, second = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))
    first.grad, second.grad = flat[:4].view(2, 2), flat[4:]
    private = DiscreteNoiseOptimizer(
        torch.optim.SGD([first, second], lr=1.0), noise_multiplier=3.0, max_grad_norm=0.5, expected_batch_size=4
    )
    private.step()
    ((total, clip_l2, multiplier),) = calls
    np.testing.assert_array_equal(total, np.arange(6, dtype=np.float32))
    assert (clip_l2, multiplier) == (0.5, 3.0)
    np.testing.assert_allclose(flat, (np.arange(6) + 1) / 4)
    np.testing.assert_allclose(first.detach(), -(np.arange(4).reshape(2, 2) + 1) / 4)
