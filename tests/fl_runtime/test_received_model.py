"""Clients look at the models they receive: malicious ones are warned of or refused, and honest runs go on as ever."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fl_runtime.config import load
from fl_runtime.data.dataset import Client
from fl_runtime.received_model import Inspector, SuspiciousModel
from fl_runtime.run import Prepared, Rounds, prepare, run_experiment
from fl_runtime.sensitivity import private_sensitivity
from fl_runtime.site import Site
from fl_runtime.task import Task
from fl_runtime.trainer import Trainer
from secagg.errors import Aborted, InvalidUpdate, Refused
from secagg.leakage.malicious.imprint import ImprintBlock, cuts_of
from secagg.leakage.malicious.inconsistency import with_dead_layer
from secagg.leakage.malicious.trap_weights import set_traps

DIGITS = Path(__file__).parents[2] / "examples" / "digits.toml"
QUICK = ("data.clients=4", "model.name=mlp", "training.local_epochs=1")
SITES = [f"client-{number}" for number in range(4)]


def imprinted(model: nn.Module) -> nn.Module:
    return nn.Sequential(ImprintBlock((1, 8, 8), cuts_of(torch.rand(200, 1, 8, 8), 16)), model)


def trapped(model: nn.Module) -> nn.Module:
    set_traps(model[1], generator=torch.Generator().manual_seed(1))  # type: ignore[index, arg-type]
    return model


def dead(model: nn.Module) -> nn.Module:
    return with_dead_layer(model, "1")  # type: ignore[arg-type]


def silenced(model: nn.Module) -> nn.Module:
    """Dead by its biases alone: its rows are as they were, so that only inputs show it."""
    nn.init.constant_(model[1].bias, -30.0)  # type: ignore[index, arg-type]
    return model


MALICIOUS: Mapping[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "imprint": (imprinted, r"layer 0\.bins: parallel rows, 100 %"),
    "traps": (trapped, r"layer 1: mirrored rows, 100 %"),
    "dead layer": (dead, r"layer 1: dead units, 100 %"),
    "silenced layer": (silenced, r"layer 1: dead units, 100 %"),
}


def prepared_with(answer: str, change: Callable[[nn.Module], nn.Module], *settings: str) -> Prepared:
    return prepare(load(DIGITS, (*QUICK, f"privacy.received_model={answer}", *settings)), change=change)


def warned(rounds: Rounds, numbers: list[int]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in numbers:
            rounds.run_one(number)
    return [str(warning.message) for warning in caught if warning.category is SuspiciousModel]


@pytest.mark.filterwarnings("ignore::secagg.participation.CloseCohorts")
@pytest.mark.parametrize("settings", [
    ("privacy.backend=plain",),
    ("privacy.backend=smpc", "model.name=small_cnn"),
    ("privacy.backend=secaggplus", "algorithm.clients_per_round=3", "data.clients=8"),
])  # fmt: skip
def test_an_honest_run_goes_through_at_refuse_as_it_does_at_trust(settings: tuple[str, ...], tmp_path: Path) -> None:
    found = {}
    for answer in ("trust", "refuse"):
        chosen = (*QUICK, *settings, "experiment.rounds=5", f"privacy.received_model={answer}")
        with warnings.catch_warnings():
            warnings.simplefilter("error", SuspiciousModel)
            found[answer] = run_experiment(load(DIGITS, chosen), output=tmp_path / answer)
    assert found["trust"].evaluations == found["refuse"].evaluations
    assert (tmp_path / "trust" / "model.npz").read_bytes() == (tmp_path / "refuse" / "model.npz").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "refuse" / "metrics.jsonl").read_text().splitlines()[1:]]
    assert [line["dropped"] for line in lines] == [{}] * 5


@pytest.mark.parametrize("answer", ["warn", "refuse"])
def test_private_training_is_looked_at_as_well(answer: str) -> None:
    chosen = ("privacy.backend=dp-sgd+smpc", "privacy.noise_multiplier=1.0", "training.batch_size=64")
    rounds = Rounds(prepared_with(answer, lambda model: model, *chosen))
    assert warned(rounds, [1, 2]) == []
    caught = Rounds(prepared_with(answer, imprinted, *chosen))
    if answer == "warn":
        assert len(warned(caught, [1])) == 4
    else:
        with pytest.raises(Aborted, match="parallel rows"):
            caught.run_one(1)


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_client_warns_once_of_a_malicious_model_and_names_itself_round_layer_and_kind(name: str) -> None:
    change, says = MALICIOUS[name]
    messages = warned(Rounds(prepared_with("warn", change)), [1, 2])
    for site in SITES:
        own = [text for text in messages if text.startswith(f"{site}: ")]
        assert own[0].startswith(f"{site}: the model of round 1 looks made to spy on this client's rows: ")
        assert re.search(says, own[0])
        said = [found for text in own for found in re.findall(r"layer ([^,]+),", text)]
        assert len(said) == len(set(said))


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_client_that_refuses_computes_nothing_from_a_malicious_model(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, says = MALICIOUS[name]
    rounds = Rounds(prepared_with("refuse", change))
    monkeypatch.setattr(Trainer, "train", lambda *arguments, **options: pytest.fail("a client trained"))
    with pytest.raises(Aborted, match=rf"client-0: the model of round 1 looks made to spy .*{says}"):
        rounds.run_one(1)


def test_a_client_that_refuses_is_left_out_and_the_others_go_on() -> None:
    prepared = prepared_with("trust", imprinted, "privacy.backend=secaggplus", "data.clients=8")
    inspector = inspector_of(prepared, "client-1")
    site = Site(client(prepared, "client-1"), prepared.trainer, prepared.layout, seed=7, inspector=inspector)
    outcome = Rounds(replace(prepared, sites={**prepared.sites, "client-1": site})).run_one(1)
    assert set(outcome.result.contributors) == set(prepared.sites) - {"client-1"}
    assert list(outcome.dropped) == ["client-1"]
    assert "round 1 looks made to spy on this client's rows: layer 0.bins: parallel" in outcome.dropped["client-1"]


def test_a_layer_that_is_replaced_between_rounds_is_refused() -> None:
    rounds = Rounds(prepared_with("refuse", lambda model: model))
    rounds.run_one(1)
    drawn = np.random.default_rng(0).normal(size=(64, 64)) / 8
    rounds.weights = {**rounds.weights, "1.weight": drawn.astype(np.float32)}
    with pytest.raises(Aborted, match=r"client-0: the model of round 2 .*layer 1: replaced kernels"):
        rounds.run_one(2)


def client(prepared: Prepared, name: str) -> Client:
    return next(client for client in prepared.federation.clients if client.name == name)


def inspector_of(prepared: Prepared, name: str, *, refuse: bool = True) -> Inspector:
    return Inspector(client(prepared, name), prepared.trainer, refuse=refuse, own_rows=True, seed=7)


def test_a_model_that_was_refused_does_not_vouch_for_the_next() -> None:
    prepared = prepared_with("trust", lambda model: model)
    inspector = inspector_of(prepared, "client-0")
    inspector.inspect(prepared.weights, 1)
    drawn = np.random.default_rng(0).normal(size=(64, 64)) / 8
    other = {**prepared.weights, "1.weight": drawn.astype(np.float32)}
    for number in (2, 3):
        with pytest.raises(Aborted, match=rf"round {number} .*replaced kernels"):
            inspector.inspect(other, number)
    inspector.inspect(prepared.weights, 4)


def test_under_differential_privacy_no_client_leaves_because_of_its_rows() -> None:
    private = ("privacy.backend=dp", "privacy.noise_multiplier=1.0")
    rounds = Rounds(prepared_with("refuse", silenced, *private))
    assert len(rounds.run_one(1).result.contributors) == 4
    with pytest.raises(Aborted, match="parallel rows"):
        Rounds(prepared_with("refuse", imprinted, *private)).run_one(1)
    messages = warned(Rounds(prepared_with("warn", silenced, *private)), [1])
    assert ["dead units" in message for message in messages] == [True] * 4


def test_a_client_with_few_rows_looks_at_the_weights_alone() -> None:
    prepared = prepared_with("trust", lambda model: model)
    few = client(prepared, "client-0")
    few = replace(few, train=few.train.take(np.arange(31)))
    inspector = Inspector(few, prepared.trainer, refuse=True, own_rows=True, seed=7)
    inspector.inspect(prepared.weights, 1)
    with pytest.raises(Aborted, match="mirrored rows"):
        inspector.inspect(prepared_with("trust", trapped).weights, 2)


def test_nobody_looks_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inspector, "inspect", lambda *arguments: pytest.fail("a client looked"))
    for settings in (QUICK, (*QUICK, "privacy.received_model=trust")):
        Rounds(prepare(load(DIGITS, settings), change=imprinted)).run_one(1)


@pytest.mark.parametrize("answer", ["trust", "warn", "refuse"])
def test_a_model_that_is_not_finite_gets_no_update_whatever_the_setting(answer: str) -> None:
    prepared = prepared_with(answer, lambda model: model)
    weights = prepared.layout.flatten(prepared.weights)
    weights[-1] = np.nan
    task = Task(1, weights, prepared.experiment.algorithm, prepared.experiment.training).to_bytes()
    with pytest.raises(InvalidUpdate, match=r"client 'client-0': the received model: tensor '3\.bias' holds nan"):
        prepared.engine.round(1, task, SITES, lambda name, task: prepared.sites[name].update(task))


def test_a_map_of_sensitivities_is_not_made_of_a_refused_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from fl_runtime import run as runs

    build = runs.prepare
    monkeypatch.setattr("fl_runtime.sensitivity.prepare", lambda experiment: build(experiment, change=trapped))
    settings = (*QUICK, "privacy.backend=smpc", "privacy.received_model=refuse")
    with pytest.raises(Aborted, match="mirrored rows"):
        private_sensitivity(load(DIGITS, settings))


def test_another_answer_is_refused() -> None:
    with pytest.raises(Refused, match=r"privacy\.received_model: .*'trust', 'warn' or 'refuse'"):
        load(DIGITS, (*QUICK, "privacy.received_model=maybe"))
