"""The models that are attacked, and what a protection costs: one real federated training for each.

Rounds run through the backend's own sessions, with every client behind the defence. The same run gives the
half-trained and the trained checkpoint and the utility of its end, so that leakage and utility are of one model.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_runtime.audits import audit_run
from fl_runtime.data.dataset import Client, Dataset, Rows
from fl_runtime.data.federation import federate
from fl_runtime.evaluation.matrix.catalogue import UNSEEN, build_defence
from fl_runtime.evaluation.matrix.cells import Part, TrainingJob
from fl_runtime.evaluation.matrix.settings import NONE
from fl_runtime.evaluation.matrix.world import World, dataset, value_range
from fl_runtime.experiment import Experiment
from fl_runtime.metrics import SMALLEST_PROBABILITY
from fl_runtime.models import build as build_model
from fl_runtime.run import Prepared, Rounds, prepare
from fl_runtime.seeds import derive
from fl_runtime.site import Site
from fl_runtime.task import Task
from secagg.errors import Refused
from secagg.leakage import LocalTraining, Observation
from secagg.leakage.attack import generator
from secagg.protocol import Rng

if TYPE_CHECKING:
    from secagg.leakage import Defence


@dataclass(frozen=True)
class Trained:
    """A finished federated training; `half` are the weights after half of its rounds, flat."""

    prepared: Prepared
    rounds: Rounds
    half: NDArray[np.float32]

    def spent(self, rounds: int) -> dict[str, Any] | None:
        """The privacy that so many rounds have spent, or None where none is claimed."""
        spent = self.prepared.composition.spent(rounds, clients=len(self.prepared.sites))
        return None if spent is None else dict(spent)

    def losses(self, rows: Rows) -> NDArray[np.float64]:
        """The cross-entropy of the finished model on each row, nats, shape `(n,)`."""
        chances = self.prepared.trainer.predict(self.rounds.weights, rows.features)
        own = chances[np.arange(len(rows)), rows.labels].astype(np.float64)
        return -np.log(np.maximum(own, SMALLEST_PROBABILITY))


def train(job: TrainingJob) -> dict[str, Any]:
    """Run it. The result: weights at three stages, scores, bytes and the privacy spent.

    Raises:
        Refused, InvalidUpdate, Aborted: as `fl_runtime.run.run_experiment` does.
    """
    done = run_federation(job, dataset(job.world), seed=derive(job.world.seed, "training", job.repeat))
    flatten, outcomes = done.prepared.layout.flatten, done.rounds.outcomes
    scores, spent = done.rounds.evaluate().overall, done.spent(job.world.rounds)
    meters = [outcome.meters[name] for outcome in outcomes for name in outcome.result.contributors]
    return {
        "weights": {
            "untrained": flatten(done.prepared.weights),
            "half": done.half,
            "trained": flatten(done.rounds.weights),
        },
        "accuracy": scores.accuracy,
        "auc": scores.auc,
        "loss": scores.loss,
        "upload_bytes": statistics.median(meter.sent_bytes for meter in meters),
        "spent": spent,
        "audit": _audit(job, done, spent),
    }


def _audit(job: TrainingJob, done: Trained, spent: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The claim of a training, audited on canaries where it makes one: in the first repeat, as all claim the same."""
    if job.world.audit_canaries is None or job.repeat > 0 or spent is None or spent["delta"] >= 1:
        return None
    seed = derive(job.world.seed, "audit", job.backend.label)
    experiment = _experiment(job.world, job.backend, seed, audit_canaries=job.world.audit_canaries)
    try:
        return dict(audit_run(experiment, done.prepared.composition, spent))
    except Refused as error:
        raise Refused(f"evaluation.audit_canaries: backend {job.backend.label!r}: {error}") from None


