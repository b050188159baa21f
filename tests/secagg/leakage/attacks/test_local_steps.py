from __future__ import annotations

import pytest
import torch
from torch import nn

from secagg.errors import Refused
from secagg.leakage import LocalTraining, match, observe, psnr
from secagg.leakage.attacks import LocalStepsSimulation
from secagg.leakage.attacks.local_steps import in_one_step, simulate
from secagg.leakage.attacks.matching import Matching
from tests.secagg.leakage.cases import cnn, digits

LOCAL = LocalTraining(epochs=2, batch_size=1, lr=0.05)


def test_the_simulation_is_the_clients_training() -> None:
    images, labels = digits(1)
    seen = observe(cnn(norm=True).train(), images, labels, local=LOCAL)
    update = simulate(Matching(seen, distance="cosine"), images.repeat(2, 1, 1, 1), labels, LOCAL)
    for mine, theirs in zip(update, seen.gradient, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)


def test_images_come_back_from_several_steps() -> None:
    images, labels = digits(2)
    seen = observe(cnn(), images, labels, local=LOCAL)
    guess = LocalStepsSimulation(iterations=150, tv=1e-5)(seen, seed=0)
    assert psnr(guess.images[match(guess.images, images)], images).mean() > 18
    assert guess.images.shape == images.shape
    assert guess.converged


def test_small_steps_are_taken_for_one_and_their_order_need_not_be_guessed() -> None:
    images, labels = digits(4)
    small = LocalTraining(epochs=2, batch_size=2, lr=1e-3)
    seen = observe(cnn(), images, labels, local=small)
    once = in_one_step(Matching(seen, distance="cosine"), images, labels, small)
    for mine, theirs in zip(once, seen.gradient, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0.05)
    guess = LocalStepsSimulation(one_step=300, iterations=1, tv=1e-5)(seen, seed=0)
    assert psnr(guess.images[match(guess.images, images)], images).mean() > 50
    assert guess.iterations == 301


def test_large_steps_are_taken_one_by_one() -> None:
    images, labels = digits(2)
    large = LocalTraining(epochs=2, batch_size=1, lr=1.0)
    seen = observe(cnn(), images, labels, local=large)
    once = LocalStepsSimulation(one_step=100, iterations=1, tv=1e-5)(seen, seed=0)
    simulated = LocalStepsSimulation(one_step=100, iterations=100, tv=1e-5)(seen, seed=0)
    assert simulated.objective < 0.8 * once.objective
    assert simulated.iterations == 200


def test_examples_that_are_no_images_need_no_total_variation() -> None:
    images, labels = digits(2)
    seen = observe(nn.Linear(64, 10), images.flatten(1), labels, local=LOCAL)
    with pytest.raises(Refused, match=r"tv is 0.0003: total variation needs shape .*, got \[64\]"):
        LocalStepsSimulation()(seen, seed=0)
    assert LocalStepsSimulation(iterations=2, tv=0)(seen, seed=0).images.shape == (2, 64)


def test_a_plain_gradient_and_models_that_draw_are_refused() -> None:
    images, labels = digits(1)
    with pytest.raises(Refused, match="local is None"):
        LocalStepsSimulation()(observe(cnn(), images, labels), seed=0)
    drawing = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    with pytest.raises(Refused, match="draws for itself"):
        LocalStepsSimulation()(observe(drawing, images, labels, local=LOCAL), seed=0)
