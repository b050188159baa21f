"""A run from a TOML file to its directory: what is written, what is refused, and what is left after a failure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_runtime.config import load
from fl_runtime.datasheet import to_markdown
from fl_runtime.run import build_backend, load_federation, make_encoding, prepare, run_experiment
from fl_runtime.task import Task
from secagg.errors import Aborted, InvalidUpdate, Refused, VerificationFailed
from secagg.identity import Identity
from secagg.rundir import verify_run

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = ("experiment.rounds=2", "data.clients=4", "training.local_epochs=1", "model.name=logistic")
FILES = {
    "curve.svg", "datasheet.json", "datasheet.md", "directory.json", "experiment.toml", "metrics.jsonl",
    "model.npz", "transcript.jsonl",
}  # fmt: skip


@pytest.fixture(autouse=True)
def secagg_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.mark.parametrize("backend", ["plain", "smpc", "ckks", "dp"])
def test_a_run_leaves_a_directory_that_verifies(backend: str, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "run"
    summary = run_experiment(load(EXAMPLES / "digits.toml", [*QUICK, f"privacy.backend={backend}"]), output=output)
    assert {path.name for path in output.iterdir()} == FILES
    verified = verify_run(output)
    assert (verified.rounds, verified.planned, verified.aborted) == (2, 2, "")
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]
    assert set(lines[1]["clients"]) == {f"client-{number}" for number in range(4)}
    sheet = json.loads((output / "datasheet.json").read_text())
    assert sheet["schema"] == "secagg.datasheet/1"
    assert (sheet["differential_privacy"] is not None) == (backend == "dp")
    assert (output / "datasheet.md").read_text() == to_markdown(sheet)
    with np.load(output / "model.npz", allow_pickle=False) as model:
        assert all(np.isfinite(model[name]).all() for name in model.files)
    assert len(summary.evaluations) == 3


def test_the_settings_in_a_run_directory_run_again_to_the_same_model(tmp_path: Path) -> None:
    first = run_experiment(load(EXAMPLES / "digits.toml", [*QUICK, "privacy.backend=smpc"]), output=tmp_path / "a")
    again = run_experiment(load(tmp_path / "a" / "experiment.toml"), output=tmp_path / "b")
    assert first.evaluations == again.evaluations
    assert (tmp_path / "a" / "model.npz").read_bytes() == (tmp_path / "b" / "model.npz").read_bytes()


@pytest.mark.parametrize("backend", ["plain", "secaggplus"])
def test_clients_that_vanish_in_mid_round_cost_nobody_else_the_sum(backend: str, tmp_path: Path) -> None:
    settings = [f"privacy.backend={backend}", "experiment.rounds=2", "engine.dropout_rate=0.25"]
    run_experiment(load(EXAMPLES / "digits.toml", settings), output=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][-2:]
    assert [(len(line["contributors"]), len(line["dropped"])) for line in lines] == [(6, 2), (6, 2)]
    assert "4 dropouts" in (tmp_path / "run" / "datasheet.md").read_text()


def test_a_shared_key_run_has_its_sum_at_the_clients_and_the_same_model(tmp_path: Path) -> None:
    shared = ("privacy.backend=ckks", "privacy.key_mode=shared", "privacy.acknowledge_shared_key=true")
    protected = run_experiment(load(EXAMPLES / "digits.toml", [*QUICK, *shared]))
    plain = run_experiment(load(EXAMPLES / "digits.toml", [*QUICK, "privacy.backend=plain"]))
    assert protected.evaluations == plain.evaluations


def test_an_existing_directory_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(Refused, match="exists already; name another --output, nothing was changed"):
        run_experiment(load(EXAMPLES / "digits.toml", QUICK), output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_weak_parameters_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    weak = ("privacy.backend=secaggplus", "privacy.degree=2", "data.clients=8")
    with pytest.raises(Refused, match="degree 2 and threshold 2 among 8 clients, the active server singles one out"):
        run_experiment(load(EXAMPLES / "digits.toml", [*QUICK, *weak]), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_diverged_client_is_named_with_its_tensor_and_the_rounds_before_are_kept(tmp_path: Path) -> None:
    settings = (*QUICK, "training.lr=1000.0", "training.momentum=0.99", "training.local_epochs=50")
    deep = (*settings, "model.name=mlp")
    with pytest.raises(InvalidUpdate, match=r"client 'client-\d': tensor '\d\.\w+' holds"):
        run_experiment(load(EXAMPLES / "digits.toml", deep), output=tmp_path / "run")
    assert verify_run(tmp_path / "run").rounds == 0
    sheet = json.loads((tmp_path / "run" / "datasheet.json").read_text())
    assert len(sheet["cohort"]["aborted"]) == 1


def test_a_run_made_over_in_place_by_somebody_else_is_caught(tmp_path: Path) -> None:
    """Other keys, another run id, a directory of its own: everything inside holds together, but not with the pin."""
    run_experiment(load(EXAMPLES / "digits.toml", QUICK), output=tmp_path / "run")
    forged = tmp_path / "forged"
    run_experiment(load(EXAMPLES / "digits.toml", [*QUICK, "experiment.seed=8"]), output=forged)
    (tmp_path / "run").rename(tmp_path / "old")
    forged.rename(tmp_path / "run")
    with pytest.raises(VerificationFailed, match="this directory was made by run"):
        verify_run(tmp_path / "run")


def test_a_given_key_signs_the_record(tmp_path: Path) -> None:
    server = Identity.generate()
    run_experiment(load(EXAMPLES / "digits.toml", QUICK), output=tmp_path / "run", server=server)
    verified = verify_run(tmp_path / "run", fingerprint=server.public.fingerprint.hex())
    assert verified.server_fingerprint == server.public.fingerprint.hex()


def test_t10_a_model_that_is_replayed_in_another_round_gets_no_second_update() -> None:
    prepared = prepare(load(EXAMPLES / "digits.toml", [*QUICK, "privacy.backend=smpc"]))
    names, weights = list(prepared.sites), prepared.layout.flatten(prepared.weights)

    def run(number: int, weights: NDArray[np.float32], cohort: list[str]) -> None:
        task = Task(number, weights, prepared.experiment.algorithm, prepared.experiment.training).to_bytes()
        vector = np.zeros(weights.size, np.float32)
        prepared.engine.round(number, task, cohort, lambda name, task: (vector, 1))

    run(1, weights, names)
    with pytest.raises(Aborted, match="difference size 1"):
        run(2, weights, names[:3])
    run(2, weights + 1, names)


def test_the_public_spec_does_not_tell_the_rows_of_the_largest_client() -> None:
    experiment = load(EXAMPLES / "digits.toml", QUICK)
    federation = load_federation(experiment)
    encoding = make_encoding(experiment, federation, build_backend(experiment), size=1000)
    largest = max(len(client.train) for client in federation.clients)
    assert encoding.max_weight >= largest
    assert encoding.max_weight.bit_count() == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["privacy.backend=ckkz"], "unknown backend 'ckkz' (did you mean 'ckks'?)"),
        (
            ["privacy.backend=smpc", "privacy.agregators=2"],
            "unknown parameter 'agregators' (did you mean 'aggregators'?)",
        ),
        (["privacy.backend=ckks", "privacy.key_mode=shared"], "set acknowledge_shared_key = true"),
        (
            ["privacy.backend=dp", "privacy.target_epsilon=8.0", "privacy.rounds=1"],
            "rounds is 1, and the run has 2",
        ),
        (["privacy.backend=dp", "privacy.sampling_rate=0.5"], "privacy.sampling_rate: got 0.5, expected 1"),
        (["privacy.backend=dp", "privacy.max_weight=5"], "privacy.max_weight"),
        (["privacy.value_bound=1e9"], "modulus_bits = 32 is too small"),
        (["data.dataset=digit"], "did you mean 'digits'?"),
        (["data.clients=2"], "data.clients"),
        (["training.lr='fast'"], "training.lr"),
        (["trainin.lr=1.0"], "did you mean 'training'?"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(overrides: list[str], says: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from secagg.cli import main; main()", "train", str(EXAMPLES / "digits.toml")]
    for override in ["experiment.rounds=2", *overrides]:
        command += ["--set", override]
    done = subprocess.run([*command, "--output", str(tmp_path / "run")], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not (tmp_path / "run").exists()
