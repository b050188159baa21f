"""A run whose claim was audited says so in its data sheet; one that was not says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dp.placement import Placement
from fl_runtime.config import load
from fl_runtime.run import run_experiment
from secagg.errors import Refused
from secagg.rundir import verify_run

DIGITS = Path(__file__).parents[2] / "examples" / "digits.toml"
SMALL = ("data.clients=5", "experiment.rounds=2")


def sheet_of(tmp_path: Path, *overrides: str) -> tuple[dict[str, Any], str]:
    run_experiment(load(DIGITS, (*SMALL, *overrides)), output=tmp_path / "run")
    verify_run(tmp_path / "run")
    text = (tmp_path / "run" / "datasheet.md").read_text()
    return json.loads((tmp_path / "run" / "datasheet.json").read_text()), text


def test_without_an_audit_there_is_no_lower_bound(tmp_path: Path) -> None:
    sheet, text = sheet_of(tmp_path, "privacy.backend=dp")
    assert sheet["empirical_lower_bound"] is None
    assert "**Empirical lower bound**: no audit was run" in text


@pytest.mark.parametrize(
    "settings",
    [
        ("privacy.backend=dp", "privacy.target_epsilon=8"),
        ("privacy.backend=dp+smpc", "privacy.minimum_cohort=4"),
        ("privacy.backend=dp-sgd+smpc", "privacy.noise_multiplier=2"),
    ],
)
def test_an_audited_run_states_bound_confidence_and_what_it_is_of(settings: tuple[str, ...], tmp_path: Path) -> None:
    sheet, text = sheet_of(tmp_path, *settings, "privacy.audit_canaries=120")
    found, claim = sheet["empirical_lower_bound"], sheet["differential_privacy"]
    assert found["claim"] == pytest.approx(claim["epsilon"], rel=0.05)
    assert found["delta"] == claim["delta"]
    assert found["epsilon"] <= found["claim"]
    assert found["rounds"] == claim.get("steps", 2)
    assert (found["canaries"], found["confidence"]) == (120, 0.95)
    assert f"with confidence 0.95: {found['verdict']} (epsilon {found['claim']:.3f})" in text
    assert "nobody's data was in it" in text


def test_d9_a_run_without_noise_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draw = Placement.noise
    monkeypatch.setattr(Placement, "noise", lambda self, sigma, size, rng: 0 * draw(self, sigma, size, rng))
    sheet, text = sheet_of(tmp_path, "privacy.backend=dp", "privacy.noise_multiplier=16", "privacy.audit_canaries=400")
    assert sheet["empirical_lower_bound"]["verdict"] == "the claim is violated"
    assert "the claim is violated" in text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("privacy.backend=smpc",), "'smpc' claims no differential privacy"),
        (("privacy.backend=dp", "privacy.clipping=adaptive"), "clipping is 'adaptive'"),
    ],
)
def test_an_audit_that_cannot_be_made_is_refused_before_the_first_round(settings: tuple[str, ...], says: str) -> None:
    with pytest.raises(Refused, match=rf"privacy\.audit_canaries: .*{says}"):
        run_experiment(load(DIGITS, (*SMALL, *settings, "privacy.audit_canaries=100")))
