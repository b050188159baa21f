"""`blood_cells`: patches of blood-smear photographs (BCCD: red cells, white cells, platelets), by their folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_runtime.data.dataset import Dataset, Rows
from fl_runtime.seeds import generator
from secagg.errors import Refused

CELLS = ("RBC", "WBC", "Platelets")
SIDE = 32
COLUMNS = ("filename", "cell_type", "xmin", "xmax", "ymin", "ymax")
TEST_FRACTION = 0.2
SPLIT_SEED = 42


def load(path: Path, *, limit: int | None = None, seed: int = 0) -> Dataset:
    """Training and test rows; features `(3, 32, 32)` in [0, 1]: the square around each cell's box, in colour.

    A fifth of the photographs is for testing, so that no photograph is in both parts. Of red cells, which are ten times
    as many, only as many as there are white ones are kept.

    Args:
        path: a folder with `test.csv` (all boxes, whatever its name) and `BCCD/JPEGImages`.
        limit: keep at most so many training rows, drawn uniformly by `seed`. The test rows are always whole.

    Raises:
        Refused: a file that is missing or malformed (it is named), or Pillow is not installed.
    """
    boxes = _boxes(path)
    names = sorted({str(box["filename"]) for box in boxes})
    held_out = set(generator(SPLIT_SEED, "blood_cells").permutation(names)[: int(TEST_FRACTION * len(names))])
    train = [box for box in boxes if box["filename"] not in held_out]
    test = [box for box in boxes if box["filename"] in held_out]
    if limit is not None and limit < len(train):
        kept = np.sort(generator(seed, "blood_cells").choice(len(train), size=limit, replace=False))
        train = [train[place] for place in kept]
    folder = path / "BCCD" / "JPEGImages"
    return Dataset("blood_cells", CELLS, _patches(folder, train), _patches(folder, test))


def _boxes(path: Path) -> list[dict[str, str]]:
    file = path / "test.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            boxes = list(csv.DictReader(lines))
    except OSError as error:
        raise Refused(f"blood_cells: cannot read {file}: {error.strerror}") from None
    if not boxes or any(column not in boxes[0] for column in COLUMNS):
        raise Refused(f"blood_cells: {file}: expected the columns {', '.join(COLUMNS)}")
    known = [box for box in boxes if box["cell_type"] in CELLS]
    red = [place for place, box in enumerate(known) if box["cell_type"] == CELLS[0]]
    white = sum(box["cell_type"] == CELLS[1] for box in known)
    if len(red) > white:
        order = generator(SPLIT_SEED, "red cells").permutation(red)
        left_out = set(order[white:].tolist())
        known = [box for place, box in enumerate(known) if place not in left_out]
    return known


def _patches(folder: Path, boxes: Sequence[dict[str, str]]) -> Rows:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise Refused("blood_cells: needs Pillow, pip install 'secagg[report]'") from None
    by_file: dict[str, list[int]] = {}
    for place, box in enumerate(boxes):
        by_file.setdefault(box["filename"], []).append(place)
    features: NDArray[np.float32] = np.zeros((len(boxes), 3, SIDE, SIDE), np.float32)
    for name, places in by_file.items():
        try:
            with Image.open(folder / name) as opened:
                photograph = opened.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise Refused(f"blood_cells: cannot read {folder / name}: {error}") from None
        for place in places:
            patch = photograph.resize((SIDE, SIDE), box=_square(boxes[place], photograph.size, folder / name))
            features[place] = np.asarray(patch, np.float32).transpose(2, 0, 1) / 255
    labels = np.array([CELLS.index(box["cell_type"]) for box in boxes], np.int64)
    return Rows(features, labels)


def _square(box: dict[str, str], size: tuple[int, int], path: Path) -> tuple[float, float, float, float]:
    """The square around a box, moved into the photograph."""
    try:
        x0, x1, y0, y1 = (int(box[edge]) for edge in ("xmin", "xmax", "ymin", "ymax"))
    except ValueError:
        raise Refused(f"blood_cells: {path}: a box with edges that are no numbers") from None
    half = min(max(x1 - x0, y1 - y0, SIDE), *size) / 2
    x = min(max((x0 + x1) / 2, half), size[0] - half)
    y = min(max((y0 + y1) / 2, half), size[1] - half)
    return x - half, y - half, x + half, y + half
