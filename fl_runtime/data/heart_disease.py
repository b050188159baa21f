"""`heart_disease`: four hospitals' own files (Janosi, Steinbrunn, Pfisterer & Detrano 1988, UCI), by path.

Preprocessing is FLamby's (Ogier du Terrail et al. 2022): drop columns 10-12 (slope, ca, thal), then rows with a
missing value; one-hot chest pain and resting ECG, first category dropped; any disease is class 1; split 0.66 a
hospital, stratified where both classes have more than two rows (Switzerland has one healthy patient left), random
state 43. Features are then standardised per hospital on its own training rows.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_runtime.data.dataset import Dataset, Rows, Sites
from secagg.errors import Refused

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
COLUMNS = 14
DROPPED = (10, 11, 12)
CATEGORICAL = (2, 6)
TRAIN_FRACTION = 0.66
SPLIT_SEED = 43


def load(path: Path) -> Dataset:
    """Read `processed.<hospital>.data` of the four hospitals in the folder `path`: features `(13,)`, two classes.

    The categories are those of all hospitals together, so that every site has the same columns. A column that
    is constant at a hospital (Switzerland's cholesterol) is centred and not scaled. Raises `Refused` for a
    missing or malformed file.
    """
    from sklearn.model_selection import train_test_split

    tables = [_read(path / f"processed.{hospital}.data") for hospital in HOSPITALS]
    categories = {column: np.unique(np.concatenate([t[:, column] for t in tables]))[1:] for column in CATEGORICAL}
    train: list[Rows] = []
    test: list[Rows] = []
    for table in tables:
        labels = (table[:, -1] > 0).astype(np.int64)
        counts = np.bincount(labels, minlength=2)
        chosen, held_out = train_test_split(
            np.arange(len(table)),
            train_size=TRAIN_FRACTION,
            test_size=1 - TRAIN_FRACTION,
            stratify=labels if counts.min() > 2 else None,
            random_state=SPLIT_SEED,
        )
        features = _one_hot(table[:, :-1], categories)
        deviation = features[chosen].std(axis=0)
        scaled = (features - features[chosen].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
        rows = Rows(scaled.astype(np.float32), labels)
        train.append(rows.take(np.sort(chosen)))
        test.append(rows.take(np.sort(held_out)))
    sites = Sites(HOSPITALS, _numbers(train), _numbers(test))
    return Dataset("heart_disease", ("healthy", "disease"), _stack(train), _stack(test), sites)


def _read(path: Path) -> NDArray[np.float64]:
    """The complete rows of one hospital, float64 of shape `(rows, 11)`: ten columns and the diagnosis."""
    try:
        with path.open(newline="", encoding="ascii") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"heart_disease: cannot read {path}: {_reason(error)}") from None
    kept = [column for column in range(COLUMNS) if column not in DROPPED]
    complete = []
    for number, line in enumerate(lines, start=1):
        if len(line) != COLUMNS:
            raise Refused(f"heart_disease: {path}: row {number} has {len(line)} columns, expected {COLUMNS}")
        values = [line[column].strip() for column in kept]
        if "?" in values:
            continue
        try:
            complete.append([float(value) for value in values])
        except ValueError as error:
            raise Refused(f"heart_disease: {path}: row {number}: {error}") from None
    if not complete:
        raise Refused(f"heart_disease: {path}: no complete row")
    return np.asarray(complete)


def _one_hot(table: NDArray[np.float64], categories: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    plain = [column for column in range(table.shape[1]) if column not in categories]
    dummies = [table[:, [column]] == values for column, values in categories.items()]
    return np.hstack([table[:, plain], *dummies]).astype(np.float64)


def _stack(parts: list[Rows]) -> Rows:
    return Rows(np.concatenate([p.features for p in parts]), np.concatenate([p.labels for p in parts]))


def _numbers(parts: list[Rows]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts])


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else str(error)
