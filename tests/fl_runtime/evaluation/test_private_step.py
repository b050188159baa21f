"""A step of dp-sgd under attack: the production one, with the noise of the training beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fl_runtime.evaluation.attempts.private_step import accounted, private_step
from fl_runtime.evaluation.attempts.training import attacked_model
from fl_runtime.evaluation.attempts.victims import dataset, flat
from fl_runtime.evaluation.matrix.cells import Cell, Part, expand
from fl_runtime.evaluation.matrix.settings import Evaluation
from secagg.errors import Refused
from secagg.leakage import LocalTraining, Observation, observe

SPENT = {"unit": "sample", "noise_multiplier": 0.5}


@pytest.fixture
def private(settings: Callable[..., Evaluation]) -> tuple[Cell, Observation, torch.Tensor, torch.Tensor]:
    """A cell under dp-sgd, and four images with the update that a client without protection would share."""
    row = expand(settings())[0]
    backend = Part(label="d", kind="dp-sgd", parameters={"target_epsilon": 8.0, "clip_l2": 0.1})
    cell = accounted(row.model_copy(update={"backend": backend}), SPENT)
    data = dataset(cell.world)
    images, labels = torch.from_numpy(data.train.features[:4]), torch.from_numpy(data.train.labels[:4])
    model = attacked_model(cell.world, cell.defence, repeat=0, shape=data.shape, classes=len(data.classes))
    return cell, observe(model, images, labels), images, labels


def clipped_mean(seen: Observation, images: torch.Tensor, labels: torch.Tensor, clip: float) -> torch.Tensor:
    """Every image's gradient by itself, cut to `clip`: the slow twin."""
    total = torch.zeros(sum(part.numel() for part in seen.gradient))
    for image, label in zip(images, labels, strict=True):
        own = torch.from_numpy(flat(observe(seen.model, image[None], label[None]).gradient))
        total += own * min(1.0, clip / float(own.norm()))
    return total / len(images)


def test_what_is_shared_is_the_clipped_mean_with_the_noise_that_the_adversary_is_told(private) -> None:
    cell, bare, images, labels = private
    shared = private_step(cell, bare, images, labels)
    noise = torch.from_numpy(flat(shared.gradient)) - clipped_mean(bare, images, labels, 0.1)
    assert shared.noise_std == pytest.approx(0.5 * 0.1 / 4)
    # Six standard errors each, two in 10^9 by chance: of 1,810 draws the standard deviation errs by 1.7 %.
    assert len(noise) == 1810
    assert float(noise.std()) == pytest.approx(shared.noise_std, rel=0.1)
    assert abs(float(noise.mean())) < 6 * shared.noise_std / len(noise) ** 0.5


def test_the_noise_is_that_of_the_training_and_other_backends_are_left_alone(private) -> None:
    cell = private[0]
    assert cell.backend.parameters == {"clip_l2": 0.1, "noise_multiplier": 0.5}
    assert accounted(cell, {"unit": "client", "noise_multiplier": 9.0}) is cell
    assert accounted(cell, None) is cell
    plain = cell.model_copy(update={"backend": Part(label="plain", kind="plain")})
    assert private_step(plain, *private[1:]) is private[1]


def test_local_steps_and_other_defences_beside_it_are_refused(private) -> None:
    cell, bare, images, labels = private
    several = observe(bare.model, images, labels, local=LocalTraining(2, 2, 0.1))
    with pytest.raises(Refused, match="one at a time"):
        private_step(cell, several, images, labels)
    pruned = cell.model_copy(update={"defence": Part(label="p", kind="pruning", parameters={"share_pruned": 0.5})})
    with pytest.raises(Refused, match="without another defence"):
        private_step(pruned, bare, images, labels)
