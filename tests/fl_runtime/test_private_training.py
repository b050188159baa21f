"""DP-SGD in the runtime: the trainer applies it, the run accounts for it, the sheet says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dp.accountant import Charge
from dp.sample import optimizer as optimizers
from dp.sample.component import SampleLevel, SampleLevelParameters
from dp.sample.spending import epsilon_of
from fl_runtime.algorithms import FedProx
from fl_runtime.config import load
from fl_runtime.datasheet import to_markdown
from fl_runtime.models import SmallCnn, build
from fl_runtime.run import run_experiment
from fl_runtime.trainer import Trainer
from fl_runtime.training import Training
from secagg.errors import Refused
from secagg.rundir import verify_run
from tests.fl_runtime.test_trainer import some_rows

EXAMPLES = Path(__file__).parents[2] / "examples"


def trainers(classes: int, **settings: float) -> tuple[Trainer, Trainer, SampleLevel]:
    """A plain trainer, and a private one of the same model."""
    private = SampleLevel(SampleLevelParameters(**settings))
    plain, noisy = (build(SmallCnn(channels=(3, 4)), shape=(1, 8, 8), classes=classes, seed=4) for _ in range(2))
    return Trainer(plain), Trainer(noisy, private=private), private


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_private_training_without_noise_or_clip_is_plain_training(
    classes: int, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On full batches, which Poisson sampling at rate 1 draws too; the proximal term is the algorithm's own."""
    monkeypatch.setattr(optimizers, "discrete_gaussian", lambda sigma, size, rng: np.zeros(size, np.int64))
    plain, private, component = trainers(classes, clip_l2=1e4)
    rows = some_rows(classes=classes)
    training = Training(local_steps=5, batch_size=100, lr=0.05, optimizer=optimizer)
    found, expected = (
        trainer.train(trainer.weights(), rows, training=training, algorithm=FedProx(mu=0.7), seed=3, owner="a")
        for trainer in (private, plain)
    )
    assert (found.steps, found.rows) == (expected.steps, expected.rows) == (5, 23)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    for name, delta in expected.delta.items():
        np.testing.assert_allclose(found.delta[name], delta, atol=2e-5)
    assert component.spent()["steps"] == 5


def test_what_leaves_a_client_is_noisy_and_its_steps_are_charged_to_it() -> None:
    plain, private, component = trainers(3, noise_multiplier=1.0, clip_l2=0.5)
    training = Training(local_epochs=3, batch_size=5, lr=0.1)
    settings = {"training": training, "algorithm": FedProx(mu=0.0), "seed": 3}
    for owner in ("a", "b", "a"):
        deltas = [private.train(private.weights(), some_rows(), **settings, owner=owner) for _ in range(1)]
    again = private.train(plain.weights(), some_rows(), **settings, owner="b")
    # One seed for all, and no two alike.
    assert not any(np.array_equal(again.delta[name], delta) for name, delta in deltas[0].delta.items())
    assert component.spent()["steps"] == 2 * 15
    assert component.spent()["epsilon"] == epsilon_of((Charge(1.0, 30, 5 / 23),), 1e-5)


def test_d8_a_trainer_refuses_a_model_that_mixes_samples() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(Refused, match="'2' is a BatchNorm1d, which mixes the samples"):
        Trainer(model, private=SampleLevel(SampleLevelParameters()))
    converted = Trainer(model, private=SampleLevel(SampleLevelParameters(batch_norm="groupnorm")))
    assert {name for name in converted.weights() if name.startswith("2.")} == {"2.weight", "2.bias"}


@pytest.mark.parametrize("backend", ["dp-sgd", "dp-sgd+smpc"])
def test_a_run_reaches_its_target_and_its_sheet_says_how(backend: str, tmp_path: Path) -> None:
    settings = (f"privacy.backend={backend}", "privacy.target_epsilon=20.0", "experiment.rounds=2", "data.clients=3")
    torch.manual_seed(0)
    summary = run_experiment(load(EXAMPLES / "digits.toml", settings), output=tmp_path / "run")
    verify_run(tmp_path / "run")
    sheet = json.loads((tmp_path / "run" / "datasheet.json").read_text())
    claim = sheet["differential_privacy"]
    assert summary.spent is not None
    assert 19 <= summary.spent["epsilon"] == claim["epsilon"] <= 20
    assert {key: claim[key] for key in ("unit", "adjacency", "delta", "accountant")} == {
        "unit": "sample",
        "adjacency": "add/remove",
        "delta": 1e-5,
        "accountant": "dp-accounting PLD",
    }
    assert sheet["parameters"]["target_epsilon"] == 20
    # An exact sum of row counts would tell of a single row.
    assert sheet["guarantees"]["uniform_weights"]
    text = to_markdown(sheet)
    for part in ("for one sample (add/remove)", "sampler: Poisson", "noise source: AES-256", "by dp-accounting PLD"):
        assert part in text
    assert "counted in full" not in text


def test_values_beyond_the_bound_are_counted_where_no_layer_clips_the_update() -> None:
    settings = ("privacy.backend=dp-sgd", "privacy.value_bound=0.001", "experiment.rounds=1", "data.clients=3")
    assert run_experiment(load(EXAMPLES / "digits.toml", settings)).saturated > 0


def test_sample_level_around_client_level_is_refused() -> None:
    with pytest.raises(Refused, match="two units and two claims"):
        run_experiment(load(EXAMPLES / "digits.toml", ("privacy.backend=dp-sgd+dp+plain",)))
