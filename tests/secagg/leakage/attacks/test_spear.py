from __future__ import annotations

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage import Unsupported, match, observe, psnr
from secagg.leakage.attacks import Spear
from secagg.leakage.defences import ClipAndNoise, Pruning
from tests.secagg.leakage.cases import cnn, digits, mlp


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_a_whole_batch_is_exact(batch: int) -> None:
    images, labels = digits(batch)
    guess = Spear()(observe(mlp(width=256).double(), images.double(), labels, know_labels=False), seed=0)
    assert psnr(guess.images[match(guess.images, images)], images).min() > 80
    assert guess.converged


def test_twelve_images_are_exact_behind_two_hidden_layers() -> None:
    images, labels = digits(12)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 2))
    guess = Spear()(observe(model, images, labels % 2), seed=0)
    assert guess.converged
    assert psnr(guess.images[match(guess.images, images)], images).min() > 60


def test_one_hidden_layer_before_two_outputs_is_not_enough_and_it_says_so() -> None:
    images, labels = digits(8)
    guess = Spear(starts=1024)(observe(mlp(outputs=2), images, labels % 2), seed=0)
    assert not guess.converged
    assert psnr(guess.images[match(guess.images, images)], images).min() < 40


def test_noise_breaks_it_and_it_says_so() -> None:
    images, labels = digits(4)
    seen = observe(mlp(), images, labels, defence=ClipAndNoise(1.0, 0.01))
    guess = Spear(starts=1024)(seen, seed=0)
    assert not guess.converged
    assert psnr(guess.images[match(guess.images, images)], images).max() < 40


def test_what_it_cannot_solve_is_refused() -> None:
    images, labels = digits(3)
    with pytest.raises(Unsupported, match="Conv2d"):
        Spear()(observe(cnn(), images, labels), seed=0)
    with pytest.raises(Unsupported, match="no biases"):
        Spear()(observe(mlp(bias=False), images, labels), seed=0)
    with pytest.raises(Refused, match="too small for a batch of 3"):
        Spear()(observe(mlp(width=2), images, labels), seed=0)
    with pytest.raises(Refused, match="hidden in part"):
        Spear()(observe(mlp(), images, labels, defence=Pruning(0.5)), seed=0)
    twins = torch.cat([images[:2], images[:1]])
    with pytest.raises(Refused, match="rank 2, expected 3"):
        Spear()(observe(mlp(), twins, labels[[0, 1, 0]]), seed=0)
