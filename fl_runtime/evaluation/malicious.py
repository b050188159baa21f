"""A server that chooses the model: images imprinted on sums, and one client's update out of a sum by two models.

With each goes what a client could have noticed, by `secagg.leakage.detection` on its own rows.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import nn

from fl_runtime.evaluation.catalogue import IMAGE_RANGES
from fl_runtime.evaluation.cells import Cell
from fl_runtime.evaluation.measured import Measured
from fl_runtime.evaluation.settings import PLAIN
from fl_runtime.evaluation.training import simulated_rng
from fl_runtime.evaluation.victims import dataset, flat, rounds
from fl_runtime.seeds import generator as numpy_generator
from secagg import registry
from secagg.errors import Aborted, Refused, did_you_mean
from secagg.leakage import Unsupported, observe
from secagg.leakage.detection import inspect
from secagg.leakage.malicious.imprint import ImprintBlock, cuts_of, expected_hit_rate, hits, recover_imprints
from secagg.leakage.malicious.inconsistency import isolated, with_dead_layer
from secagg.leakage.recording import record

OWN_ROWS = 64
ISOLATED = 0.01
"""An update is isolated if no coordinate is further off than this share of the largest."""


def imprint(cell: Cell, model: nn.Module) -> Measured:
    """An imprint block in front of the model, and what comes out of the updates that are seen (Fowl et al. 2022)."""
    bins = int(parameters_of(cell, bins=64)["bins"])
    data = dataset(cell.world.model_dump_json())
    low, high = IMAGE_RANGES[cell.world.data.dataset]
    front = ImprintBlock(data.shape, cuts_of(torch.from_numpy(data.test.features), bins))
    shown = nn.Sequential(front, model)
    found = Measured(success="hit", needs=["to choose the model", "public images"])
    for attacked in rounds(cell, shown):
        found.upload_bytes = attacked.upload_bytes
        for sight in attacked.sights:
            found.saw(sight.in_words)
            found.cohort = len(sight.view.over)
            weight, bias = sight.seen.gradient[0], sight.seen.gradient[1]
            candidates = recover_imprints(weight, bias, shape=data.shape)
            recovered = hits((candidates - low) / (high - low), (sight.images - low) / (high - low))
            for hit in recovered.tolist():
                found.share("hit", hit)
                found.mean("expected_hit", expected_hit_rate(bins, len(sight.images)))
        if not attacked.sights:
            found.kind = "nothing"
            found.saw("nothing")
            for _ in attacked.bystanders:
                found.share("hit", False)
    found.notes = [_noticed(shown, data.train.features)]
    return found


def inconsistency(cell: Cell, model: nn.Module) -> Measured:
    """All clients but one get a dead layer, so that the sum of its gradients is the one's (Pasquini et al. 2022).

    Under `plain` the sum is added up as it stands, bound to no model: what masks that know no model would open.
    """
    layer = str(parameters_of(cell, layer=_first_with_relu(model))["layer"])
    if not isinstance(model, nn.Sequential):
        raise Unsupported(f"model-inconsistency: {type(model).__name__} given, expected a sequence of layers")
    dead = with_dead_layer(model, layer)
    data = dataset(cell.world.model_dump_json())
    found = Measured(success="isolated", needs=["to show two models"], blind={"isolated": 0.0})
    count = cell.setting.clients
    chance = numpy_generator(cell.world.seed, "inconsistency", cell.repeat)
    for trial in range(cell.images):
        rows = data.train.take(chance.choice(len(data.train.labels), count * cell.setting.batch, replace=False))
        images, labels = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
        vectors = {}
        for place in range(count):
            own = slice(place * cell.setting.batch, (place + 1) * cell.setting.batch)
            shown = model if place == 0 else dead
            seen = observe(shown, images[own], labels[own], value_range=IMAGE_RANGES[cell.world.data.dataset])
            vectors[f"client-{place:03}"] = flat(seen.gradient)
        victim = next(iter(vectors))
        truth = isolated(vectors[victim].astype(np.float64), model, layer)
        total = _opened(cell, vectors, victim, trial, found)
        if total is None:
            found.share("isolated", False)
            continue
        error = np.abs(isolated(total, model, layer) - truth).max() / np.abs(truth).max()
        found.share("isolated", bool(error <= ISOLATED))
    found.notes.append(_noticed(dead, data.train.features))
    return found


def _opened(cell: Cell, vectors: dict[str, Any], victim: str, trial: int, found: Measured) -> Any:
    """The sum that the server ends with, float64, or None where none comes about."""
    if cell.backend.kind == PLAIN:
        found.saw("a sum that is bound to no model")
        return np.sum(list(vectors.values()), axis=0, dtype=np.float64)
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
            rng=simulated_rng(cell.world.seed, "inconsistency", cell.repeat, trial),
        )
    except Aborted as error:
        found.saw("no sum")
        _note(found, f"no sum came about: {error}")
        return None
    result = recording.outcome.result
    found.saw(f"a sum of {len(result.contributors)}")
    for name, reason in recording.outcome.dropped.items():
        _note(found, f"{'the victim' if name == victim else 'another client'} was left out: {reason}")
    return result.encoding.to_floats(result.totals)


def _note(found: Measured, text: str) -> None:
    if text not in found.notes:
        found.notes.append(text)


def _noticed(shown: nn.Module, features: Any) -> str:
    findings = inspect(shown, torch.from_numpy(features[:OWN_ROWS]))
    if not findings:
        return "a client that looks at the model notices nothing"
    return "a client that looks at the model notices: " + ", ".join(str(finding) for finding in findings)


def _first_with_relu(model: nn.Module) -> str:
    layers = list(model.named_children())
    for (name, layer), (_, behind) in itertools.pairwise(layers):
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None and isinstance(behind, nn.ReLU):
            return name
    names = ", ".join(f"{name}: {type(layer).__name__}" for name, layer in layers)
    raise Unsupported(f"model-inconsistency: no layer with biases before a ReLU (layers: {names})")


def parameters_of(cell: Cell, **known: Any) -> dict[str, Any]:
    """The attack's parameters over their defaults. Raises `Refused` for one that it lacks."""
    for name in cell.attack.parameters:
        if name not in known:
            raise Refused(f"attack {cell.attack.kind!r}: unknown parameter {name!r}{did_you_mean(name, known)}")
    return known | cell.attack.parameters
