"""The matrix as cells: every combination once, with its control, and a name that its result depends on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fl_runtime.evaluation.attempts.cache import digest
from fl_runtime.evaluation.evaluate import plan
from fl_runtime.evaluation.matrix.cells import AXES, expand, key, repeats
from fl_runtime.evaluation.matrix.world import dataset
from secagg.errors import Refused


def test_a_matrix_is_the_product_of_its_lists(settings) -> None:
    matrix = """backend = ["plain", "secaggplus", "noisy"]
defence = ["none", "pruning"]
attack = ["inverting"]
adversary = ["server", "everybody"]"""
    rows = expand(settings(**{matrix: matrix + "\nbatch = [1, 2]"}))
    found = {(r.backend.label, r.defence.label, r.setting.adversary, r.setting.batch) for r in rows
             if r.attack.label == "inverting"}  # fmt: skip
    expected = itertools.product(("plain", "secaggplus", "noisy"), ("none", "pruning"), ("server", "everybody"), (1, 2))
    assert found == set(expected)


def test_every_axis_of_the_matrix_reaches_the_cell(settings) -> None:
    values = {
        "batch": "[2]", "local_epochs": "[3]", "local_batch": "[1]", "clients": "[5]", "labels": '["unknown"]',
        "statistics": '["withheld"]', "adversary": '["everybody"]', "adaptive": "[false]", "stage": '["half"]',
        "model": '["mlp"]',
    }  # fmt: skip
    assert set(values) == set(AXES)
    lines = "\n".join(f"{axis} = {value}" for axis, value in values.items())
    whole = 'attack = ["deep-leakage"]\nlocal_epochs = [2]'
    row = expand(settings(**{whole: f'attack = ["inverting"]\ndefence = ["pruning"]\n{lines}'}))[-1]
    assert row.setting.model_dump() == {
        "model": "mlp", "stage": "half", "batch": 2, "local_epochs": 3, "local_batch": 1, "clients": 5,
        "labels": "unknown", "statistics": "withheld", "adversary": "everybody", "adaptive": False,
    }  # fmt: skip


def test_every_row_has_its_control_in_the_evaluation_and_none_stands_twice(settings) -> None:
    rows = expand(settings())
    names = [key(row) for row in rows]
    assert len(names) == len(set(names))
    for row in rows:
        control = row.control()
        assert key(control) in names
        assert (control.backend.kind, control.defence.kind, control.setting.adversary) == ("plain", "none", "server")
        assert control.attack == row.attack
        assert (control.setting.batch, control.setting.stage) == (row.setting.batch, row.setting.stage)


def test_repeats_share_nothing_but_their_settings(settings) -> None:
    evaluation = settings("evaluation.repeats=4")
    row = expand(evaluation)[0]
    cells = repeats(row, evaluation)
    assert [cell.repeat for cell in cells] == [0, 1, 2, 3]
    assert len({digest(cell) for cell in cells}) == 4
    assert {key(cell.row()) for cell in cells} == {key(row)}


def test_a_cell_s_name_changes_with_each_setting_and_with_nothing_else(settings) -> None:
    first = expand(settings())[0]
    assert digest(first) == digest(expand(settings("evaluation.title=Other", "evaluation.repeats=7"))[0])
    for override in ("evaluation.seed=4", "evaluation.images=4", "attacks.inverting.iterations=61", "training.lr=0.2",
                     "models.mlp.hidden=[25]", "evaluation.rounds=3", "data.clients=5"):  # fmt: skip
        assert digest(first) != digest(expand(settings(override))[0]), override


def test_a_name_depends_on_versions_and_sources(settings, monkeypatch) -> None:
    from fl_runtime.evaluation.attempts import cache

    cell = expand(settings())[0]
    before = digest(cell)
    known = cache.versions()
    assert len(known["sources"]) == 16
    for name in ("torch", "sources"):
        monkeypatch.setattr(cache, "versions", lambda name=name: {**known, name: "other"})
        assert digest(cell) != before


def test_the_plan_trains_what_every_row_and_its_control_is_measured_on(settings) -> None:
    evaluation = settings()
    names = {key(job) for job in plan(evaluation)}
    for row in expand(evaluation):
        for cell in repeats(row, evaluation):
            assert {key(cell), key(cell.training()), key(cell.control().training())} <= names


def test_a_cell_s_name_changes_with_the_values_of_its_data(settings, tmp_path) -> None:
    from fl_runtime.evaluation.matrix import world

    written = tmp_path / "images.npz"
    names = []
    for value in (0, 1):
        arrays = {f"{part}_{kind}": np.zeros((8, 4, 4) if kind == "images" else (8, 1), np.uint8)
                  for part in ("train", "val", "test") for kind in ("images", "labels")}  # fmt: skip
        for part in ("train", "val", "test"):
            arrays[f"{part}_labels"][::2] = 1
        arrays["train_images"][0, 0, 0] = value
        np.savez(written, **arrays)
        world.digest.cache_clear()
        world._read.cache_clear()
        names.append(digest(expand(settings("data.dataset=medmnist", f"data.path={written}"))[0]))
    assert names[0] != names[1]


def test_data_that_changed_since_the_plan_are_refused(settings) -> None:
    world = expand(settings())[0].world
    assert len(dataset(world).train) > 1000
    with pytest.raises(Refused, match="changed while the evaluation ran"):
        dataset(world.model_copy(update={"data_digest": "0" * 64}))


def test_where_nothing_defends_there_is_nothing_to_be_unaware_of(settings) -> None:
    matrix = 'attack = ["inverting"]\nadversary = ["server", "everybody"]'
    rows = expand(settings(**{matrix: matrix + "\nadaptive = [true, false]"}))
    unaware = {(row.backend.label, row.defence.label) for row in rows if not row.setting.adaptive}
    assert unaware == {("plain", "pruning"), ("secaggplus", "pruning"), ("noisy", "none"), ("noisy", "pruning")}


def test_naive_masking_is_simulated_and_called_so(settings) -> None:
    rows = [row for row in expand(settings()) if row.attack.kind == "model-inconsistency"]
    assert {row.backend.label for row in rows} == {"naive masking, simulated", "secaggplus"}
    assert {row.control().backend.label for row in rows} == {"naive masking, simulated"}
    assert {row.training().backend.label for row in rows} == {"plain", "secaggplus"}


def test_axes_that_an_attack_ignores_are_in_none_of_its_rows(settings) -> None:
    rows = expand(settings(**{'attack = ["deep-leakage"]\nlocal_epochs = [2]': 'attack = ["membership"]'}))
    assert rows[-1].axes == {"model": "mlp", "stage": "trained", "adversary": "everybody"}
    (labels, *_) = (row for row in rows if row.attack.kind == "labels")
    assert "labels" not in labels.axes
    assert labels.axes["clients"] == 3


def test_victims_and_training_rows_are_of_one_draw_of_the_data(settings, real_data, monkeypatch) -> None:
    """With `data.limit` the rows themselves are drawn: a model must not be trained on other rows than are attacked."""
    from fl_runtime.evaluation.attempts import training

    path = (real_data / "pneumoniamnist" / "pneumoniamnist_subset.npz").resolve()
    evaluation = settings("data.dataset=medmnist", f"data.path={path}", "data.limit=300")
    job = expand(evaluation)[0].training()
    trained: list[np.ndarray] = []
    prepare = training.prepare

    def noted(experiment, *, federation, **more):
        trained.extend(client.train.features for client in federation.clients)
        return prepare(experiment, federation=federation, **more)

    monkeypatch.setattr(training, "prepare", noted)
    training.train(job.model_copy(update={"repeat": 1}))
    ours = {row.tobytes() for row in np.concatenate(trained)}
    assert ours == {row.tobytes() for row in dataset(job.world).train.features}
