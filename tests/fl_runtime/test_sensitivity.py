"""Sensitivity against a slow twin and a hand-made case, summed privately, and what becomes of it in a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_runtime.config import load
from fl_runtime.data.dataset import Rows
from fl_runtime.models import build as build_model
from fl_runtime.run import load_federation, prepare, run_experiment
from fl_runtime.sensitivity import most_sensitive, private_sensitivity, sensitivity
from fl_runtime.trainer import Trainer, classification_loss
from he.selective.mask import to_text
from secagg.errors import Refused
from secagg.rundir import verify_run

DIGITS = Path(__file__).parents[2] / "examples" / "digits.toml"


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_mean_absolute_gradient_of_each_row(classes: int) -> None:
    """The twin: one backward pass a row. How rows are cut into batches changes nothing."""
    generator = np.random.default_rng(classes)
    rows = Rows(generator.random((7, 1, 8, 8)).astype(np.float32), generator.integers(0, classes, 7))
    settings = load(DIGITS).model
    module = build_model(settings, shape=(1, 8, 8), classes=classes, seed=1)
    weights = Trainer(module).weights()
    expected = {name: np.zeros(array.shape) for name, array in weights.items()}
    for features, label in zip(rows.features, rows.labels, strict=True):
        module.zero_grad()
        classification_loss(module(torch.from_numpy(features[None])), torch.tensor([label])).backward()
        for name, parameter in module.named_parameters():
            expected[name] += np.abs(parameter.grad.numpy()) / 7
    for batches in ([rows], [rows.take(np.arange(3)), rows.take(np.arange(3, 7))]):
        found = sensitivity(module, weights, batches)
        assert list(found) == list(weights)
        for name, array in found.items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-7)


def test_it_is_taken_at_the_given_weights_and_leaves_the_model_as_it_was() -> None:
    """One linear layer, squared error: |2 (w.x - y) x|, by hand."""
    module = torch.nn.Linear(2, 1, bias=False)
    before = module.weight.detach().clone()
    rows = Rows(np.array([[1.0, -2.0], [3.0, 0.0]], np.float32), np.array([0, 1]))
    found = sensitivity(
        module,
        {"weight": np.array([[1.0, 1.0]], np.float32)},
        [rows],
        loss=lambda out, y: (out[:, 0] - y).pow(2).mean(),
    )
    np.testing.assert_allclose(found["weight"], [[(2 * 1 * 1 + 2 * 2 * 3) / 2, (2 * 1 * 2 + 0) / 2]])
    assert torch.equal(module.weight, before)


def test_without_rows_there_is_nothing_to_measure() -> None:
    with pytest.raises(Refused, match="no rows to measure on"):
        sensitivity(torch.nn.Linear(2, 1), {"weight": np.zeros((1, 2), np.float32)}, [])


@pytest.mark.parametrize("backend", ["ckks", "smpc"])
def test_the_private_mean_is_that_of_all_rows_together(backend: str) -> None:
    """Some means of single clients are over 1, so that the default bound would cut them."""
    settings = load(DIGITS, ("data.clients=4", "privacy.value_bound=4.0", f"privacy.backend={backend}"))
    found = private_sensitivity(settings, batch_size=100)
    prepared = prepare(settings)
    federation = load_federation(settings)
    module = build_model(load(DIGITS).model, shape=federation.shape, classes=10, seed=7)
    everybody = sensitivity(module, prepared.weights, [client.train for client in federation.clients])
    np.testing.assert_allclose(found, prepared.layout.flatten(everybody), atol=2 / prepared.encoding.scale, rtol=1e-4)


@pytest.mark.parametrize("settings", [["privacy.backend=plain"], ["privacy.backend=selective"]])
def test_a_backend_that_shows_single_maps_is_refused(settings: list[str]) -> None:
    with pytest.raises(Refused, match=r"privacy\.backend: .* shows the server the map of a single client"):
        private_sensitivity(load(DIGITS, settings))


def test_the_most_sensitive_are_taken_and_of_equal_ones_the_first() -> None:
    scores = np.array([0.0, 3.0, 1.0, 3.0, 1.0, 0.5, 1.0, 0, 0, 0], np.float32)
    for fraction, places in [(0.01, [1]), (0.2, [1, 3]), (0.4, [1, 2, 3, 4]), (1.0, range(10))]:
        np.testing.assert_array_equal(np.flatnonzero(most_sensitive(scores, fraction)), list(places))
    for fraction in (0.0, -0.1, 1.01, np.nan):
        with pytest.raises(Refused, match="expected over 0, to 1"):
            most_sensitive(scores, fraction)
    with pytest.raises(Refused, match="a value is not finite"):
        most_sensitive(np.array([1, np.nan], np.float32), 0.5)


def test_evenly_spread_coordinates_are_refused_in_training() -> None:
    with pytest.raises(Refused, match=r"privacy\.fraction: got 0\.1; .* they protect by chance"):
        run_experiment(load(DIGITS, ["privacy.backend=selective", "privacy.fraction=0.1"]))


def test_a_run_under_a_mask_gives_the_model_of_a_run_in_the_clear_and_says_what_it_is(tmp_path: Path) -> None:
    """`mask_file` beside the experiment becomes the mask itself: the run directory is complete, and runs again."""
    text = DIGITS.read_text().replace('backend = "plain"', 'backend = "selective"\nmask_file = "mask.txt"')
    (tmp_path / "masked.toml").write_text(text)
    scores = np.random.default_rng(0).random(1922).astype(np.float32)
    (tmp_path / "mask.txt").write_text(to_text(most_sensitive(scores, 0.1)) + "\n")
    rounds = ["experiment.rounds=2", "data.clients=4"]
    masked = run_experiment(load(tmp_path / "masked.toml", rounds), output=tmp_path / "run")
    plain = run_experiment(load(DIGITS, rounds))
    assert [e.overall for e in masked.evaluations] == [e.overall for e in plain.evaluations]
    assert masked.server_saw[0] == "the coordinates outside the mask of every single update, in the clear"
    verify_run(tmp_path / "run")
    sheet = json.loads((tmp_path / "run" / "datasheet.json").read_text())
    assert sheet["parameters"]["mask"] == to_text(most_sensitive(scores, 0.1))
    markdown = (tmp_path / "run" / "datasheet.md").read_text()
    assert "a defence, not secure aggregation" in markdown
    assert sheet["parameters"]["mask"] not in markdown
    (tmp_path / "mask.txt").unlink()
    again = run_experiment(load(tmp_path / "run" / "experiment.toml"))
    assert again.evaluations == masked.evaluations
