"""What an adversary really has of some images: honest clients, a recorded round, and one party's view of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_runtime.data.dataset import Rows
from fl_runtime.evaluation.attempts.private_step import private_step
from fl_runtime.evaluation.attempts.training import shaped, simulated_rng
from fl_runtime.evaluation.matrix.catalogue import build_defence
from fl_runtime.evaluation.matrix.cells import Cell, Part
from fl_runtime.evaluation.matrix.settings import Adversary
from fl_runtime.evaluation.matrix.world import dataset, value_range
from fl_runtime.seeds import derive
from fl_runtime.seeds import generator as numpy_generator
from secagg import registry
from secagg.identity import SERVER, PartyId
from secagg.leakage import LocalTraining, Observation, observe
from secagg.leakage.recording import Recording, record
from secagg.leakage.views import EVERYBODY, View, views


@dataclass(frozen=True)
class Client:
    """An honest client of the attacked round: its images `(batch, *shape)`, labels, and what it shares."""

    name: PartyId
    images: Tensor
    labels: Tensor
    shared: Observation


@dataclass(frozen=True)
class Sight:
    """One view with an update in it, and whose images are behind it."""

    view: View
    victims: tuple[Client, ...]
    seen: Observation

    @property
    def in_words(self) -> str:
        """What is read; single updates alike, whosever they are."""
        text = "single updates" if self.view.single else str(self.view)
        hidden = any(victim.shared.noise_std for victim in self.victims)
        return f"{text}, with noise" if hidden and not self.view.noised else text

    @property
    def images(self) -> Tensor:
        return torch.cat([victim.images for victim in self.victims])

    @property
    def labels(self) -> Tensor:
        return torch.cat([victim.labels for victim in self.victims])


@dataclass(frozen=True)
class Attacked:
    """One round as its adversary has it: a sight of each update or sum that it reads, or none at all."""

    recording: Recording
    sights: tuple[Sight, ...]
    bystanders: tuple[Client, ...]

    @property
    def upload_bytes(self) -> float:
        meters = self.recording.outcome.meters
        return float(np.median([meters[name].sent_bytes for name in self.recording.clients]))


def rounds(cell: Cell, model: nn.Module, *, public: bool = False) -> Iterator[Attacked]:
    """Rounds of the cell's cohort until enough images are behind them. With `public`, on the adversary's own images."""
    attacked = 0
    for number, rows in draws(cell, public=public):
        clients = honest_clients(cell, [model] * cell.setting.clients, rows, number=number)
        recording = record(
            cell.backend.kind,
            {client.name: flat(client.shared.gradient) for client in clients},
            parameters=registry.for_rounds(cell.backend.kind, cell.backend.parameters, cell.world.rounds),
            rng=simulated_rng(cell.world.seed, "round", cell.repeat, number),
        )
        found = _sighted(cell, recording, clients)
        yield found
        attacked += sum(len(sight.images) for sight in found.sights) or len(rows)
        if attacked >= cell.images:
            return


def draws(cell: Cell, *, public: bool = False) -> Iterator[tuple[int, Rows]]:
    """The images of one round after the other, with a number for each round; without end.

    Training rows are the victims'; test rows are public.
    """
    data = dataset(cell.world)
    rows = data.test if public else data.train
    need = cell.setting.clients * cell.setting.batch
    order = numpy_generator(cell.world.seed, "victims", cell.repeat, int(public)).permutation(len(rows))
    for number in itertools.count():
        place = number % (len(order) // need)
        yield number, rows.take(order[place * need : (place + 1) * need])


def honest_clients(cell: Cell, models: Sequence[nn.Module], rows: Rows, *, number: int) -> list[Client]:
    """The clients of a round, each with its part of the rows and with what it shares after training on its model."""
    setting = cell.setting
    defence = build_defence(cell.defence.kind, cell.defence.parameters)
    whole = setting.local_epochs == 1 and setting.local_batch in (0, setting.batch)
    local = None if whole else LocalTraining(
        setting.local_epochs, setting.local_batch or setting.batch, cell.world.training.lr
    )  # fmt: skip
    images, labels = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
    width = len(str(setting.clients - 1))
    clients = []
    for place, model in enumerate(models):
        own = slice(place * setting.batch, (place + 1) * setting.batch)
        shared = observe(
            model,
            images[own],
            labels[own],
            defence=defence,
            local=local,
            value_range=value_range(cell.world),
            know_labels=setting.labels == "known",
            know_statistics=setting.statistics == "known",
            seed=derive(cell.world.seed, "client", cell.repeat, number, place),
        )
        shared = private_step(cell, shared, images[own], labels[own])
        clients.append(Client(f"client-{place:0{width}}", images[own], labels[own], shared))
    return clients


def _sighted(cell: Cell, recording: Recording, clients: Sequence[Client]) -> Attacked:
    party, colluders = coalition(recording, cell.setting.adversary)
    by_name = {client.name: client for client in clients}
    sights = []
    for view in views(recording, party, colluders):
        if view.vector is not None:
            victims = tuple(by_name[name] for name in view.over)
            own = view.vector[: sum(part.numel() for part in victims[0].shared.gradient)]  # behind it stand the layers'
            mean = torch.from_numpy(own / len(view.over)).float()
            sights.append(Sight(view, victims, _observation(cell, view, mean, victims)))
    members = {party, *colluders}
    return Attacked(recording, tuple(sights), tuple(client for client in clients if client.name not in members))


def coalition(recording: Recording, adversary: Adversary) -> tuple[PartyId, tuple[PartyId, ...]]:
    """The parties behind an adversary's name: one, and who colludes with it."""
    clients, helpers = recording.clients, recording.helpers
    party, _, others = adversary.partition(" and ")
    colluders = {
        "": (),
        "a client": clients[-1:],
        "all clients but one": clients[1:],
        "all helpers but one": helpers[1:],
        "all helpers": helpers,
    }[others]
    return {"server": SERVER, "everybody": EVERYBODY, "helper": helpers[0] if helpers else ""}[party], tuple(colluders)


