"""Client-level runs: a clip bound that follows the norms, and weights that are capped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_runtime.config import load
from fl_runtime.run import prepare, run_experiment
from fl_runtime.task import Task
from secagg.errors import Refused
from secagg.fixedpoint import FixedPoint

DIGITS = Path(__file__).parents[2] / "examples" / "digits.toml"
SMALL = ("data.clients=5", "experiment.rounds=3", "privacy.backend=dp")


def run(tmp_path: Path, *overrides: str) -> tuple[list[dict[str, Any]], list[FixedPoint]]:
    """The lines of the metrics, and each round's encoding by the transcript."""
    output = tmp_path / "run"
    run_experiment(load(DIGITS, (*SMALL, *overrides)), output=output)
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    entries = [json.loads(line) for line in (output / "transcript.jsonl").read_text().splitlines()]
    rounds = [entry["body"]["spec"]["encoding"] for entry in entries if entry["kind"] == "round"]
    return metrics, [FixedPoint.model_validate(fields) for fields in rounds]


@pytest.mark.parametrize("backend", ["dp", "dp+smpc"])
def test_an_adaptive_bound_moves_and_every_rounds_encoding_is_proved_for_it(tmp_path: Path, backend: str) -> None:
    # Much too low a bound: nobody is within, and it rises by the whole step, exp(0.5 / 2), but for the noise, which
    # moves a step by 0.0009 (one standard deviation) at most: the tolerance is 50 of these.
    metrics, encodings = run(
        tmp_path,
        f"privacy.backend={backend}",
        "privacy.noise=server",
        "privacy.noise_multiplier=0.002",
        "privacy.clipping=adaptive",
        "privacy.clip_l2=0.01",
        "privacy.clip_learning_rate=0.5",
    )
    bounds = [encoding.value_bound for encoding in encodings]
    assert [line["value_bound"] for line in metrics[1:]] == bounds
    assert bounds == pytest.approx([0.01, 0.01 * np.exp(0.25), 0.01 * np.exp(0.5)], rel=0.05)
    assert all(encoding.sum_bits == 32 for encoding in encodings)


def test_an_adaptive_bound_stops_at_the_sites_limit(tmp_path: Path) -> None:
    _, encodings = run(
        tmp_path,
        "privacy.noise_multiplier=0.05",
        "privacy.clipping=adaptive",
        "privacy.clip_l2=0.01",
        "privacy.clip_max=0.011",
    )
    assert encodings[-1].value_bound == 0.011


def test_a_value_bound_beside_adaptive_clipping_is_refused() -> None:
    settings = load(DIGITS, (*SMALL, "privacy.clipping=adaptive", "privacy.value_bound=2.0"))
    with pytest.raises(Refused, match=r"privacy\.value_bound: under adaptive clipping it is the clip bound"):
        run_experiment(settings)


def test_a_cap_where_weights_are_secret_is_refused() -> None:
    with pytest.raises(Refused, match=r"privacy\.weight_cap: 'smpc' keeps weights secret; max_weight limits them"):
        run_experiment(load(DIGITS, (*SMALL, "privacy.backend=smpc", "privacy.weight_cap=9")))


def test_a_capped_weight_multiplies_the_update_before_it_is_clipped() -> None:
    prepared = prepare(load(DIGITS, (*SMALL, "privacy.weight_cap=250")))
    experiment = prepared.experiment
    weights = prepared.layout.flatten(prepared.weights)
    task = Task(1, weights, experiment.algorithm, experiment.training).to_bytes()
    for site in prepared.sites.values():
        update, rows = site.update(task)
        for cap in (1, rows // 2, rows, 2 * rows):
            capped = site.capped_update(task, cap)
            np.testing.assert_allclose(capped, update * (min(rows, cap) / cap), rtol=1e-6)
    # The weight itself is 1, and what it multiplies is clipped as a whole: the public divisor is the clients.
    assert (prepared.encoding.max_weight, prepared.encoding.divisor) == (1, 5)


def test_a_run_with_capped_weights_uses_them(tmp_path: Path) -> None:
    """No client reaches the cap: all updates shrink alike, so the model has moved by that much less."""
    moved = []
    for place, cap in enumerate((1, 1_000_000)):
        summary = run_experiment(
            load(
                DIGITS, (*SMALL, "experiment.rounds=1", "privacy.noise_multiplier=0.001", f"privacy.weight_cap={cap}")
            ),
            output=tmp_path / str(place),
        )
        moved.append(summary.evaluations[0].overall.loss - summary.evaluations[1].overall.loss)
    assert moved[0] > 10 * abs(moved[1])


def test_noise_inside_the_sum_is_calibrated_to_the_minimum_cohort(tmp_path: Path) -> None:
    output = tmp_path / "run"
    run_experiment(
        load(DIGITS, (*SMALL, "privacy.backend=dp+secaggplus", "privacy.minimum_cohort=4", "privacy.target_epsilon=8")),
        output=output,
    )
    entries = [json.loads(line) for line in (output / "transcript.jsonl").read_text().splitlines()]
    specs = [entry["body"]["spec"] for entry in entries if entry["kind"] == "round"]
    assert [(spec["parameters"]["survivors"], spec["minimum_cohort"]) for spec in specs] == [(4, 4)] * 3
    # One public rotation for the run, and a coordinate's bound that is far below the clip.
    assert len({spec["encoding"]["rotation"] for spec in specs}) == 1
    assert specs[0]["encoding"]["value_bound"] < 0.25 < 1.0 < specs[0]["encoding"]["noise_bound"]
    privacy = json.loads((output / "datasheet.json").read_text())["differential_privacy"]
    assert 7.9 < privacy["epsilon"] <= 8
    assert privacy["adjacency"] == "zero-out"
    assert "a share from every client: all of it from 4 survivors less 1 colluders" in privacy["noise"]


def test_an_adaptive_bound_moves_under_noise_inside_the_sum(tmp_path: Path) -> None:
    _, encodings = run(
        tmp_path,
        "privacy.backend=dp+smpc",
        "privacy.noise_multiplier=0.002",
        "privacy.clipping=adaptive",
        "privacy.clip_l2=0.01",
        "privacy.clip_learning_rate=0.5",
    )
    bounds = [encoding.value_bound for encoding in encodings]
    assert bounds == pytest.approx([0.01, 0.01 * np.exp(0.25), 0.01 * np.exp(0.5)], rel=0.05)
    rooms = [encoding.noise_bound for encoding in encodings]
    assert rooms == pytest.approx([rooms[0] * bound / bounds[0] for bound in bounds])


def test_local_noise_is_a_run_like_any_other(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path, "privacy.noise=local", "privacy.target_epsilon=8", "privacy.clip_l2=1.0")
    assert len(metrics) == 4


def test_a_ledger_does_not_add_up_skellam_noise(tmp_path: Path) -> None:
    skellam = ("privacy.backend=dp+smpc", "privacy.mechanism=skellam", "privacy.sampler=table")
    ledger = (f"privacy.ledger={tmp_path}", "privacy.ledger_epsilon=8")
    with pytest.raises(Refused, match="ledgers add up by dp-accounting PLD, and this noise has none"):
        prepare(load(DIGITS, (*SMALL, *skellam, *ledger)))