def run_federation(job: TrainingJob, data: Dataset, *, seed: int) -> Trained:
    """All rounds of a job on some data, dealt to the job's clients."""
    world, settings = job.world, job.world.data
    experiment = _experiment(world, job.backend, seed)
    federation = federate(data, settings.partition, clients=settings.count, seed=seed, arguments=settings.arguments)
    defence = build_defence(job.defence.kind, job.defence.parameters)
    prepared = prepare(
        experiment,
        federation=federation,
        change=lambda module: defence.model(module, shape=federation.shape, seed=seed),
        rng=simulated_rng(seed, "training", job.backend.label),
    )
    if job.defence.kind not in (NONE, *UNSEEN):
        module = _model(world, job.defence, seed=seed, shape=federation.shape, classes=len(federation.classes))
        sites = {
            client.name: _Defended(client, prepared, seed, defence, module, value_range(world))
            for client in federation.clients
        }
        prepared = replace(prepared, sites=sites)
    rounds = Rounds(prepared)
    half = prepared.layout.flatten(prepared.weights)
    for number in range(1, world.rounds + 1):
        rounds.run_one(number)
        if number == world.rounds // 2:
            half = prepared.layout.flatten(rounds.weights)
    return Trained(prepared, rounds, half)


def attacked_model(world: World, defence: Part, *, repeat: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The model of a run as its clients get it before the first round, the defence's changes included."""
    return _model(world, defence, seed=derive(world.seed, "training", repeat), shape=shape, classes=classes)


def _model(world: World, defence: Part, *, seed: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module = build_model(world.model, shape=shape, classes=classes, seed=seed)
    return build_defence(defence.kind, defence.parameters).model(module, shape=shape, seed=seed)


def load_weights(module: nn.Module, weights: NDArray[np.float32]) -> nn.Module:
    """`module` with flat weights in the order of its parameters. Changed in place."""
    with torch.no_grad():
        nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), module.parameters())
    return module


def shaped(vector: Tensor, module: nn.Module) -> list[Tensor]:
    """A vector as tensors of the shapes of the module's parameters."""
    parameters = list(module.parameters())
    parts = torch.split_with_sizes(vector, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def simulated_rng(seed: int, *labels: str | int) -> Rng:
    """Bytes that repeat, for evaluations whose figures must. Nothing is protected by them."""
    state = hashlib.shake_256(f"simulation/{derive(seed, *labels)}".encode())
    chance = np.random.Generator(np.random.PCG64(int.from_bytes(state.digest(16), "big")))
    return chance.bytes


class _Defended(Site):
    """A site whose update passes through the defence before the backend gets it."""

    def __init__(
        self,
        client: Client,
        prepared: Prepared,
        seed: int,
        defence: Defence,
        module: nn.Module,
        pixels: tuple[float, float],
    ) -> None:
        chance = generator(derive(seed, "defence", client.name))
        images = torch.from_numpy(client.train.features)
        shown = defence.examples(images, pixels, chance).numpy()
        rows = Rows(np.ascontiguousarray(shown, np.float32), client.train.labels)
        client_shown = Client(client.name, rows, client.test)
        super().__init__(client_shown, prepared.trainer, prepared.layout, seed=seed)
        self._defence, self._module, self._range, self._chance = defence, module, pixels, chance
        self._images, self._labels = images, torch.from_numpy(client.train.labels)

    def update(self, body: bytes) -> tuple[NDArray[np.float32], int]:
        vector, weight = super().update(body)
        task = Task.from_bytes(body)
        load_weights(self._module, task.weights)
        parts = shaped(torch.from_numpy(-vector), self._module)
        training = task.training
        local = LocalTraining(training.local_epochs or 1, training.batch_size, training.lr)
        seen = Observation(
            self._module, parts, tuple(self._images.shape[1:]), len(self._images), self._range, self._labels, local
        )
        shared = self._defence.share(seen, self._images, self._chance)
        return -torch.cat([part.flatten() for part in shared.gradient]).numpy(), weight


def _experiment(world: World, backend: Part, seed: int, **privacy: Any) -> Experiment:
    data = world.data.model_dump(mode="json", exclude_none=True)
    if world.data_path is not None:
        data["path"] = world.data_path
    return Experiment.model_validate(
        {
            "experiment": {"name": "evaluation", "rounds": world.rounds, "seed": seed},
            "data": data,
            "model": world.model.model_dump(mode="json"),
            "algorithm": world.algorithm.model_dump(mode="json"),
            "training": world.training.model_dump(mode="json"),
            "privacy": {"backend": backend.kind, **backend.parameters, **privacy},
        },
        context={"folder": Path()},
    )
