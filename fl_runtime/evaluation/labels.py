"""Labels out of an update: as an attack of its own, and as what a reconstruction without labels begins with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fl_runtime.evaluation.cells import Cell
from fl_runtime.evaluation.malicious import parameters_of
from fl_runtime.evaluation.measured import Measured
from fl_runtime.evaluation.victims import dataset, rounds
from fl_runtime.seeds import derive
from secagg.leakage import Observation, label_accuracy
from secagg.leakage.attacks.labels import IDLG, RLU

GUESSES = 2000


def infer(cell: Cell, seen: Observation, *, seed: int) -> Tensor:
    """The labels of an observation as an adversary with public rows infers them: int64, shape `(examples,)`."""
    if seen.examples == 1 and (seen.local is None or seen.local.steps(1) == 1):
        return IDLG()(seen, seed=seed)
    data = dataset(cell.world.model_dump_json())
    public = RLU(torch.from_numpy(data.test.features), torch.from_numpy(data.test.labels))
    return public(seen, seed=seed)


def read_labels(cell: Cell, model: nn.Module) -> Measured:
    """Which labels the victims' updates give away, each as often as it occurs."""
    parameters_of(cell)
    found = Measured(success="label", needs=["the gradient of the last layer", "public images"])
    for number, attacked in enumerate(rounds(cell, model)):
        found.upload_bytes = attacked.upload_bytes
        for place, sight in enumerate(attacked.sights):
            found.saw(sight.in_words)
            found.cohort = len(sight.view.over)
            seed = derive(cell.world.seed, "labels", cell.repeat, number, place)
            guess = infer(cell, sight.seen.with_labels(None), seed=seed)
            right = round(label_accuracy(guess, sight.labels, measure="counts") * len(sight.labels))
            found.shares.setdefault("label", []).extend([1] * right + [0] * (len(sight.labels) - right))
            found.mean("label_existence", label_accuracy(guess, sight.labels, measure="existence"))
            found.blind = {"label": _by_chance(cell, len(sight.labels))}
    return found


def _by_chance(cell: Cell, examples: int) -> float:
    """The share of labels that a draw from the public ones finds."""
    classes = dataset(cell.world.model_dump_json()).test.labels
    chance = np.random.default_rng(derive(cell.world.seed, "blind labels"))
    draws = torch.from_numpy(chance.choice(classes, (GUESSES, 2, examples)))
    return float(np.mean([label_accuracy(one, other, measure="counts") for one, other in draws]))
