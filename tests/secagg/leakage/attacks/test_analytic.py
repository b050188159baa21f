from __future__ import annotations

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage import LocalTraining, Unsupported, match, observe, psnr
from secagg.leakage.attacks import AnalyticLinear
from secagg.leakage.defences import SelectiveEncryption
from tests.secagg.leakage.cases import cnn, digits, mlp


def test_one_image_is_exact_through_a_normalisation() -> None:
    images, labels = digits(1)
    guess = AnalyticLinear()(observe(mlp(), images, labels))
    assert psnr(guess.images, images).item() > 100
    assert guess.converged


def test_a_known_mask_does_not_help_as_long_as_each_column_shows_a_row() -> None:
    images, labels = digits(1)
    defence = SelectiveEncryption(0.5, chosen="random")
    guess = AnalyticLinear()(observe(mlp(), images, labels, defence=defence))
    assert psnr(guess.images, images).item() > 100


def test_without_biases_the_image_comes_back_up_to_its_scale() -> None:
    images, labels = digits(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32, bias=False), nn.ReLU(), nn.Linear(32, 10))
    guess = AnalyticLinear()(observe(model, images, labels))
    assert psnr(guess.images, images / images.max()).item() > 80
    assert not guess.converged


def test_a_batch_gives_the_images_that_have_a_neuron_of_their_own() -> None:
    images, labels = digits(2)
    model = mlp(width=8)
    with torch.no_grad():
        # One neuron for bright upper halves, and one for each image's difference from the other.
        difference = (images[0] - images[1]).flatten()
        model[2].weight[0], model[2].weight[1] = difference, -difference
        middle = ((images[0] + images[1]).flatten() / 2 - 0.3) / 0.4
        model[2].bias[0], model[2].bias[1] = -difference @ middle, difference @ middle
        model[2].weight[2:], model[2].bias[2:] = 0.0, -1.0
    guess = AnalyticLinear()(observe(model, images, labels))
    assert psnr(guess.images[match(guess.images, images)], images).min() > 60
    assert not guess.converged


def test_another_first_layer_is_named() -> None:
    images, labels = digits(1)
    with pytest.raises(Unsupported, match="first layer '0' is Conv2d, expected Linear"):
        AnalyticLinear()(observe(cnn(), images, labels))
    blurred = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
    with pytest.raises(Unsupported, match="layer '2' does not read the image itself"):
        AnalyticLinear()(observe(blurred, images, labels))


def test_batches_without_biases_and_several_steps_are_refused() -> None:
    images, labels = digits(2)
    with pytest.raises(Refused, match="no gradient of the biases"):
        AnalyticLinear()(observe(mlp(bias=False), images, labels))
    with pytest.raises(Refused, match="local steps"):
        AnalyticLinear()(observe(mlp(), images, labels, local=LocalTraining(epochs=2, batch_size=2, lr=0.1)))
