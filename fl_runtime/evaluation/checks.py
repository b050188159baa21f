"""What is refused before anything is computed: parts that cannot be built, and settings that fit no such part."""

from __future__ import annotations

from functools import cache

from fl_runtime.evaluation.matrix.catalogue import build_defence, check_attack
from fl_runtime.evaluation.matrix.cells import Cell, Part
from fl_runtime.evaluation.matrix.settings import Adversary
from fl_runtime.evaluation.matrix.world import World, dataset
from secagg import registry
from secagg.errors import Refused


def check(row: Cell) -> None:
    """Raise `Refused`, naming the key of the evaluation file, unless the row can be run as far as can be told."""
    check_attack(row.attack.kind, row.attack.parameters, row.search)
    build_defence(row.defence.kind, row.defence.parameters)
    parameters = registry.for_rounds(row.backend.kind, row.backend.parameters, row.world.rounds)
    helpers = registry.build(row.backend.kind, parameters).backend.helpers()
    if "adversary" in row.axes:
        check_adversary(row.setting.adversary, len(helpers), backend=row.backend.label)
    _check_rows(row)
    if "statistics" in row.axes:
        check_statistics(row, norms=_norms(row.world, row.defence))


def check_adversary(adversary: Adversary, helpers: int, *, backend: str) -> None:
    """Raise `Refused` for a coalition with helpers that the backend does not have."""
    needed = 2 if "but one" in adversary.partition(" and ")[2] and "helpers" in adversary else 1
    if "helper" in adversary and helpers < needed:
        raise Refused(f"matrix.adversary: {adversary!r}: backend {backend!r} has {helpers} helpers")


def check_statistics(cell: Cell, *, norms: int) -> None:
    """Raise `Refused` unless `statistics` fits a model with so many BatchNorm layers."""
    if bool(norms) != (cell.setting.statistics != "none"):
        raise Refused(
            f"matrix.statistics: {cell.setting.statistics!r}, and model {cell.setting.model!r} has {norms} BatchNorm "
            "layers; 'none' is for models without"
        )


def _check_rows(row: Cell) -> None:
    data, axes = dataset(row.world), row.axes
    if row.family == "inversion" and row.gallery > len(data.test):
        raise Refused(f"evaluation.gallery: {row.gallery} images, the data has {len(data.test)} public ones")
    if "batch" in axes:
        need, there = row.setting.clients * row.setting.batch, len(data.test if row.search else data.train)
        if need > min(there, len(data.train)):
            raise Refused(
                f"matrix: {row.setting.clients} clients of {row.setting.batch} images, the data has {there} "
                f"{'public ones to search on' if row.search else 'training rows'}"
            )


@cache
def _norms_of(model: str, defence: str) -> int:
    from torch import nn

    from fl_runtime.evaluation.attempts.training import attacked_model

    world, part = World.model_validate_json(model), Part.model_validate_json(defence)
    data = dataset(world)
    module = attacked_model(world, part, repeat=0, shape=data.shape, classes=len(data.classes))
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def _norms(world: World, defence: Part) -> int:
    """How many BatchNorm layers the attacked model has."""
    return _norms_of(world.model_dump_json(), defence.model_dump_json())
