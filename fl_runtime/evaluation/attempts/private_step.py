"""One step of `dp-sgd` as an honest client takes it: what leaves it is what the adversary gets to attack.

The step is the production one - each image's gradient clipped, discrete noise on the sum - with the noise multiplier of
the training beside it and all images in the batch, which is the adversary's best case: no sampling hides any of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fl_runtime.algorithms.fedavg import FedAvg
from fl_runtime.data.dataset import Rows
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.settings import NONE
from fl_runtime.trainer import Trainer
from fl_runtime.training import Training
from secagg import registry
from secagg.errors import Refused
from secagg.leakage import Observation


def accounted(cell: Cell, spent: Mapping[str, Any] | None) -> Cell:
    """The cell with the noise that its training solved for, where that is noise of steps."""
    if spent is None or spent["unit"] != "sample":
        return cell
    asked = {name: value for name, value in cell.backend.parameters.items() if name != "target_epsilon"}
    parameters = asked | {"noise_multiplier": spent["noise_multiplier"]}
    return cell.model_copy(update={"backend": cell.backend.model_copy(update={"parameters": parameters})})


def private_step(cell: Cell, seen: Observation, images: Tensor, labels: Tensor) -> Observation:
    """`seen` as it is under the cell's backend: made by a private step where that has one, else unchanged.

    Raises:
        Refused: a defence or local steps beside it, or a model with BatchNorm, which mixes samples.
    """
    parameters = registry.for_rounds(cell.backend.kind, cell.backend.parameters, cell.world.rounds)
    private = registry.build(cell.backend.kind, parameters).training
    if private is None:
        return seen
    if seen.local is not None or cell.defence.kind != NONE:
        raise Refused(f"backend {cell.backend.kind!r}: its steps are attacked one at a time, without another defence")
    trainer = Trainer(copy.deepcopy(seen.model), private=private)
    step = trainer.train(
        trainer.weights(),
        Rows(images.numpy(), labels.numpy()),
        training=Training(local_steps=1, batch_size=len(images), lr=1.0),
        algorithm=FedAvg(),
        seed=0,
    )
    gradient = [-torch.from_numpy(part.copy()) for part in step.delta.values()]
    std = float(private.parameters["noise_multiplier"]) * float(private.parameters["clip_l2"]) / len(images)
    return replace(seen, gradient=gradient, noise_std=std)
