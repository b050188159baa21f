"""Running an experiment: rounds of local training through a backend, and the directory that they leave behind.

experiment.toml    the settings, resolved: `secagg train` takes it again
metrics.jsonl      one line a round: scores over all and for each client, bytes, seconds
datasheet.json/md  the privacy data sheet
model.npz          the final weights
curve.svg          accuracy and loss over the rounds
directory.json, transcript.jsonl    see `secagg.rundir`
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fl_runtime.data.catalogue import load as load_dataset
from fl_runtime.data.dataset import Federation
from fl_runtime.data.federation import federate
from fl_runtime.datasheet import RoundFacts, make_datasheet, to_markdown
from fl_runtime.engines.local import LocalEngine
from fl_runtime.experiment import Experiment
from fl_runtime.metrics import Evaluation, evaluate
from fl_runtime.sampling import cohort
from fl_runtime.site import Site
from fl_runtime.task import Task
from fl_runtime.toml import to_toml
from secagg.driver import Outcome
from secagg.errors import Aborted, InvalidUpdate, Refused
from secagg.fixedpoint import FixedPoint
from secagg.registry import Composition, build, parameter_names
from secagg.rundir import RunDirectory
from secagg.transcript import round_body
from secagg.vectors import Layout


@dataclass
class RunSummary:
    """What a finished run says of itself. Bytes and seconds are medians over rounds of the median client."""

    path: Path | None
    backend: str
    evaluations: list[Evaluation] = field(default_factory=list)
    upload_bytes: float = 0.0
    download_bytes: float = 0.0
    protocol_s: float = 0.0
    seconds: float = 0.0
    spent: Mapping[str, Any] | None = None
    server_saw: tuple[str, ...] = ()
    saturated: int = 0

    @property
    def final(self) -> Evaluation:
        return self.evaluations[-1]


def run_experiment(
    experiment: Experiment, *, output: Path | None = None, progress: Callable[[], object] = lambda: None
) -> RunSummary:
    """Run all rounds; `progress` is called after each. With `output`, leave a run directory there.

    Raises:
        Refused: the settings do not fit together, or `output` exists.
        InvalidUpdate: a client's training diverged. Aborted: a round could not be finished. The directory then
            holds the rounds before, sealed.
    """
    composition = build_backend(experiment)
    federation = load_federation(experiment)
    started = time.perf_counter()
    run = _Run(experiment, federation, composition, output)
    run.execute(progress)
    run.summary.seconds = time.perf_counter() - started
    return run.summary


def load_federation(experiment: Experiment) -> Federation:
    """The experiment's data, dealt to its clients."""
    data, seed = experiment.data, experiment.experiment.seed
    dataset = load_dataset(data.dataset, experiment.data_path, limit=data.limit, seed=seed)
    return federate(dataset, data.partition, clients=data.count, seed=seed, arguments=data.arguments)


def build_backend(experiment: Experiment) -> Composition:
    """The experiment's backend. It must be able to carry what the algorithm needs."""
    privacy = experiment.privacy
    parameters = dict(privacy.parameters)
    if "rounds" in parameter_names(privacy.backend):
        parameters.setdefault("rounds", experiment.experiment.rounds)
    composition = build(privacy.backend, parameters)
    spent = composition.spent(experiment.experiment.rounds)
    if spent is not None and spent["sampling_rate"] != 1:
        raise Refused(
            f"privacy.sampling_rate: got {spent['sampling_rate']:g}, expected 1: cohorts here are no secret Poisson "
            "sample, so a run claims no amplification (other rates are for secagg plan)"
        )
    if composition.guarantees.sum_only and not experiment.algorithm.sum_only:
        raise Refused(
            f"algorithm {experiment.algorithm.name!r} needs single updates, and backend {privacy.backend!r} "
            "reveals sums only"
        )
    return composition


def make_encoding(experiment: Experiment, federation: Federation, composition: Composition) -> FixedPoint:
    """The encoding of every round: secret weights up to the largest client, or uniform ones and a public divisor."""
    privacy = experiment.privacy
    clients = experiment.algorithm.clients_per_round or len(federation.clients)
    bound = privacy.value_bound
    sum_bits = composition.backend.sum_bits
    if not composition.guarantees.uniform_weights:
        largest = privacy.max_weight or max(len(client.train) for client in federation.clients)
        return FixedPoint.fit(
            clients=clients,
            value_bound=bound,
            max_weight=largest,
            modulus_bits=privacy.modulus_bits,
            sum_bits=sum_bits,
        )
    if privacy.max_weight not in (None, 1):
        raise Refused(f"privacy.max_weight: {privacy.backend!r} weighs all clients alike; leave it out or set it to 1")
    if "value_bound" not in privacy.model_fields_set:
        # No coordinate of a clipped update is larger than its norm.
        bound = float(composition.backend.parameters.get("clip_l2", bound))
    return FixedPoint.fit(
        clients=clients, value_bound=bound, modulus_bits=privacy.modulus_bits, divisor=clients, sum_bits=sum_bits
    )


