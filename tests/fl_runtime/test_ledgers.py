"""Ledgers in runs: every site pays before it trains, refuses when it cannot, and the data sheet says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dp.accountant import Charge, epsilon
from dp.book import Budget
from dp.ledger import Ledger, read_book
from fl_runtime.config import load
from fl_runtime.run import RunSummary, run_experiment
from fl_runtime.site import Site
from secagg.errors import Aborted, Refused, VerificationFailed

DIGITS = Path(__file__).parents[2] / "examples" / "digits.toml"
SITES = [f"client-{number}" for number in range(4)]
BUDGET = Budget(population="digits", epsilon=8.0, delta=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledgers"


def run(folder: Path, *overrides: str, rounds: int = 2, output: Path | None = None) -> RunSummary:
    settings = (
        "data.clients=4",
        f"experiment.rounds={rounds}",
        "privacy.backend=dp",
        "privacy.noise_multiplier=5.0",
        f"privacy.ledger={folder}",
        "privacy.ledger_epsilon=8.0",
        *overrides,
    )
    return run_experiment(load(DIGITS, settings), output=output)


def sheet_of(output: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((output / "datasheet.json").read_text())
    return fields


def test_every_site_is_charged_for_every_round_before_it_trains(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[int] = []
    train = Site.update

    def update(site: Site, *arguments: Any, **options: Any) -> Any:
        account = read_book(folder / f"{site.name}.ledger").accounts["digits", "client"]
        paid.append(len(account.charges))
        return train(site, *arguments, **options)

    monkeypatch.setattr(Site, "update", update)
    run(folder, output=tmp_path / "run")
    assert paid == [1] * 4 + [2] * 4
    sheet = sheet_of(tmp_path / "run")
    assert sheet["ledger"]["spent"] == sheet["differential_privacy"]["epsilon"] == epsilon(5.0, 2, delta=1e-5)
    assert (sheet["ledger"]["population"], sheet["ledger"]["rolled_back_disk"]) == ("digits", "not protected")
    text = (tmp_path / "run" / "datasheet.md").read_text()
    assert "\n- a ledger whose disk is put back to an older copy: there is no witness\n" in text
    assert "a rolled-back disk: not protected" in text


def test_the_next_run_goes_on_with_the_same_budget(folder: Path, tmp_path: Path) -> None:
    run(folder)
    run(folder, "privacy.noise_multiplier=4.0", output=tmp_path / "run")
    book = read_book(folder / "client-0.ledger")
    assert [charge.noise_multiplier for charge in book.accounts["digits", "client"].charges] == [5.0, 5.0, 4.0, 4.0]
    sheet = sheet_of(tmp_path / "run")
    assert sheet["ledger"]["spent"] == book.epsilon(BUDGET) > sheet["differential_privacy"]["epsilon"]


def test_d6_sites_whose_budget_is_exhausted_leave_the_round_and_say_why(folder: Path, tmp_path: Path) -> None:
    enough_for_two = f"privacy.ledger_epsilon={epsilon(5.0, 2, delta=1e-5) * 1.001}"
    with pytest.raises(Aborted, match="the minimum cohort is 3"):
        run(folder, enough_for_two, rounds=5, output=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "transcript.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["open", "round", "round", "aborted", "close"]
    assert "client-0: the privacy budget of 'digits' is exhausted" in lines[3]["body"]["why"]


def test_d6_one_site_without_budget_is_left_out_and_the_others_go_on(folder: Path, tmp_path: Path) -> None:
    tight = Budget(population="digits", epsilon=epsilon(5.0, 1, delta=1e-5) * 1.001, delta=1e-5)
    folder.mkdir()
    Ledger(folder / "client-0.ledger", "client-0").spend(Charge(8.0), budget=tight, run="ab" * 16, round_number=1)
    run(folder, f"privacy.ledger_epsilon={tight.epsilon}", rounds=1, output=tmp_path / "run")
    (line,) = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][1:]
    assert line["contributors"] == SITES[1:]
    assert "exhausted" in line["dropped"]["client-0"]


def test_d5_a_rolled_back_site_is_found_by_the_witness_and_takes_no_part(folder: Path, tmp_path: Path) -> None:
    witness = f"privacy.ledger_witness={tmp_path / 'heads.json'}"
    run(folder, witness, rounds=1)
    earlier = (folder / "client-0.ledger").read_bytes()
    run(folder, witness, rounds=1)
    (folder / "client-0.ledger").write_bytes(earlier)
    run(folder, witness, rounds=1, output=tmp_path / "run")
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["contributors"] == SITES[1:]
    assert "rolled back or replaced" in line["dropped"]["client-0"]
    assert (folder / "client-0.ledger").read_bytes() == earlier
    assert sheet_of(tmp_path / "run")["ledger"]["rolled_back_disk"].startswith("found by the witness")


def test_an_altered_ledger_is_named_before_the_run(folder: Path) -> None:
    run(folder, rounds=1)
    path = folder / "client-2.ledger"
    path.write_bytes(path.read_bytes().replace(b"8.0", b"9.0", 1))
    with pytest.raises(VerificationFailed, match=r"client-2\.ledger: entry 1: the chain is broken"):
        run(folder)


def test_settings_that_make_no_sense_are_refused(folder: Path, tmp_path: Path) -> None:
    plain = load(DIGITS, ("privacy.backend=plain", f"privacy.ledger={folder}", "privacy.ledger_epsilon=8"))
    with pytest.raises(Refused, match="'plain' claims no differential privacy, there is nothing to charge"):
        run_experiment(plain)
    with pytest.raises(Refused, match=r"privacy\.ledger_epsilon: required with ledger"):
        load(DIGITS, (f"privacy.ledger={folder}",))
    with pytest.raises(Refused, match=r"privacy\.ledger_delta: given without ledger"):
        load(DIGITS, ("privacy.ledger_delta=1e-5",))
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=r"privacy\.ledger: .*cannot make the folder"):
        run(tmp_path / "file" / "ledgers")


def test_the_settings_in_a_run_directory_name_the_same_ledgers(folder: Path, tmp_path: Path) -> None:
    run(folder, rounds=1, output=tmp_path / "run")
    again = load(tmp_path / "run" / "experiment.toml")
    assert again.privacy.ledger == str(folder.resolve())


DP_SGD = ("privacy.backend=dp-sgd+smpc", "privacy.noise_multiplier=1.0", "training.batch_size=64")


def test_samples_are_charged_for_every_step_under_their_own_sampling_rate(folder: Path, tmp_path: Path) -> None:
    run(folder, *DP_SGD, output=tmp_path / "run")
    book = read_book(folder / "client-0.ledger")
    first, second = book.accounts["digits", "sample"].charges
    assert first == second == Charge(1.0, steps=first.steps, sampling_rate=first.sampling_rate)
    assert first.steps > 1
    assert 0 < first.sampling_rate < 1
    sheet = sheet_of(tmp_path / "run")
    claimed = sheet["differential_privacy"]["epsilon"]
    assert sheet["ledger"]["unit"] == "sample"
    assert sheet["ledger"]["spent"] == claimed


def test_d6_a_site_whose_samples_have_no_budget_left_does_not_train(folder: Path) -> None:
    run(folder, *DP_SGD, rounds=1)
    spent = read_book(folder / "client-0.ledger").epsilon(BUDGET.model_copy(update={"unit": "sample"}))
    with pytest.raises(Aborted, match="the privacy budget of 'digits' is exhausted"):
        run(folder.with_name("others"), *DP_SGD, f"privacy.ledger_epsilon={spent / 2}", rounds=1)


def test_d5_a_run_of_dp_sgd_that_is_started_again_is_charged_again(folder: Path) -> None:
    run(folder, *DP_SGD, rounds=1)
    run(folder, *DP_SGD, rounds=1)
    assert len(read_book(folder / "client-0.ledger").accounts["digits", "sample"].charges) == 2
