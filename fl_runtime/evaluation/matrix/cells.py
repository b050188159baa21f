"""The matrix as jobs: every combination once, with all that its result depends on, and beside each its control.

A cell is one row of the report in one repeat. Its settings are complete: two cells with equal settings are the same
cell, whatever else stands in the evaluation file, and that is what the cache goes by.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fl_runtime.evaluation.matrix.catalogue import ATTACKS
from fl_runtime.evaluation.matrix.families import BLIND_TO, FAMILIES, Family, Traits
from fl_runtime.evaluation.matrix.settings import NONE, PLAIN, Adversary, Evaluation, Labels, Matrix, Stage, Statistics
from fl_runtime.evaluation.matrix.world import World, digest
from fl_runtime.section import Section
from secagg.errors import Refused

AXES = ("model", "stage", "batch", "local_epochs", "local_batch", "clients", "labels", "statistics", "adversary",
        "adaptive")  # fmt: skip


class Part(Section):
    """A backend, defence or attack: what the report calls it, what it is, and its parameters."""

    label: str
    kind: str
    parameters: dict[str, Any] = Field(default_factory=dict)


PLAIN_BACKEND = Part(label=PLAIN, kind=PLAIN)
NAIVE = Part(label="naive masking, simulated", kind=PLAIN)


class Setting(Section):
    """The axes of one row, beside backend, defence and attack; see `settings.Matrix`."""

    model: str
    stage: Stage = "untrained"
    batch: int = 1
    local_epochs: int = 1
    local_batch: int = 0
    clients: int = 3
    labels: Labels = "known"
    statistics: Statistics = "none"
    adversary: Adversary = "server"
    adaptive: bool = True


class Weights(Section):
    """Files with the weights of LPIPS, and SHA-256 (hex) of what is in them, one after the other."""

    paths: tuple[str, ...]
    digest: str


class TrainingJob(Section):
    """One federated training under a backend and a defence."""

    world: World
    backend: Part
    defence: Part
    repeat: int


class Cell(Section):
    """One attack on one setting in one repeat."""

    world: World
    backend: Part
    defence: Part
    attack: Part
    search: dict[str, list[float | int | str]]
    setting: Setting
    images: int
    gallery: int
    good_db: float
    lpips: Weights | None
    repeat: int

    @property
    def family(self) -> Family:
        """What the attack recovers."""
        return ATTACKS[self.attack.kind].family

    @property
    def traits(self) -> Traits:
        """What holds for the attack's family."""
        return FAMILIES[self.family]

    @property
    def axes(self) -> dict[str, Any]:
        """The setting as plain values, without the axes on which the attack does not depend."""
        ignored = {*self.traits.ignored, *BLIND_TO.get(self.attack.kind, ())}
        return self.setting.model_dump(mode="json", exclude=ignored)

    def row(self) -> Cell:
        """The cell that stands for all repeats of this one."""
        return self.model_copy(update={"repeat": 0})

    def training(self) -> TrainingJob:
        """The training whose utility is stated beside the leakage."""
        backend = PLAIN_BACKEND if self.backend == NAIVE else self.backend
        return TrainingJob(world=self.world, backend=backend, defence=self.defence, repeat=self.repeat)

    def control(self) -> Cell:
        """The same attack by the server on single updates without any protection or defence."""
        bare = {"adversary": "server", "clients": 3, "adaptive": True} | self.traits.fixed
        setting = self.setting.model_copy(update=bare)
        return self.model_copy(
            update={
                "backend": _backend_of(self.family, PLAIN_BACKEND),
                "defence": Part(label=NONE, kind=NONE),
                "setting": setting,
            }
        )


def expand(evaluation: Evaluation) -> list[Cell]:
    """Every row of the evaluation once, in the order of the file, its controls among them; `repeat` is 0."""
    rows: dict[str, Cell] = {}
    for matrix in evaluation.matrix:
        for row in _rows(evaluation, matrix):
            rows.setdefault(key(row.control()), row.control())
            rows.setdefault(key(row), row)
    return list(rows.values())


def key(job: Section) -> str:
    """Equal for equal jobs only."""
    return job.model_dump_json()


def repeats(row: Cell, evaluation: Evaluation) -> list[Cell]:
    """The cells behind a row."""
    return [row.model_copy(update={"repeat": number}) for number in range(evaluation.evaluation.repeats)]


def _rows(evaluation: Evaluation, matrix: Matrix) -> Iterator[Cell]:
    terms = evaluation.evaluation
    models = matrix.model or [next(iter(evaluation.models))]
    lpips = _weights(evaluation.lpips_paths)
    axes = [models if axis == "model" else getattr(matrix, axis) for axis in AXES]
    for backend, defence, attack, *values in itertools.product(matrix.backend, matrix.defence, matrix.attack, *axes):
        family = ATTACKS[evaluation.attack_kind(attack)].family
        setting = Setting(**dict(zip(AXES, values, strict=True)) | FAMILIES[family].fixed)
        part = _backend_of(family, _backend(evaluation, backend))
        if defence == NONE and "dp" not in part.kind:
            setting = setting.model_copy(update={"adaptive": True})  # there is nothing to be unaware of
        chosen = evaluation.attacks.get(attack)
        yield Cell(
            world=_world(evaluation, setting.model),
            backend=part,
            defence=_part(evaluation.defences, defence),
            attack=_part(evaluation.attacks, attack),
            search=chosen.search if chosen else {},
            setting=setting,
            images=terms.images,
            gallery=terms.gallery,
            good_db=terms.good_db,
            lpips=lpips,
            repeat=0,
        )


def _weights(paths: Sequence[Path]) -> Weights | None:
    if not paths:
        return None
    try:
        content = b"".join(path.read_bytes() for path in paths)
    except OSError as error:
        raise Refused(f"evaluation.lpips: {error.filename}: {error.strerror}") from None
    return Weights(paths=tuple(map(str, paths)), digest=hashlib.sha256(content).hexdigest())


def _world(evaluation: Evaluation, model: str) -> World:
    data, path = evaluation.data, None if evaluation.data_path is None else str(evaluation.data_path)
    return World(
        data=data,
        data_path=path,
        data_digest=digest(data.dataset, path, data.limit, evaluation.evaluation.seed),
        model=evaluation.models[model],
        algorithm=evaluation.algorithm,
        training=evaluation.training,
        rounds=evaluation.evaluation.rounds,
        audit_canaries=evaluation.evaluation.audit_canaries,
        utility=evaluation.evaluation.utility,
        seed=evaluation.evaluation.seed,
    )


def _backend_of(family: Family, backend: Part) -> Part:
    """Under `plain` no sum is formed by masks: where one is needed, it is simulated, and called so."""
    return NAIVE if family == "inconsistency" and backend.kind == PLAIN else backend


def _backend(evaluation: Evaluation, label: str) -> Part:
    choice = evaluation.backends.get(label)
    if choice is None:
        return Part(label=label, kind=label)
    return Part(label=label, kind=choice.backend or label, parameters=choice.parameters)


def _part(described: Any, label: str) -> Part:
    choice = described.get(label)
    if choice is None:
        return Part(label=label, kind=label)
    return Part(label=label, kind=choice.kind or label, parameters=choice.parameters)


class SeesJob(Section):
    """What each party and each coalition reads under a backend, with so many clients."""

    backend: Part
    rounds: int
    clients: int = 4
    seed: int
