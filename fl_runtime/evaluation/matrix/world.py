"""What a training run of an evaluation depends on. Its images are read once in each process, and known by a digest."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fl_runtime.algorithms import AnyAlgorithm
from fl_runtime.data.catalogue import load
from fl_runtime.data.dataset import Dataset
from fl_runtime.experiment import Data
from fl_runtime.models import AnyModel
from fl_runtime.section import Section
from fl_runtime.training import Training
from secagg.errors import Refused

IMAGE_RANGES: dict[str, tuple[float, float]] = {
    "blood_cells": (0.0, 1.0),
    "digits": (0.0, 1.0),
    "medmnist": (-1.0, 1.0),
}
"""Data sets of images, with the smallest and the largest value that a pixel can have."""


class World(Section):
    """What a training run depends on. `data_path` is where the data is read, `data_digest` SHA-256 of what was read."""

    data: Data
    data_path: str | None
    data_digest: str
    model: AnyModel
    algorithm: AnyAlgorithm
    training: Training
    rounds: int
    audit_canaries: int | None
    utility: str
    seed: int


class Changed(Refused):
    """The data is not what the evaluation was planned with. Never a result."""


def dataset(world: World) -> Dataset:
    """The data of a world. Raises `Changed` where it is no longer what the world was planned with."""
    named = world.data.dataset, world.data_path, world.data.limit, world.seed
    if digest(*named) != world.data_digest:
        raise Changed(f"data.path: {world.data_path} changed while the evaluation ran; start it again")
    return _read(*named)


def value_range(world: World) -> tuple[float, float]:
    """The smallest and the largest value that a pixel of the world's data can have."""
    return IMAGE_RANGES[world.data.dataset]


@cache
def digest(name: str, path: str | None, limit: int | None, seed: int) -> str:
    """SHA-256 (hex) of a data set's arrays. Raises `Refused` where it cannot be read."""
    data, mark = _read(name, path, limit, seed), hashlib.sha256()
    for rows in (data.train, data.test):
        for array in (rows.features, rows.labels):
            mark.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return mark.hexdigest()


@cache
def _read(name: str, path: str | None, limit: int | None, seed: int) -> Dataset:
    return load(name, None if path is None else Path(path), limit=limit, seed=seed)