class _Run:
    """One run in progress."""

    def __init__(
        self, experiment: Experiment, federation: Federation, composition: Composition, output: Path | None
    ) -> None:
        from fl_runtime.models import build as build_model
        from fl_runtime.trainer import Trainer

        seed = experiment.experiment.seed
        self._experiment = experiment
        self._federation = federation
        self._composition = composition
        self._names = [client.name for client in federation.clients]
        model = build_model(experiment.model, shape=federation.shape, classes=len(federation.classes), seed=seed)
        self._trainer = Trainer(model)
        self._weights = dict(self._trainer.weights())
        self._layout = Layout.of(self._weights)
        self._sites = {c.name: Site(c, self._trainer, self._layout, seed=seed) for c in federation.clients}
        self._encoding = make_encoding(experiment, federation, composition)
        self._engine = LocalEngine(
            composition.backend,
            self._names,
            minimum_cohort=experiment.privacy.minimum_cohort,
            layout=self._layout,
            encoding=self._encoding,
        )
        self._outcomes: list[Outcome] = []
        self._aborted: list[str] = []
        self._task_bytes = 0
        # Nothing is written before everything that can be refused has been.
        self._directory = RunDirectory(output) if output is not None else None
        self.summary = RunSummary(
            path=output, backend=composition.name, server_saw=composition.guarantees.sees["server"]
        )

    def execute(self, progress: Callable[[], object]) -> None:
        self._open()
        self._evaluate(0, None)
        try:
            for number in range(1, self._experiment.experiment.rounds + 1):
                self._evaluate(number, self._round(number))
                progress()
        except (Aborted, InvalidUpdate) as error:
            self._aborted.append(str(error))
            if self._directory is not None:
                self._transcript.append("aborted", {"why": str(error)})
            raise
        finally:
            self._finish()

    def _round(self, number: int) -> Outcome:
        experiment = self._experiment
        flat = self._layout.flatten(self._weights)
        task = Task(number, flat, experiment.algorithm, experiment.training).to_bytes()
        self._task_bytes = len(task)
        chosen = cohort(
            self._names,
            experiment.algorithm.clients_per_round,
            seed=experiment.experiment.seed,
            round_number=number,
        )
        outcome = self._engine.round(number, task, chosen, self._update)
        mean = self._layout.unflatten(outcome.result.mean())
        self._weights = dict(experiment.algorithm.step(self._weights, mean))
        self._outcomes.append(outcome)
        if self._directory is not None:
            self._transcript.append(
                "round",
                round_body(
                    outcome.spec,
                    outcome.evidence,
                    dropped=dict(outcome.dropped),
                    rejected=[[error.sender, error.why] for error in outcome.rejected],
                    model=_digest(self._layout, self._weights),
                ),
            )
        return outcome

    def _update(self, name: str, task: bytes) -> Any:
        vector, weight = self._sites[name].update(task, uniform_weight=not self._encoding.weighted)
        if not self._composition.guarantees.uniform_weights:
            self.summary.saturated += int(np.count_nonzero(np.abs(vector) > self._encoding.value_bound))
        return vector, weight

    def _evaluate(self, number: int, outcome: Outcome | None) -> None:
        weights = self._weights
        evaluation = evaluate(self._federation, lambda features: self._trainer.predict(weights, features))
        self.summary.evaluations.append(evaluation)
        if self._directory is None:
            return
        line: dict[str, Any] = {"round": number, **evaluation.to_json()}
        if outcome is not None:
            line |= {
                "contributors": list(outcome.result.contributors),
                "dropped": dict(outcome.dropped),
                "wall_s": outcome.wall_s,
                "parties": {name: vars(meter) for name, meter in outcome.meters.items()},
            }
        with open(self._directory.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def _open(self) -> None:
        if self._directory is None:
            return
        settings = self._experiment.model_dump(mode="json", exclude_none=True)
        written = self._experiment.data.path
        if written is not None and not written.startswith("$"):
            # A relative path would start at the run directory now.
            settings["data"]["path"] = str(self._experiment.data_path and self._experiment.data_path.resolve())
        (self._directory.path / "experiment.toml").write_text(to_toml(settings), encoding="utf-8")
        self._transcript = self._directory.open_transcript(
            self._engine.run,
            self._engine.directory,
            self._engine.server,
            about={"experiment": self._experiment.digest(), "name": self._experiment.experiment.name},
        )

    def _finish(self) -> None:
        """Sum up, and seal the directory over everything that was written."""
        self._sum_up()
        if self._directory is None:
            return
        path = self._directory.path
        np.savez(path / "model.npz", **self._weights)  # type: ignore[arg-type]
        sheet = self._sheet()
        (path / "datasheet.json").write_text(json.dumps(sheet, indent=2) + "\n", encoding="utf-8")
        (path / "datasheet.md").write_text(to_markdown(sheet), encoding="utf-8")
        if find_spec("matplotlib") is not None:
            from fl_runtime.curve import draw_curve

            title = f"{self._experiment.experiment.name}: {self.summary.backend}"
            draw_curve({"all test rows": self.summary.evaluations}, path / "curve.svg", title=title)
        self._directory.seal()

    def _sum_up(self) -> None:
        summary, outcomes = self.summary, self._outcomes
        summary.spent = self._composition.spent(len(outcomes)) if outcomes else None
        if outcomes:
            meters = [[o.meters[name] for name in o.result.contributors] for o in outcomes]
            summary.upload_bytes = statistics.median(m.sent_bytes for each in meters for m in each)
            summary.download_bytes = (
                statistics.median(m.received_bytes for each in meters for m in each) + self._task_bytes
            )
            summary.protocol_s = sum(outcome.wall_s for outcome in outcomes)

    def _sheet(self) -> dict[str, Any]:
        return make_datasheet(
            run=self._engine.run,
            backend=self._composition.name,
            parameters=self._composition.backend.parameters,
            guarantees=self._composition.guarantees,
            minimum_cohort=self._experiment.privacy.minimum_cohort,
            rounds=[
                RoundFacts(o.spec.round, len(o.spec.roster.clients), len(o.result.contributors), len(o.rejected))
                for o in self._outcomes
            ],
            aborted=self._aborted,
            directory=self._engine.directory,
            spent=self.summary.spent,
            transcript=self._transcript.head,
        )


def _digest(layout: Layout, weights: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the flat weights, so that a transcript names every model."""
    import hashlib

    return hashlib.sha256(layout.flatten(weights).tobytes()).hexdigest()
