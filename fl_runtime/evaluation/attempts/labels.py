"""Labels out of an update: as an attack of its own, and as what a reconstruction without labels begins with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fl_runtime.evaluation.attempts.measured import Attempt, Measured
from fl_runtime.evaluation.attempts.victims import rounds
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.world import dataset
from fl_runtime.seeds import derive
from secagg.leakage import Observation, label_accuracy
from secagg.leakage.attacks.labels import IDLG, RLU

GUESSES = 2000


def infer(cell: Cell, seen: Observation, *, seed: int) -> Tensor:
    """The labels of an observation as an adversary with public rows infers them: int64, shape `(examples,)`."""
    if seen.examples == 1 and (seen.local is None or seen.local.steps(1) == 1):
        return IDLG()(seen, seed=seed)
    data = dataset(cell.world)
    public = RLU(torch.from_numpy(data.test.features), torch.from_numpy(data.test.labels))
    return public(seen, seed=seed)


def read_labels(cell: Cell, model: nn.Module) -> Measured:
    """Which labels the victims' updates give away, each as often as it occurs."""
    attempts = []
    for number, attacked in enumerate(rounds(cell, model)):
        for place, sight in enumerate(attacked.sights):
            seed = derive(cell.world.seed, "labels", cell.repeat, number, place)
            guess = infer(cell, sight.seen.with_labels(None), seed=seed)
            right = round(label_accuracy(guess, sight.labels, measure="counts") * len(sight.labels))
            attempts.append(
                Attempt(
                    sight.in_words,
                    cohort=len(sight.view.over),
                    means={"label_existence": [label_accuracy(guess, sight.labels, measure="existence")]},
                    shares={"label": [1] * right + [0] * (len(sight.labels) - right)},
                )
            )
        if not attacked.sights:
            attempts.append(Attempt.nothing("label", sum(len(client.labels) for client in attacked.bystanders)))
    return Measured.of(
        attempts,
        needs=["the gradient of the last layer", "public images"],
        by_chance=_by_chance(cell, len(attempts[-1].shares["label"])),
        upload_bytes=attacked.upload_bytes,
    )


def _by_chance(cell: Cell, examples: int) -> float:
    """The share of labels that a draw from the public ones finds."""
    classes = dataset(cell.world).test.labels
    chance = np.random.default_rng(derive(cell.world.seed, "blind labels"))
    draws = torch.from_numpy(chance.choice(classes, (GUESSES, 2, examples)))
    return float(np.mean([label_accuracy(one, other, measure="counts") for one, other in draws]))