def _observation(cell: Cell, view: View, mean: Tensor, victims: Sequence[Client]) -> Observation:
    """The mean update over the victims, with what this adversary knows beside it."""
    first = victims[0].shared
    read = torch.isfinite(mean)
    parts = shaped(torch.where(read, mean, 0.0), first.model)
    masks = [mask for client in victims if (mask := client.shared.visible) is not None]
    visible: list[Tensor] | None = None
    if masks or not read.all():
        # A coordinate that some client left out is not that of the mean.
        visible = [part.bool() for part in shaped(read, first.model)]
        for mask in masks:
            visible = [old & new for old, new in zip(visible, mask, strict=True)]
    noise = [client.shared.noise_std for client in victims]
    known = all(client.shared.labels is not None for client in victims)
    seen = replace(
        first,
        gradient=parts,
        examples=sum(client.shared.examples for client in victims),
        labels=torch.cat([client.labels for client in victims]) if known else None,
        visible=visible,
        noise_std=float(np.sqrt(np.square(noise).sum() + _layer_noise(cell.backend, cell.world.rounds, view) ** 2))
        / len(victims),
        statistics=_pooled(victims),
    )
    return seen if cell.setting.adaptive else seen.oblivious()


def _layer_noise(backend: Part, planned: int, view: View) -> float:
    """The standard deviation of a backend's own noise on the sum, in the unit of the updates."""
    if not view.noised:
        return 0.0
    built = registry.build(backend.kind, registry.for_rounds(backend.kind, backend.parameters, planned)).backend
    whole = float(built.parameters["noise_multiplier"] * built.parameters["clip_l2"])
    if built.parameters["noise"] == "server":
        return whole
    # Every client in the sum put in its share, and so many shares make up the whole.
    shares = (built.parameters["survivors"] or 1) - (built.parameters["colluders"] or 0)
    return whole * math.sqrt(len(view.over) / shares)


def _pooled(victims: Sequence[Client]) -> Any:
    """BatchNorm statistics are known for a single client only: those of several are of other batches."""
    return victims[0].shared.statistics if len(victims) == 1 else None


def flat(tensors: Sequence[Tensor]) -> NDArray[np.float32]:
    """A gradient as one vector, in the order of the parameters."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).float().numpy()
