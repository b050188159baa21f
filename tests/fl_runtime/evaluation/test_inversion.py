"""The adversary's own side: what it chooses on public images, and what counts as identified."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fl_runtime.evaluation.attempts.inversion import invert
from fl_runtime.evaluation.attempts.measured import Measured
from fl_runtime.evaluation.attempts.scoring import Scorer
from fl_runtime.evaluation.attempts.training import attacked_model
from fl_runtime.evaluation.matrix.cells import Cell, expand
from fl_runtime.evaluation.matrix.settings import Evaluation
from fl_runtime.evaluation.matrix.world import dataset

MATRIX = """
[defences.noisy]
kind = "clip-and-noise"
clip_l2 = 1.0
noise_multiplier = 0.05

[defences.pruning-99]
kind = "pruning"
share_pruned = 0.99

[attacks.untuned]
kind = "inverting-gradients"
iterations = 60
tv = 1e-2

[[matrix]]
title = "Defences"
defence = ["noisy", "pruning-99", "transformation"]
attack = ["inverting", "untuned", "matched-filter"]
adaptive = [true, false]
"""
FIRST = '[[matrix]]\ntitle = "Backends and a defence"'


@pytest.fixture
def attacked(settings: Callable[..., Evaluation]) -> Callable[..., Measured]:
    """The result of one row in its first repeat, with 6 victims."""
    evaluation = settings(**{FIRST: MATRIX + FIRST, "images = 3": "images = 6"})

    def attack(defence: str, attack: str, *, adaptive: bool = True) -> Measured:
        def wanted(row: Cell) -> bool:
            names = (row.defence.label, row.attack.label, row.setting.adaptive)
            return names == (defence, attack, adaptive)

        cell = next(filter(wanted, expand(evaluation)))
        data = dataset(cell.world)
        shape, classes = data.shape, len(data.classes)
        torch.set_num_threads(1)
        return invert(cell, attacked_model(cell.world, cell.defence, repeat=0, shape=shape, classes=classes).train())

    return attack


@pytest.mark.parametrize("defence", ["noisy", "pruning-99"])
def test_an_adversary_who_knows_the_defence_does_no_worse(attacked, defence: str) -> None:
    aware, unaware = (attacked(defence, "inverting", adaptive=adaptive) for adaptive in (True, False))
    assert aware.shares["identified"].sum() >= unaware.shares["identified"].sum()
    assert aware.shares["identified"].sum() >= 3


def test_where_coordinates_are_hidden_both_ways_are_tried_on_public_images(attacked) -> None:
    search = attacked("pruning-99", "inverting").search
    assert [(trial["parameters"]["tv"], trial["parameters"]["aware"]) for trial in search] == [
        (1e-4, True), (1e-4, False), (1e-2, True), (1e-2, False),
    ]  # fmt: skip
    assert all(trial["images"] for trial in search)
    assert [trial["parameters"]["aware"] for trial in attacked("pruning-99", "untuned").search] == [True, False]
    assert attacked("noisy", "untuned").search == []


def test_who_knows_a_transformation_finds_the_images_of_others(attacked) -> None:
    aware, unaware = (attacked("transformation", "inverting", adaptive=adaptive) for adaptive in (True, False))
    assert aware.shares["identified"].sum() >= 5
    assert unaware.shares["identified"].sum() <= 2


def test_images_that_were_chosen_count_as_identified_and_not_as_reconstructed(attacked) -> None:
    chosen = attacked("noisy", "matched-filter")
    assert chosen.shares["identified"].sum() >= 5
    assert set(chosen.means) == {"matching_loss"}
    assert "reconstructed" not in chosen.shares
    assert chosen.pictures is None
    assert chosen.needs[0] == "a set of images among which the victims are"
    assert "none is reconstructed" in chosen.notes[0]


def test_chance_knows_how_many_guesses_are_paired_and_of_an_attack_that_chooses(settings) -> None:
    scorer = Scorer(next(row for row in expand(settings()) if row.family == "inversion"))
    alone, paired = (scorer.by_chance(together, chooses=False) for together in (1, 16))
    # One of ten classes, which are known, in a gallery of 50; then many guesses, the nearest of which counts.
    assert 0.1 < alone < 0.25 < paired < 0.4
    # Sixteen chosen by lot from 50 are a third of those that were sought, and more where the classes are known.
    assert 0.32 < scorer.by_chance(16, chooses=True) < 0.7
