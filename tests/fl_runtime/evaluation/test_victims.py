"""What an attack is told beside the update: the defence and the noise, unless the adversary is unaware of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fl_runtime.evaluation.attempts.checkpoint import checkpoint
from fl_runtime.evaluation.attempts.training import attacked_model
from fl_runtime.evaluation.attempts.victims import Sight, rounds
from fl_runtime.evaluation.matrix.cells import Cell, Part, expand
from fl_runtime.evaluation.matrix.settings import Evaluation
from fl_runtime.evaluation.matrix.world import dataset

Settings = Callable[..., Evaluation]


def sights(cell: Cell) -> list[Sight]:
    data = dataset(cell.world)
    model = attacked_model(cell.world, cell.defence, repeat=0, shape=data.shape, classes=len(data.classes))
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    shown = checkpoint(cell, {"weights": {"untrained": weights}})
    return [sight for attacked in rounds(cell, shown) for sight in attacked.sights]


def changed(cell: Cell, **setting: object) -> Cell:
    return cell.model_copy(update={"setting": cell.setting.model_copy(update=setting)})


@pytest.fixture
def bare(settings: Settings) -> Cell:
    return next(row for row in expand(settings()) if row.attack.label == "inverting" and row == row.control())


def test_the_adversary_knows_how_much_noise_is_on_a_noisy_sum(bare: Cell) -> None:
    noisy = bare.model_copy(
        update={"backend": Part(label="noisy", kind="dp", parameters={"noise_multiplier": 5.0, "clip_l2": 1.0})}
    )
    (plain,), (seen,) = ([sights(changed(cell, adversary="everybody"))[0]] for cell in (bare, noisy))
    # The mean over three clients of noise 5 on their sum, and what was drawn is of that size.
    assert seen.seen.noise_std == pytest.approx(5.0 / 3)
    gaps = [(a - b).flatten() for a, b in zip(seen.seen.gradient, plain.seen.gradient, strict=True)]
    drawn = float(torch.cat(gaps).std())
    assert drawn == pytest.approx(seen.seen.noise_std, rel=0.1)
    assert plain.seen.noise_std == 0


def test_an_adversary_who_is_unaware_gets_neither_noise_nor_masks(bare: Cell) -> None:
    pruned = bare.model_copy(
        update={"defence": Part(label="pruning", kind="pruning", parameters={"share_pruned": 0.5})}
    )
    aware, unaware = (sights(changed(pruned, adaptive=adaptive))[0].seen for adaptive in (True, False))
    assert aware.visible is not None
    hidden = np.mean([float((~mask).float().mean()) for mask in aware.visible])
    assert hidden > 0.2
    assert unaware.visible is None
    assert unaware.noise_std == 0.0


@pytest.mark.parametrize(("labels", "known"), [("known", True), ("inferred", False), ("unknown", False)])
def test_labels_are_told_only_where_they_are_known(bare: Cell, labels: str, known: bool) -> None:
    assert (sights(changed(bare, labels=labels))[0].seen.labels is not None) == known
