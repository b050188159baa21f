"""Whole runs through the backends, on real data: what protection costs in accuracy, which should be nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_runtime.config import load
from fl_runtime.run import RunSummary, build_backend, run_experiment
from secagg.errors import Refused

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(experiment: str, *overrides: str) -> RunSummary:
    return run_experiment(load(EXAMPLES / experiment, overrides))


@pytest.fixture(scope="module")
def plain_digits() -> RunSummary:
    return run("digits.toml", "privacy.backend=plain")


def test_digits_reach_93_percent(plain_digits: RunSummary) -> None:
    accuracy = plain_digits.final.overall.accuracy
    assert accuracy is not None
    assert accuracy >= 0.93


@pytest.mark.parametrize("backend", ["ckks", "smpc", "secaggplus"])
def test_digits_lose_nothing_under_protection(backend: str, plain_digits: RunSummary) -> None:
    protected = run("digits.toml", f"privacy.backend={backend}").final.overall.accuracy
    plain = plain_digits.final.overall.accuracy
    assert protected is not None
    assert plain is not None
    assert abs(protected - plain) <= 0.005


@pytest.mark.parametrize("backend", ["plain", "ckks", "smpc"])
@pytest.mark.parametrize("algorithm", [["fedavg"], ["fedprox", "algorithm.mu=0.01"]], ids=["fedavg", "fedprox"])
def test_heart_disease_reaches_flambys_figure(backend: str, algorithm: list[str], real_data: Path) -> None:
    """FLamby: 0.685, the mean over seeds 42-46 of the mean accuracy over the four hospitals' test sets."""
    overrides = [f"privacy.backend={backend}", f"algorithm.name={algorithm[0]}", *algorithm[1:]]
    means = [
        run("heart_disease.toml", f"experiment.seed={seed}", *overrides).final.client_mean("accuracy")
        for seed in range(42, 47)
    ]
    assert np.mean(np.array(means, float)) == pytest.approx(0.685, abs=0.01)


def test_pneumonia_under_label_skew_loses_nothing_under_protection(real_data: Path) -> None:
    areas = {
        backend: run("pneumonia.toml", f"privacy.backend={backend}").final.overall.auc
        for backend in ("plain", "ckks", "smpc")
    }
    assert areas["plain"] is not None
    assert areas["plain"] >= 0.88
    for backend in ("ckks", "smpc"):
        assert areas[backend] == pytest.approx(areas["plain"], abs=0.01)


def test_fedprox_without_mu_is_fedavg_bit_for_bit_through_a_backend(tmp_path: Path) -> None:
    settings = ("experiment.rounds=2", "privacy.backend=smpc", "data.clients=4")
    fedavg = tmp_path / "fedavg.toml"
    text = (EXAMPLES / "digits.toml").read_text()
    fedavg.write_text(text.replace('name = "fedprox"\nmu = 0.01', 'name = "fedavg"'))
    prox = run("digits.toml", "algorithm.mu=0.0", *settings)
    average = run_experiment(load(fedavg, settings))
    assert prox.evaluations == average.evaluations


def test_a_key_is_for_as_many_rounds_as_the_run_has_and_fewer_are_refused_before_the_first() -> None:
    settings = load(EXAMPLES / "digits.toml", ("privacy.backend=ckks", "experiment.rounds=7"))
    assert build_backend(settings).backend.parameters["query_budget"] == 7
    with pytest.raises(Refused, match=r"privacy\.query_budget: got 6, the experiment has 7 rounds"):
        run("digits.toml", "privacy.backend=ckks", "experiment.rounds=7", "privacy.query_budget=6")
