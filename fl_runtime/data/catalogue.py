"""The data sets by name, and what a setting may ask of them, known without loading any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fl_runtime.data import blood_cells, breast_cancer, digits, heart_disease, medmnist
from fl_runtime.data.dataset import Dataset
from secagg.errors import Refused, did_you_mean


@dataclass(frozen=True)
class Source:
    """`needs_path`: read from a file or folder; `sites`: its natural clients; `takes_limit`: can be thinned."""

    needs_path: bool = False
    sites: tuple[str, ...] = ()
    takes_limit: bool = False


SOURCES: Mapping[str, Source] = {
    "blood_cells": Source(needs_path=True, takes_limit=True),
    "breast_cancer": Source(),
    "digits": Source(),
    "heart_disease": Source(needs_path=True, sites=heart_disease.HOSPITALS),
    "medmnist": Source(needs_path=True, takes_limit=True),
}


def load(name: str, path: Path | None = None, *, limit: int | None = None, seed: int = 0) -> Dataset:
    """The data set `name`. Raises `Refused` for an unknown name, a path or limit it lacks or does not take."""
    source = SOURCES.get(name)
    if source is None:
        raise Refused(f"data.dataset: unknown data set {name!r}{did_you_mean(name, SOURCES)}")
    if (path is not None) != source.needs_path:
        raise Refused(f"data.path: data set {name!r} {'needs a path' if source.needs_path else 'takes no path'}")
    if limit is not None and not source.takes_limit:
        raise Refused(f"data.limit: data set {name!r} takes no limit")
    if path is None:
        return digits.load() if name == "digits" else breast_cancer.load()
    if name == "heart_disease":
        return heart_disease.load(path)
    if name == "blood_cells":
        return blood_cells.load(path, limit=limit, seed=seed)
    return medmnist.load(path, limit=limit, seed=seed)
