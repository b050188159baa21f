from __future__ import annotations

import pytest
import torch

from secagg.errors import Refused
from secagg.leakage import LocalTraining, observe, psnr
from secagg.leakage.attacks import DeepLeakage
from tests.secagg.leakage.cases import digits, smooth


@pytest.mark.parametrize("know_labels", [True, False])
def test_a_smooth_network_gives_its_image_to_many_decimals(know_labels: bool) -> None:
    images, labels = digits(1)
    guess = DeepLeakage(iterations=300)(observe(smooth(), images, labels, know_labels=know_labels), seed=0)
    assert psnr(guess.images, images).item() > 45
    assert torch.equal(guess.labels, labels)
    assert guess.converged
    assert guess.objective == min(guess.restarts)
    assert guess.images.min() >= 0
    assert guess.images.max() <= 1


def test_several_local_steps_are_refused() -> None:
    images, labels = digits(2)
    seen = observe(smooth(), images, labels, local=LocalTraining(epochs=2, batch_size=2, lr=0.1))
    with pytest.raises(Refused, match="LocalStepsSimulation"):
        DeepLeakage()(seen, seed=0)
