"""Real images for the leakage benchmarks, as floats in [0, 1] with their labels, drawn by seed.

`cells` and `chests` read the folder named by SECAGG_DATA; `digits` come with scikit-learn.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = ("RBC", "WBC", "Platelets")


def cells(count: int, *, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Blood cells in colour, `(count, 3, side, side)`: the square around each box, of three classes in turn."""
    from PIL import Image

    folder = _data() / "bccd"
    with (folder / "test.csv").open(newline="") as lines:
        boxes = list(csv.DictReader(lines))
    chance = np.random.default_rng(seed)
    images, labels = [], []
    for number in range(count):
        label = number % len(CELLS)
        rows = [row for row in boxes if row["cell_type"] == CELLS[label]]
        row = rows[chance.integers(len(rows))]
        x0, x1, y0, y1 = (int(row[edge]) for edge in ("xmin", "xmax", "ymin", "ymax"))
        half = max(x1 - x0, y1 - y0, side) / 2
        with Image.open(folder / "BCCD" / "JPEGImages" / row["filename"]) as photograph:
            x = min(max((x0 + x1) / 2, half), photograph.width - half)
            y = min(max((y0 + y1) / 2, half), photograph.height - half)
            patch = photograph.convert("RGB").resize((side, side), box=(x - half, y - half, x + half, y + half))
        images.append(np.asarray(patch, np.float32).transpose(2, 0, 1) / 255)
        labels.append(label)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def chests(count: int, *, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Chest X-rays in grey, `(count, 1, side, side)`, normal or pneumonia."""
    with np.load(_data() / "pneumoniamnist" / "pneumoniamnist_subset.npz", allow_pickle=False) as archive:
        images, labels = archive["train_images"], archive["train_labels"].reshape(-1)
    return _drawn(images[:, None] / np.float32(255), labels, count, side, seed)


def digits(count: int, *, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Handwritten digits in grey, `(count, 1, side, side)`, ten classes."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    return _drawn(raw.images[:, None].astype(np.float32) / 16, raw.target, count, side, seed)


def _drawn(images: np.ndarray, labels: np.ndarray, count: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    chosen = np.random.default_rng(seed).choice(len(images), count, replace=False)
    picked = torch.from_numpy(images[chosen].astype(np.float32))
    if picked.shape[2] != side:
        picked = F.interpolate(picked, size=(side, side), mode="bilinear", align_corners=False)
    return picked.clamp(0, 1), torch.from_numpy(labels[chosen].astype(np.int64))


def _data() -> Path:
    folder = os.environ.get("SECAGG_DATA")
    if not folder:
        sys.exit("set SECAGG_DATA to the folder of the data sets: these images are not shipped")
    return Path(folder)
