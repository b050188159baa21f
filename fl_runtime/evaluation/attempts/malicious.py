"""A server that chooses the model: images imprinted on sums, and one client's update out of a sum by two models.

With each goes what a client could have noticed, by `secagg.leakage.detection` on its own rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl_runtime.evaluation.attempts.measured import Attempt, Measured
from fl_runtime.evaluation.attempts.training import simulated_rng
from fl_runtime.evaluation.attempts.victims import Client, draws, flat, honest_clients, rounds
from fl_runtime.evaluation.matrix.catalogue import build_attack
from fl_runtime.evaluation.matrix.cells import Cell
from fl_runtime.evaluation.matrix.settings import PLAIN
from fl_runtime.evaluation.matrix.world import dataset, value_range
from secagg import registry
from secagg.errors import Aborted, Refused
from secagg.leakage import Unsupported
from secagg.leakage.detection import inspect
from secagg.leakage.malicious.imprint import ImprintBlock, cuts_of, expected_hit_rate, hits, recover_imprints
from secagg.leakage.malicious.inconsistency import isolated, with_dead_layer
from secagg.leakage.recording import record

OWN_ROWS = 64
ISOLATED = 0.01
"""An update is isolated if no coordinate is further off than this share of the largest."""


def imprint(cell: Cell, model: nn.Module) -> Measured:
    """An imprint block in front of the model, and what comes out of the updates that are seen (Fowl et al. 2022)."""
    bins = build_attack(cell.attack.kind, cell.attack.parameters).bins
    data, (low, high) = dataset(cell.world), value_range(cell.world)
    shown = nn.Sequential(ImprintBlock(data.shape, cuts_of(torch.from_numpy(data.test.features), bins)), model)
    attempts = []
    for attacked in rounds(cell, shown):
        for sight in attacked.sights:
            weight, bias = sight.seen.gradient[0], sight.seen.gradient[1]
            candidates = recover_imprints(weight, bias, shape=data.shape)
            recovered = hits((candidates - low) / (high - low), (sight.images - low) / (high - low))
            attempts.append(
                Attempt(
                    sight.in_words,
                    cohort=len(sight.view.over),
                    means={"expected_hit": [expected_hit_rate(bins, len(sight.images))] * len(sight.images)},
                    shares={"hit": recovered.int().tolist()},
                )
            )
        if not attacked.sights:
            attempts.append(Attempt.nothing("hit", sum(len(client.labels) for client in attacked.bystanders)))
    return Measured.of(
        attempts,
        needs=["to choose the model", "public images"],
        notes=_noticed(shown, model, data.train.features),
        upload_bytes=attacked.upload_bytes,
    )


def inconsistency(cell: Cell, model: nn.Module) -> Measured:
    """All clients but one get a dead layer, so that the sum of its gradients is the one's (Pasquini et al. 2022).

    Naive masking, which knows no model, is simulated: the sum is added up as it stands.
    """
    if not isinstance(model, nn.Sequential):
        raise Unsupported(f"model-inconsistency: {type(model).__name__} given, expected a sequence of layers")
    layer = build_attack(cell.attack.kind, cell.attack.parameters).layer or _first_with_relu(model)
    dead = with_dead_layer(model, layer)
    attempts = []
    for number, rows in itertools.islice(draws(cell), cell.images):
        clients = honest_clients(cell, [model, *[dead] * (cell.setting.clients - 1)], rows, number=number)
        opened = _opened(cell, clients, number)
        hit = False
        if opened.total is not None:
            truth = isolated(flat(clients[0].shared.gradient).astype(np.float64), model, layer)
            error = np.abs(isolated(opened.total, model, layer) - truth).max() / np.abs(truth).max()
            hit = bool(error <= ISOLATED)
        attempts.append(
            Attempt(opened.sees, "measured", opened.cohort, {}, {"isolated": [int(hit)]}, notes=opened.notes)
        )
    noticed = _noticed(dead, model, dataset(cell.world).train.features)
    return Measured.of(attempts, needs=["to show two models"], notes=noticed)


@dataclass(frozen=True)
class _Opened:
    """The sum that the server ends with, or None where none comes about; what it is, of how many, and what happened."""

    total: NDArray[np.float64] | None
    sees: str
    cohort: int
    notes: tuple[str, ...] = ()


def _opened(cell: Cell, clients: Sequence[Client], number: int) -> _Opened:
    vectors, victim = {client.name: flat(client.shared.gradient) for client in clients}, clients[0].name
    if cell.backend.kind == PLAIN:
        total = np.stack(list(vectors.values())).sum(axis=0, dtype=np.float64)
        return _Opened(total, f"a sum of {len(clients)} that is bound to no model", len(clients))
    if cell.backend.kind not in ("secaggplus", "smpc"):
        raise Refused(
            f"model-inconsistency: under {cell.backend.kind!r} the server itself adds what clients send, and can add "
            "what belongs to two models; this evaluation does not run such a server"
        )
    try:
        recording = record(
            cell.backend.kind,
            vectors,
            parameters=registry.for_rounds(cell.backend.kind, cell.backend.parameters, cell.world.rounds),
            shown={victim: b"the true model, where all others have one with a dead layer"},
            rng=simulated_rng(cell.world.seed, "inconsistency", cell.repeat, number),
        )
    except Aborted as error:
        return _Opened(None, "no sum", 0, (f"no sum came about: {error}",))
    result, dropped = recording.outcome.result, recording.outcome.dropped
    notes = (
        f"{'the victim' if name == victim else 'another client'} was left out: {why}" for name, why in dropped.items()
    )
    count = len(result.contributors)
    return _Opened(result.encoding.to_floats(result.totals), f"a sum of {count}", count, tuple(notes))


def _noticed(shown: nn.Module, honest: nn.Module, features: NDArray[np.float32]) -> list[str]:
    """What a client that looks at the model notices, and whether it would have raised a false alarm."""
    own = torch.from_numpy(features[:OWN_ROWS])
    found, false = ([str(finding) for finding in inspect(model, own)] for model in (shown, honest))
    noticed = f": {', '.join(found)}" if found else " nothing"
    return [
        f"a client that looks at the model notices{noticed}",
        f"on the honest model it raises a false alarm: {', '.join(false)}"
        if false
        else "and on the honest one nothing",
    ]


def _first_with_relu(model: nn.Module) -> str:
    layers = list(model.named_children())
    for (name, layer), (_, behind) in itertools.pairwise(layers):
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None and isinstance(behind, nn.ReLU):
            return name
    names = ", ".join(f"{name}: {type(layer).__name__}" for name, layer in layers)
    raise Unsupported(f"model-inconsistency: no layer with biases before a ReLU (layers: {names})")
