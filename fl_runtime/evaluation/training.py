"""The models that are attacked, and what a protection costs: one real federated training for each.

Rounds run through the backend's own sessions, with every client behind the defence. The same run gives the
half-trained and the trained checkpoint and the utility of its end, so that leakage and utility are of one model.
"""

from __future__ import annotations

import hashlib
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl_runtime.data.dataset import Client, Rows
from fl_runtime.evaluation.catalogue import IMAGE_RANGES, build_defence
from fl_runtime.evaluation.cells import Part, TrainingJob, World
from fl_runtime.experiment import Experiment
from fl_runtime.models import build as build_model
from fl_runtime.run import Rounds, prepare
from fl_runtime.seeds import derive
from fl_runtime.site import Site
from fl_runtime.task import Task
from secagg.leakage import LocalTraining, Observation
from secagg.leakage.attack import generator
from secagg.protocol import Rng
from secagg.vectors import Layout

if TYPE_CHECKING:
    from secagg.leakage import Defence


def train(job: TrainingJob) -> dict[str, Any]:
    """Run it. The result: weights at three stages, scores, bytes and the privacy spent.

    Raises:
        Refused, InvalidUpdate, Aborted: as `fl_runtime.run.run_experiment` does.
    """
    world, seed = job.world, derive(job.world.seed, "training", job.repeat)
    experiment = _experiment(world, job.backend, seed)
    defence = build_defence(job.defence.kind, job.defence.parameters)
    shape = _shape(experiment)
    prepared = prepare(
        experiment,
        change=lambda module: defence.model(module, shape=shape, seed=seed),
        rng=simulated_rng(seed, "training", job.backend.label),
    )
    layout = prepared.layout
    untrained = layout.flatten(prepared.weights)
    if job.defence.kind != "none":
        module = attacked_model(world, job.defence, repeat=job.repeat, shape=shape,
                                classes=len(prepared.federation.classes))  # fmt: skip
        for client in prepared.federation.clients:
            site = _Defended(client, prepared.trainer, layout, seed, defence, module, IMAGE_RANGES[world.data.dataset])
            prepared.sites[client.name] = site  # type: ignore[index]
    rounds = Rounds(prepared)
    half = untrained
    for number in range(1, world.rounds + 1):
        rounds.run_one(number)
        if number == world.rounds // 2:
            half = layout.flatten(rounds.weights)
    scores = rounds.evaluate().overall
    meters = [outcome.meters[name] for outcome in rounds.outcomes for name in outcome.result.contributors]
    spent = prepared.composition.spent(world.rounds, clients=len(prepared.sites))
    return {
        "weights": {"untrained": untrained, "half": half, "trained": layout.flatten(rounds.weights)},
        "accuracy": scores.accuracy,
        "auc": scores.auc,
        "loss": scores.loss,
        "upload_bytes": statistics.median(meter.sent_bytes for meter in meters),
        "spent": None if spent is None else dict(spent),
    }


def attacked_model(world: World, defence: Part, *, repeat: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The model of a run as its clients get it before the first round, the defence's changes included."""
    seed = derive(world.seed, "training", repeat)
    module = build_model(world.model, shape=shape, classes=classes, seed=seed)
    return build_defence(defence.kind, defence.parameters).model(module, shape=shape, seed=seed)


def load_weights(module: nn.Module, weights: NDArray[np.float32]) -> nn.Module:
    """`module` with flat weights in the order of its parameters. Changed in place."""
    with torch.no_grad():
        nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), module.parameters())
    return module


def simulated_rng(seed: int, *labels: str | int) -> Rng:
    """Bytes that repeat, for evaluations whose figures must. Nothing is protected by them."""
    state = hashlib.shake_256(f"simulation/{derive(seed, *labels)}".encode())
    chance = np.random.Generator(np.random.PCG64(int.from_bytes(state.digest(16), "big")))
    return chance.bytes


class _Defended:
    """A site whose update passes through the defence before the backend gets it."""

    def __init__(
        self,
        client: Client,
        trainer: Any,
        layout: Layout,
        seed: int,
        defence: Defence,
        module: nn.Module,
        value_range: tuple[float, float],
    ) -> None:
        chance = generator(derive(seed, "defence", client.name))
        images = torch.from_numpy(client.train.features)
        shown = defence.examples(images, value_range, chance).numpy()
        rows = Rows(np.ascontiguousarray(shown, np.float32), client.train.labels)
        self._site = Site(Client(client.name, rows, client.test), trainer, layout, seed=seed)
        self._defence, self._module, self._range, self._chance = defence, module, value_range, chance
        self._layout, self._images, self._labels = layout, images, torch.from_numpy(client.train.labels)

    def update(self, body: bytes, *, uniform_weight: bool) -> tuple[NDArray[np.float32], int]:
        vector, weight = self._site.update(body, uniform_weight=uniform_weight)
        task = Task.from_bytes(body)
        load_weights(self._module, task.weights)
        flat = torch.from_numpy(-vector)
        sizes = [parameter.numel() for parameter in self._module.parameters()]
        parts = [
            part.view_as(parameter)
            for part, parameter in zip(flat.split(sizes), self._module.parameters(), strict=True)
        ]
        training = task.training
        local = LocalTraining(training.local_epochs or 1, training.batch_size, training.lr)
        seen = Observation(
            self._module, parts, tuple(self._images.shape[1:]), len(self._images), self._range, self._labels, local
        )
        shared = self._defence.share(seen, self._images, self._chance)
        return -torch.cat([part.flatten() for part in shared.gradient]).numpy(), weight


def _experiment(world: World, backend: Part, seed: int) -> Experiment:
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
            "privacy": {"backend": backend.kind, **backend.parameters},
        },
        context={"folder": Path()},
    )


def _shape(experiment: Experiment) -> tuple[int, ...]:
    from fl_runtime.run import load_federation

    return load_federation(experiment).shape
