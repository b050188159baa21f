"""`secagg audit`: what it prints and writes, what it finds where a mechanism is broken, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from dp.accountant import ACCOUNTANT
from dp.audit import canaries as canaries_module
from dp.audit.canaries import Cohort, scores, sign
from dp.audit.client import Clients
from dp.audit.run import Auditor, Design
from dp.cli import audit
from dp.placement import Placement
from dp.sample import bookkeeping, optimizer, training
from secagg.errors import Refused

FEW = ("--canaries", "512", "--guesses", "128")


def run(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(audit, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_it_prints_and_writes_claim_bound_and_verdict(tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    done = run("--backend", "dp-sgd", *FEW, "--set", "noise_multiplier=4.0", "--steps", "2", "--json", file)
    assert done.exit_code == 0
    written: dict[str, Any] = json.loads(file.read_text())
    assert written["schema"] == "secagg.audit/1"
    assert {name: written[name] for name in ("backend", "canaries", "cohort", "guesses", "rounds", "seed")} == {
        "backend": "dp-sgd",
        "canaries": 512,
        "cohort": 512,
        "guesses": 128,
        "rounds": 2,
        "seed": 0,
    }
    assert written["parameters"]["noise_multiplier"] == 4.0
    assert (written["violated"], written["verdict"]) == (False, "consistent with the claim")
    claim = written["claim"]
    assert (claim["unit"], claim["adjacency"], claim["accountant"]) == ("sample", "add/remove", ACCOUNTANT)
    assert written["lower_bound"] <= claim["epsilon"]
    assert f"epsilon {claim['epsilon']:.3f} at delta 1e-05 for one sample (add/remove)" in done.output
    assert f"epsilon {written['lower_bound']:.3f} with confidence 0.95" in done.output
    assert done.output.rstrip().endswith("consistent with the claim")


def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "discrete_gaussian", lambda sigma, size, rng: np.zeros(size, np.int64))


def test_d9_a_violated_claim_is_said_to_be_and_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_noise(monkeypatch)
    file = tmp_path / "audit.json"
    done = run("--backend", "dp-sgd", *FEW, "--set", "noise_multiplier=4.0", "--steps", "2", "--json", file)
    assert done.exit_code == 1
    assert "128 of 128 right" in done.output
    assert done.output.rstrip().endswith("the claim is violated")
    assert json.loads(file.read_text())["violated"] is True


def test_d9_a_canary_is_longer_than_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bookkeeping, "clipping_weights", lambda norms, clip_l2, dtype: torch.ones_like(norms, dtype=dtype)
    )
    # Which would see it before the first step.
    monkeypatch.setattr(training, "probe", lambda *_, **__: True)
    design = Design(canaries=1024, rounds=2, guesses=256)
    assert Auditor("dp-sgd", {"noise_multiplier": 4.0}, design).run().violated


def test_d9_noise_that_comes_back_cancels_and_canaries_do_not() -> None:
    cohort = Cohort.draw(64, seed=1, number=0)
    noise = 50 * np.random.default_rng(2).standard_normal(64).astype(np.float32)
    total = cohort.contributions(0.25)[cohort.present].sum(0)
    seen = np.array([sign(step) * cohort.projections(sign(step) * total + noise, 1.0) for step in range(4)])
    found = scores(seen, noise_multiplier=1.0, sampling_rate=1.0)
    assert found[cohort.present].min() > found[~cohort.present].max() + 3.9


def test_canaries_are_orthonormal_and_their_coins_fair() -> None:
    cohort = Cohort.draw(200, seed=3, number=1)
    assert cohort.directions.shape == (200, 256)
    np.testing.assert_allclose(cohort.directions @ cohort.directions.T, np.eye(200), atol=1e-6)
    coins = np.concatenate([Cohort.draw(256, seed=4, number=number).present for number in range(40)])
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(coins.size)
    again = Cohort.draw(200, seed=3, number=1)
    assert np.array_equal(again.present, cohort.present)
    assert not np.array_equal(Cohort.draw(200, seed=3, number=2).present, cohort.present)
    lengths = np.linalg.norm(cohort.contributions(0.5), axis=1)
    np.testing.assert_allclose(lengths[cohort.present], canaries_module.LENGTH * 0.5, rtol=1e-6)
    assert not lengths[~cohort.present].any()


def test_scores_are_the_logarithm_of_the_likelihood_ratio() -> None:
    seen = np.random.default_rng(5).normal(0.3, 2.0, (3, 50))
    rate, noise = 0.2, 1.5

    def density(at: np.ndarray[Any, Any], mean: float) -> np.ndarray[Any, Any]:
        return np.asarray(np.exp(-((at - mean) ** 2) / (2 * noise**2)))

    expected = np.log(((1 - rate) * density(seen, 0) + rate * density(seen, 1)) / density(seen, 0)).sum(0)
    np.testing.assert_allclose(scores(seen, noise_multiplier=noise, sampling_rate=rate), expected)
    whole = np.log(density(seen, 1) / density(seen, 0)).sum(0)
    np.testing.assert_allclose(scores(seen, noise_multiplier=noise, sampling_rate=1.0), whole)


def test_d9_a_cohort_has_no_more_clients_than_the_noise_is_calibrated_to() -> None:
    """With more of them a sum has more noise than is claimed, and shows less."""
    assert Clients("dp+smpc", {"survivors": 20}, canaries=50, rounds=2).cohort == 20
    filled = Clients("dp+smpc", {}, canaries=50, rounds=2)
    assert (filled.cohort, filled.parameters["survivors"]) == (50, 50)
    assert Clients("dp+smpc", {"noise": "local"}, canaries=50, rounds=2).cohort == 3


def test_canaries_fill_whole_cohorts() -> None:
    auditor = Auditor("dp+smpc", {"survivors": 20}, Design(canaries=50, rounds=1))
    assert auditor.releases == 3
    assert auditor.run().canaries == 60


def test_local_noise_is_audited_by_opposite_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    # A true claim fails here once in a million runs.
    design = Design(canaries=90, rounds=2, guesses=60, confidence=1 - 1e-6)
    parameters = {"noise": "local", "noise_multiplier": 40.0, "target_delta": 1e-9}
    found = Auditor("dp+smpc", parameters, design).run()
    assert found.claim.adjacency == "replace"
    assert not found.violated
    monkeypatch.setattr(Placement, "noise", lambda self, sigma, size, rng: np.zeros(size, np.int64))
    assert Auditor("dp+smpc", parameters, design).run().violated


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("smpc",), "'smpc' claims no differential privacy"),
        (("dp", "--set", "clipping=adaptive"), "clipping is 'adaptive', expected 'flat'"),
        (("dp", "--set", "sampling_rate=0.1"), "sampling_rate is 0.1, expected 1"),
        (("dp", "--sampling-rate", "0.5"), "sampling_rate is 0.5, expected 1 where canaries are clients"),
        (("dp-sgd", "--sampling-rate", "0"), "sampling_rate is 0.0, expected a number above 0"),
        (("dp-sgd", "--canaries", "2"), "canaries is 2, expected 3 to 1048576"),
        (("dp-sgd", "--rounds", "0"), "rounds is 0, expected at least 1"),
        (("dp-sgd", "--confidence", "1"), "confidence is 1.0, expected a number from 0.5 to under 1"),
        (("dp-sgd", "--seed", "-1"), "seed is -1, expected 0 or more"),
        (("dp-sgd", "--canaries", "16", "--guesses", "5"), "guesses is 5, expected an even number from 2 to the 16"),
        (("dp-sgd", "--set", "noise=1"), "unknown parameter 'noise'"),
        (("dp", "--set", "rounds=7"), "rounds is 7, and the run has 4"),
    ],
)
def test_a_users_mistake_is_refused_and_named(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(Refused, match=says):
        run("--backend", *arguments)


def test_d9_an_audit_that_could_refute_nothing_is_inconclusive() -> None:
    few = Auditor("dp-sgd", {"noise_multiplier": 4.0}, Design(canaries=4, rounds=1, guesses=2)).run()
    assert few.attainable <= few.claim.epsilon
    assert few.verdict.startswith("inconclusive")
    # A true claim would need 108 right guesses of 128; 77 are expected, and 5.5 more or fewer: 3 in 10^9 by chance.
    design = Design(canaries=512, rounds=1, guesses=128, confidence=0.999)
    many = Auditor("dp-sgd", {"noise_multiplier": 4.0}, design).run()
    assert many.lower_bound <= many.claim.epsilon < many.attainable
    assert many.verdict == "consistent with the claim"
