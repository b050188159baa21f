"""Rows that cannot be run: the report says why, and calls nothing safe.

A control that fails is in `test_rows`, a damaged cache entry in `test_cache`, unknown keys in `test_settings`, and a
browser without JavaScript in `test_page` and `test_browser`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fl_runtime.evaluation.attempts import jobs, victims
from fl_runtime.evaluation.attempts.cache import Cache
from fl_runtime.evaluation.attempts.measured import Measured
from fl_runtime.evaluation.matrix.cells import expand
from fl_runtime.evaluation.matrix.settings import Evaluation

WHOLE = 'backend = ["plain", "secaggplus", "noisy"]\ndefence = ["none", "pruning"]\nattack = ["inverting"]'


def first_cell(evaluation: Evaluation, folder: Path) -> Measured:
    return Measured.from_record(jobs._do(expand(evaluation)[0], Cache(folder)))


def test_a_model_that_the_attack_does_not_take_is_named_by_its_layer(
    settings: Callable[..., Evaluation], tmp_path: Path
) -> None:
    evaluation = settings(
        **{"[training]": '[models.cnn]\nname = "small_cnn"\n\n[training]', WHOLE: 'attack = ["spear"]\nmodel = ["cnn"]'}
    )
    found = first_cell(evaluation, tmp_path)
    assert found.problem is not None
    assert "spear" in found.problem
    assert "Conv2d" in found.problem
    assert found.shares == {}


def test_images_out_of_range_are_refused_and_the_range_is_named(
    settings: Callable[..., Evaluation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = victims.dataset

    def brighter(world: str):
        data = read(world)
        return replace(data, train=replace(data.train, features=data.train.features * 2))

    evaluation = settings(**{WHOLE: 'attack = ["inverting"]'})
    jobs.obtain(expand(evaluation)[0].training(), Cache(tmp_path))
    monkeypatch.setattr(victims, "dataset", brighter)
    found = first_cell(evaluation, tmp_path)
    assert found.problem is not None
    assert found.problem.startswith("images")
    assert "0 to 1" in found.problem
    assert found.shares == {}
