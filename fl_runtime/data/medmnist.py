"""`medmnist`: any single-label 2D archive of MedMNIST (Yang et al. 2023) as its `.npz` file, by path."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_runtime.data.dataset import Dataset, Rows
from fl_runtime.seeds import generator
from secagg.errors import Refused

ARRAYS = tuple(f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels"))


def load(path: Path, *, limit: int | None = None, seed: int = 0) -> Dataset:
    """Training and test rows; features `(channels, height, width)` in [-1, 1]. The val split is left alone.

    Args:
        path: an archive with uint8 images `(n, h, w)` or `(n, h, w, 3)` and labels `(n, 1)` or `(n,)`.
        limit: keep at most so many training rows, drawn uniformly by `seed`. The test rows are always whole.

    Raises:
        Refused: a missing file, not such an archive, a missing or malformed array, several labels a row.
    """
    arrays = _arrays(path)
    train, test = (_rows(arrays, split, path) for split in ("train", "test"))
    if train.features.shape[1:] != test.features.shape[1:]:
        raise Refused(f"medmnist: {path}: training and test images differ in shape")
    if limit is not None and limit < len(train):
        train = train.take(np.sort(generator(seed, "medmnist").choice(len(train), size=limit, replace=False)))
    top = max(int(rows.labels.max()) for rows in (train, test))
    classes = tuple(str(label) for label in range(max(top + 1, 2)))
    return Dataset("medmnist", classes, train, test)


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise Refused(f"medmnist: cannot read {path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ARRAYS if name not in archive]
            if missing:
                raise Refused(f"medmnist: {path}: array {missing[0]!r} is missing")
            return {name: archive[name] for name in ARRAYS}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise Refused(f"medmnist: {path} is not an .npz archive of plain arrays") from None


def _rows(arrays: dict[str, NDArray[np.generic]], split: str, path: Path) -> Rows:
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise Refused(
            f"medmnist: {path}: {split}_images is {images.dtype}{list(images.shape)}, expected uint8 2D images"
        )
    if not 0 < labels.size == len(images) or labels.dtype.kind not in "ui":
        raise Refused(
            f"medmnist: {path}: {split}_labels is {labels.dtype}{list(labels.shape)}, expected one label a row"
        )
    first = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    features = np.ascontiguousarray(first).astype(np.float32) / np.float32(127.5) - np.float32(1)
    return Rows(features, labels.reshape(-1).astype(np.int64))
